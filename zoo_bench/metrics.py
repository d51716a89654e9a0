"""R2, Kendall's tau-b and accuracy with confidence intervals that resample models, never checkpoints.

Checkpoints of one model are alike; to draw them one by one would make intervals far too narrow. Each metric is
written as a function of how often every model is drawn, so that a thousand resamples cost a few matrix products.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
CONFIDENCE = 0.95

# Takes how often each model is drawn, (resample, model), and returns the metric of each resample, (resample,).
Weighted = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Estimate:
    """A metric on the test rows and its interval; the value is NaN where the metric is undefined."""

    value: float
    low: float
    high: float


def estimate(metric: str, truth: np.ndarray, predicted: np.ndarray, models: np.ndarray, *, seed: int) -> Estimate:
    """Return a metric with its 95 % cluster-bootstrap percentile interval.

    Args:
        metric: one of METRICS.
        truth: true values (row,).
        predicted: predicted values (row,).
        models: which model each row belongs to (row,).
        seed: of the resampling.
    """
    _, members = np.unique(models, return_inverse=True)
    n_models = int(members.max()) + 1
    weighted = METRICS[metric](truth, predicted, members)
    value = float(weighted(np.ones((1, n_models)))[0])
    random = np.random.RandomState(seed)
    draws = random.multinomial(n_models, np.full(n_models, 1 / n_models), size=RESAMPLES).astype(np.float64)
    resampled = weighted(draws)
    resampled = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or not len(resampled):
        return Estimate(float("nan"), float("nan"), float("nan"))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def r2(truth: np.ndarray, predicted: np.ndarray, members: np.ndarray) -> Weighted:
    """R2 = 1 - squared error / squared deviation from the rows' own mean; undefined for a constant truth."""
    centred = truth.astype(np.float64) - truth.mean(dtype=np.float64)  # keeps the sums of squares well conditioned
    error = truth.astype(np.float64) - predicted
    count, total, squares, errors = (
        np.bincount(members, weights=column) for column in (np.ones_like(centred), centred, centred**2, error**2)
    )
    constant = np.ptp(truth) == 0

    def weighted(draws: np.ndarray) -> np.ndarray:
        deviation = draws @ squares - (draws @ total) ** 2 / (draws @ count)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(constant | (deviation <= 0), np.nan, 1 - (draws @ errors) / deviation)

    return weighted


def accuracy(truth: np.ndarray, predicted: np.ndarray, members: np.ndarray) -> Weighted:
    """Share of rows whose prediction is the truth."""
    count = np.bincount(members)
    right = np.bincount(members, weights=(truth == predicted).astype(np.float64))
    return lambda draws: (draws @ right) / (draws @ count)


def kendall_tau(truth: np.ndarray, predicted: np.ndarray, members: np.ndarray) -> Weighted:
    """Kendall's tau-b, which corrects for ties; undefined where either side is constant.

    Pairs of rows are counted once, by the models they belong to; a resample then weighs the counts. With four counts
    of ordered pairs (a, b) - both greater, one greater and one smaller, the first not tied, the second not tied - tau
    is (both - opposed) / sqrt(untied x untied).
    """
    order = np.argsort(members, kind="stable")
    truth_ranks, predicted_ranks = (
        np.unique(v, return_inverse=True)[1][order].astype(np.int32) for v in (truth, predicted)
    )
    sizes = np.bincount(members)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    counts = np.zeros((4, len(sizes), len(sizes)))
    for model, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        rows = slice(start, start + size)
        greater = truth_ranks[rows, None] > truth_ranks
        predicted_greater = predicted_ranks[rows, None] > predicted_ranks
        predicted_smaller = predicted_ranks[rows, None] < predicted_ranks
        for kind, pairs in enumerate(
            (greater & predicted_greater, greater & predicted_smaller, greater, predicted_greater)
        ):
            counts[kind, model] = np.add.reduceat(pairs.sum(axis=0, dtype=np.int64), starts)

    def weighted(draws: np.ndarray) -> np.ndarray:
        both, opposed, untied, predicted_untied = (((draws @ pairs) * draws).sum(axis=1) for pairs in counts)
        with np.errstate(divide="ignore", invalid="ignore"):
            return (both - opposed) / np.sqrt(untied * predicted_untied)

    return weighted


METRICS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], Weighted]] = {
    "r2": r2,
    "kendall_tau": kendall_tau,
    "accuracy": accuracy,
}
