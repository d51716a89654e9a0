"""How well test accuracy is predicted at each epoch of the tested models, from the stored predictions.

Kendall's tau-b among the models of one epoch: R2 would say nothing before training, when all accuracies are alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo_bench.results.records import TargetPrediction
from zoo_bench.scores.metrics import missing

TARGET = "test_accuracy"


@dataclass(frozen=True)
class AtEpoch:
    """One encoder at one epoch: the mean over seeds, and the lowest and the highest seed."""

    epoch: int
    value: float
    low: float
    high: float


def by_epoch(predictions: Sequence[TargetPrediction]) -> list[AtEpoch]:
    """Return one encoder's scores at each epoch; epochs at which tau-b is undefined are left out.

    Args:
        predictions: of test accuracy in one cell by probes, one a seed.
    """
    scores = []
    for epoch in sorted({int(epoch) for seed in predictions for epoch in seed.epochs}):
        values = [_tau(seed, epoch) for seed in predictions]
        if np.isfinite(values).all():
            scores.append(AtEpoch(epoch, float(np.mean(values)), min(values), max(values)))
    return scores


def _tau(prediction: TargetPrediction, epoch: int) -> float:
    from scipy.stats import kendalltau

    rows = (prediction.epochs == epoch) & ~missing(prediction.truth)
    truth, predicted = prediction.truth[rows], prediction.predicted[rows]
    if len(truth) < 2 or np.ptp(truth) == 0 or np.ptp(predicted) == 0:
        return float("nan")
    return float(kendalltau(truth, predicted).statistic)
