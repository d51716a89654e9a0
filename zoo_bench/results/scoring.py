"""Scores of predictions: all metrics of all targets of one cell, from the predictions alone.

Scoring knows neither zoo nor encoder, so that `zoo-bench validate` computes every score again from the stored file by
the very function that made it.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from zoo_bench.results.records import FLOORS, By, Resampled, TargetPrediction
from zoo_bench.results.results import Result, Score
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


def score_cell(
    predictions: Sequence[TargetPrediction], *, rank_by: str, chance: float | None, reading: Literal["probe", "own"]
) -> list[Scored]:
    """Score the predictions of one cell.

    Targets `test_class_f1_N` are scored one by one, and together as the mean over classes. Only the mean counts for the
    rank: ten classes would outvote all other targets.

    Args:
        predictions: one a target and predictor.
        rank_by: the metric of a number that counts for the rank; of a name it is the accuracy.
        chance: the accuracy of guessing; None where it is not known, and "above chance" is left out then.
        reading: whose predictions rank: "probe", or "own", the encoder's where it predicts a target and else the
            probe's.
    """
    predicted = (
        {prediction.target for prediction in predictions if prediction.by == "encoder"} if reading == "own" else set()
    )
    scored: list[Scored] = []
    classes: dict[By, list[TargetPrediction]] = defaultdict(list)
    estimates: dict[tuple[By, str], list[Estimate]] = defaultdict(list)
    for prediction in predictions:
        is_class = prediction.target.startswith(f"{CLASSES}_")
        if is_class:
            classes[prediction.by].append(prediction)
        ranking = rank_by if prediction.is_number else NAMES[0]
        counts = not is_class and prediction.by == ("encoder" if prediction.target in predicted else "probe")
        for metric, estimate in _estimates(prediction, rank_by=rank_by, chance=chance):
            scored.append(_of_target(prediction, metric, estimate, ranks=counts and metric == ranking))
            if is_class:
                estimates[prediction.by, metric].append(estimate)
    all_classes = {prediction.target for several in classes.values() for prediction in several}
    ranks = "encoder" if all_classes <= predicted else "probe"
    for (by, metric), several in estimates.items():
        if len(classes[by]) == len(all_classes):  # a mean over fewer is another target
            mean = metrics.mean_of(several)
            scored.append(_of_classes(classes[by], metric, mean, ranks=by == ranks and metric == rank_by))
    return scored


def score_result(result: Result, predictions: Sequence[TargetPrediction]) -> list[Scored]:
    """Score the predictions of all cells of a result again."""
    scored: list[Scored] = []
    for cell in result.cells:
        of_cell = [prediction for prediction in predictions if prediction.cell == cell.name]
        scored += score_cell(of_cell, rank_by=result.rank_by, chance=cell.chance, reading=result.reading)
    return scored


def _estimates(prediction: TargetPrediction, *, rank_by: str, chance: float | None) -> Iterator[tuple[str, Estimate]]:
    rows = prediction.truth, prediction.predicted, prediction.models
    for metric in NUMBERS if prediction.is_number else NAMES:
        if prediction.by not in FLOORS or metric in (rank_by, NAMES[0]):
            yield metric, metrics.estimate(metric, *rows)
    if prediction.by in FLOORS:
        return
    if prediction.target == "test_accuracy" and chance is not None:
        yield ABOVE_CHANCE, metrics.estimate("kendall_tau", *rows, above=metrics.CHANCE_MARGIN * chance)


def _of_target(prediction: TargetPrediction, metric: str, estimate: Estimate, *, ranks: bool) -> Scored:
    ceiling = metrics.tau_ceiling(prediction.truth) if metric == "kendall_tau" else float("nan")
    details: dict[str, object] = {
        "penalty": prediction.penalty,
        "ceiling": ceiling if np.isfinite(ceiling) else None,
        "left_out": int(metrics.missing(prediction.truth).sum()),
    }
    return _scored(prediction, prediction.target, metric, estimate, ranks=ranks, details=details)


def _of_classes(classes: Sequence[TargetPrediction], metric: str, estimate: Estimate, *, ranks: bool) -> Scored:
    left_out = max(int(metrics.missing(prediction.truth).sum()) for prediction in classes)
    details: dict[str, object] = {"penalty": None, "left_out": left_out}
    return _scored(classes[0], CLASSES, metric, estimate, ranks=ranks, details=details)


def _scored(
    prediction: TargetPrediction,
    target: str,
    metric: str,
    estimate: Estimate,
    *,
    ranks: bool,
    details: dict[str, object],
) -> Scored:
    names = ("value", "low", "high")
    values = {name: getattr(estimate, name) if np.isfinite(estimate.value) else None for name in names}
    score = Score.model_validate(
        {"target": target, "metric": metric, "ranks": ranks, "by": prediction.by, **values, **details}
    )
    return Scored(score, Resampled(prediction.cell, target, metric, prediction.by, estimate.resampled))
