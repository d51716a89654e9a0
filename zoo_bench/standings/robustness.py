"""Robustness: what scores lose on networks that compute the same function, from results of that protocol.

The resamples drew the same models for both tests, so a difference is paired, and its interval is that of a drop.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo_bench.protocol.equivalents import AS_TRAINED, CHANGES, baseline
from zoo_bench.results import CellResult, Score
from zoo_bench.scores import metrics
from zoo_bench.standings.boards import Loaded


@dataclass(frozen=True)
class Drop:
    """What one encoder's ranking score loses under one change; means over seeds. An error that grows is a loss too."""

    benchmark: str
    zoo: str
    encoder: str
    target: str
    metric: str
    condition: str
    before: float  # the score on the same models as trained
    after: float
    drop: float
    low: float  # the 95 % interval over models and seeds
    high: float


def drops(loaded: Sequence[Loaded]) -> list[Drop]:
    """Return the drops of all results of the robustness protocol, by benchmark, zoo, change and encoder."""
    groups: dict[tuple[str, str, str, str, str, str], list[tuple[float, float, np.ndarray]]] = {}
    for one in loaded:
        if one.result.protocol != "robustness":
            continue
        cells = {(cell.test.zoo, cell.condition): cell for cell in one.result.cells}
        for (zoo, condition), cell in cells.items():
            if condition not in CHANGES:
                continue
            trained = cells.get((zoo, baseline(condition))) or cells.get((zoo, AS_TRAINED))
            for score in cell.scores if trained else ():
                if score.ranks and trained and (pair := _pair(one, trained, cell, score)):
                    key = (one.result.benchmark, zoo, score.target, score.metric, condition, one.result.encoder)
                    groups.setdefault(key, []).append(pair)
    losses = []
    for (benchmark, zoo, target, metric, condition, encoder), pairs in groups.items():
        before, after = (float(np.mean([pair[place] for pair in pairs])) for place in (0, 1))
        sign = -1 if metric in metrics.LOWER_IS_BETTER else 1
        differences = np.concatenate([sign * pair[2] for pair in pairs])
        estimate = metrics.summary(sign * (before - after), differences)
        numbers = before, after, estimate.value, estimate.low, estimate.high
        losses.append(Drop(benchmark, zoo, encoder, target, metric, condition, *numbers))
    order = list(CHANGES)
    return sorted(losses, key=lambda d: (d.benchmark, d.zoo, d.target, order.index(d.condition), d.encoder))


def _pair(one: Loaded, trained: CellResult, cell: CellResult, score: Score) -> tuple[float, float, np.ndarray] | None:
    """Return a score as trained and changed, and the differences of their resamples; None where one is undefined."""
    key = (score.target, score.metric, score.by)
    before = next((each.value for each in trained.scores if (each.target, each.metric, each.by) == key), None)
    if before is None or score.value is None:
        return None
    return before, score.value, one.resamples[trained.name, *key] - one.resamples[cell.name, *key]
