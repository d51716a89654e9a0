"""Scores of predictions: all metrics of all targets of one cell, from the predictions alone.

Scoring knows neither zoo nor encoder, so that `zoo-bench validate` computes every score again from the stored file by
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

    Targets `test_class_f1_N` are scored one by one, and together as the mean over classes. Only the mean counts for the
    rank: ten classes would outvote all other targets.

    Args:
        predictions: a target each.
        rank_by: the metric of a number that counts for the rank; of a name it is the accuracy.
        chance: the accuracy of guessing.
    """
    scored: list[Scored] = []
    classes: dict[str, list[tuple[TargetPrediction, Estimate]]] = defaultdict(list)
    for prediction in predictions:
        is_class = prediction.target.startswith(f"{CLASSES}_")
        ranking = rank_by if prediction.is_number else NAMES[0]
        tau_ceiling = metrics.tau_ceiling(prediction.truth) if prediction.is_number else None
        for metric, estimate in _estimates(prediction, chance=chance):
            ranks = prediction.by == "probe" and not is_class and metric == ranking
            ceiling = tau_ceiling if metric == "kendall_tau" else None
            scored.append(_scored(prediction, prediction.target, metric, estimate, ranks=ranks, ceiling=ceiling))
            if is_class:
                classes[metric].append((prediction, estimate))
    for metric, estimates in classes.items():
        mean = metrics.mean_of([estimate for _, estimate in estimates])
        scored.append(_scored(estimates[0][0], CLASSES, metric, mean, ranks=metric == rank_by, ceiling=None))
    return scored


def _estimates(prediction: TargetPrediction, *, chance: float) -> Iterator[tuple[str, Estimate]]:
    rows = prediction.truth, prediction.predicted, prediction.models
    for metric in NUMBERS if prediction.is_number else NAMES:
        yield metric, metrics.estimate(metric, *rows)
    if prediction.target == "test_accuracy":
        yield ABOVE_CHANCE, metrics.estimate("kendall_tau", *rows, above=metrics.CHANCE_MARGIN * chance)


def _scored(
    prediction: TargetPrediction, target: str, metric: str, estimate: Estimate, *, ranks: bool, ceiling: float | None
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
            "penalty": prediction.penalty if target == prediction.target else None,
            "by": prediction.by,
            "ceiling": ceiling if ceiling is not None and np.isfinite(ceiling) else None,
        }
    )
    return Scored(score, Resampled(prediction.cell, target, metric, prediction.by, estimate.resampled))
