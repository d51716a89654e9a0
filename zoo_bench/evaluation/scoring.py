"""Scores of predictions: all metrics of all targets of one cell, from the predictions alone.

Scoring knows neither zoo nor encoder, so that `zoo-bench validate` computes every score anew from the stored file by
the very function that made it.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from zoo_bench.results import Score
from zoo_bench.results.records import Resampled, TargetPrediction
from zoo_bench.scores import metrics
from zoo_bench.scores.metrics import Estimate

CLASSES = "test_class_f1"
NUMBERS = ("r2", "kendall_tau", "spearman", "mae", "mse")
NAMES = ("accuracy", "macro_f1")
ABOVE_CHANCE = "kendall_tau_above_chance"


@dataclass(frozen=True)
class Scored:
    """A score and the metric's value on every resample."""

    score: Score
    resampled: Resampled


def score_cell(predictions: Sequence[TargetPrediction], *, rank_by: str, chance: float) -> list[Scored]:
    """Score the predictions of one cell.

    Targets `test_class_f1_N` are scored one by one and, as the mean over classes, together: only the mean counts for
    the rank, or ten classes would outvote all else.

    Args:
        predictions: a target each.
        rank_by: the metric of a number that counts for the rank; of a name it is the accuracy.
        chance: the accuracy of guessing.
    """
    found: list[Scored] = []
    classes: dict[str, list[tuple[TargetPrediction, Estimate]]] = defaultdict(list)
    for its in predictions:
        is_class = its.target.startswith(f"{CLASSES}_")
        ceiling = metrics.tau_ceiling(its.truth) if its.is_number else None
        for metric, estimate in _estimates(its, chance=chance):
            ranks = its.by == "probe" and not is_class and metric == (rank_by if its.is_number else NAMES[0])
            its_ceiling = ceiling if metric == "kendall_tau" else None
            found.append(_scored(its, its.target, metric, estimate, ranks=ranks, ceiling=its_ceiling))
            if is_class:
                classes[metric].append((its, estimate))
    for metric, its_classes in classes.items():
        mean = metrics.mean_of([estimate for _, estimate in its_classes])
        found.append(_scored(its_classes[0][0], CLASSES, metric, mean, ranks=metric == rank_by, ceiling=None))
    return found


def _estimates(its: TargetPrediction, *, chance: float) -> Iterator[tuple[str, Estimate]]:
    for metric in NUMBERS if its.is_number else NAMES:
        yield metric, metrics.estimate(metric, its.truth, its.predicted, its.models)
    if its.target == "test_accuracy":
        above = metrics.CHANCE_MARGIN * chance
        yield ABOVE_CHANCE, metrics.estimate("kendall_tau", its.truth, its.predicted, its.models, above=above)


def _scored(
    its: TargetPrediction, target: str, metric: str, estimate: Estimate, *, ranks: bool, ceiling: float | None
) -> Scored:
    defined = np.isfinite(estimate.value)
    score = Score.model_validate(
        {
            "target": target,
            "metric": metric,
            "ranks": ranks,
            "value": estimate.value if defined else None,
            "low": estimate.low if defined else None,
            "high": estimate.high if defined else None,
            "penalty": its.penalty if target == its.target else None,
            "by": its.by,
            "ceiling": ceiling if ceiling is not None and np.isfinite(ceiling) else None,
        }
    )
    return Scored(score, Resampled(its.cell, target, metric, its.by, estimate.resampled))
