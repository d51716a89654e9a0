"""Scores of encoders over their seeds, and their ranks, which tie where a paired bootstrap tells no difference.

Several seeds make one score: its value is their mean, its interval the percentiles of the resamples of all seeds
pooled, so that it spans the draw of models and of seeds alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from zoo_bench.scores import metrics

Absent = Literal["", "failed", "undefined", "not predicted"]


@dataclass(frozen=True)
class Pooled:
    """A score over seeds."""

    value: float
    low: float
    high: float
    resampled: np.ndarray  # float64 (seed, resample)
    ceiling: float | None
    by: Literal[
        "probe", "encoder", "recipe", "mean", "both"
    ]  # both: with some seeds the encoder predicted, with others a probe
    left_out: int


@dataclass(frozen=True)
class CellScore:
    """One encoder's score in one row; all None where there is none."""

    value: float | None = None  # mean over seeds
    low: float | None = None
    high: float | None = None
    is_best: bool = False
    ties_with_best: bool = False  # a paired bootstrap tells no difference from the best
    p: float | None = None  # of the difference from the best
    rank: int | None = None  # 1 + how many encoders are better by more than chance
    ceiling: float | None = None
    by: Literal["probe", "encoder", "recipe", "mean", "both"] | None = None  # who predicted
    left_out: int = 0  # test rows whose truth is missing
    absent: Absent = ""  # why there is no score
    beats_floor: bool = True  # better by more than chance than what can be told without a weight


def compared(
    cells: Sequence[Pooled | Absent], metric: str, *, ranks: bool, floors: Sequence[Sequence[Pooled]] = ()
) -> tuple[CellScore, ...]:
    """Compare the scores of all encoders in one row.

    A rank is 1 + the number of encoders that are better, their paired bootstrap interval being above 0. In a row that
    ranks, whoever has no score comes after all who have one.

    Args:
        cells: a score an encoder, or why there is none.
        metric: which is compared.
        ranks: whether the row counts for the mean rank.
        floors: of each encoder, scores that need no weight, of the same models and seeds; none if not given.
    """
    scored = [cell for cell in cells if isinstance(cell, Pooled)]
    best = max(scored, key=lambda cell: _goodness(cell, metric), default=None)
    last = 1 + len(scored) if ranks else None
    scores = []
    for cell, below in zip(cells, floors or [()] * len(cells), strict=True):
        if not isinstance(cell, Pooled) or best is None:
            scores.append(CellScore(rank=last, absent=cell if isinstance(cell, str) else "undefined"))
            continue
        is_best = cell.value == best.value
        scores.append(
            CellScore(
                value=cell.value,
                low=cell.low,
                high=cell.high,
                is_best=is_best,
                ties_with_best=not is_best and not _is_better(best, cell, metric),
                p=None if is_best else metrics.difference(best.resampled, cell.resampled).p,
                rank=1 + sum(_is_better(other, cell, metric) for other in scored if other is not cell),
                ceiling=cell.ceiling,
                by=cell.by,
                left_out=cell.left_out,
                beats_floor=all(_is_better(cell, floor, metric) for floor in below),
            )
        )
    return tuple(scores)


def _goodness(cell: Pooled, metric: str) -> float:
    """Return what is higher the better a score is."""
    return -cell.value if metric in metrics.LOWER_IS_BETTER else cell.value


def _is_better(one: Pooled, other: Pooled, metric: str) -> bool:
    """Say whether one is better than the other by more than the draw of models and seeds explains."""
    sign = -1 if metric in metrics.LOWER_IS_BETTER else 1
    return metrics.difference(sign * one.resampled, sign * other.resampled).low > 0
