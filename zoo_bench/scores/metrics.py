"""Metrics with confidence intervals that resample models, never checkpoints.

Checkpoints of one model are alike; to draw them one by one would make intervals far too narrow. Each metric is
written as a function of how often every model is drawn, so that a thousand resamples cost a few matrix products. The
draws depend on the number of models alone: every encoder and seed is resampled alike, so differences can be paired.
Rows whose truth is missing are left out, but their models are drawn all the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

import numpy as np

from zoo_bench.scores.kendall import resampled_tau

RESAMPLES = 1000
CONFIDENCE = 0.95
LOWER_IS_BETTER = frozenset({"mae", "mse"})
CHANCE_MARGIN = 1.5  # times 1 / classes: above it a network has learned something
NO_NAME = ""  # the value of a target of names where it is missing
_DRAWS_SEED = 20211
_CANCELLED = 1e-6  # the share of a sum of squares below which a difference of two of them has lost digits
_NUMBERS_AT_ONCE = 2**17
_RECENT_AT_MOST = 2048  # estimates, 8 kB each

# Takes how often each model is drawn, (resample, model), and returns the metric of each resample, (resample,).
Weighted = Callable[[np.ndarray], np.ndarray]
# Takes true values (row,), predicted values (row,), the column of each row's model among the draws (row,), and the
# number of columns.
Metric = Callable[[np.ndarray, np.ndarray, np.ndarray, int], Weighted]


@dataclass(frozen=True)
class Estimate:
    """A metric on the test rows and its interval; the value is NaN where the metric is undefined."""

    value: float
    low: float
    high: float
    resampled: np.ndarray  # float64 (RESAMPLES,), NaN where a resample leaves the metric undefined


@dataclass(frozen=True)
class Difference:
    """How much better one encoder is than another, by a paired bootstrap over models."""

    low: float
    high: float
    p: float  # two-sided


_recent: dict[str, Estimate] = {}  # by the hash of what they were computed from


def estimate(
    metric: str, truth: np.ndarray, predicted: np.ndarray, models: np.ndarray, *, above: float | None = None
) -> Estimate:
    """Return a metric with its 95 % cluster-bootstrap percentile interval.

    Rows whose truth is missing are left out. A metric is undefined where a prediction of another row is no finite
    number, and in a resample that leaves it undefined, such as one that draws a single true value for R2.

    Estimates of equal rows are computed once: floors are the same for every encoder, and an encoder that draws
    nothing predicts the same with every seed.

    Args:
        metric: one of METRICS.
        truth: true values (row,), some of which may be missing.
        predicted: predicted values (row,).
        models: which model each row belongs to (row,).
        above: count only rows whose true value is greater; models are drawn as without.
    """
    key = _key(metric, above, truth, predicted, models)
    known = _recent.get(key)
    if known is None:
        known = _recent[key] = _estimate(metric, truth, predicted, models, above)
        known.resampled.flags.writeable = False
        if len(_recent) > _RECENT_AT_MOST:
            _recent.pop(next(iter(_recent)), None)
    return known


def _key(metric: str, above: float | None, *columns: np.ndarray) -> str:
    digest = sha256(repr((metric, above, [(column.dtype.str, column.shape) for column in columns])).encode())
    for column in columns:
        digest.update(column.tobytes())
    return digest.hexdigest()


def _estimate(
    metric: str, truth: np.ndarray, predicted: np.ndarray, models: np.ndarray, above: float | None
) -> Estimate:
    _, members = np.unique(models, return_inverse=True)
    n_models = int(members.max()) + 1
    counted = ~missing(truth)
    if above is not None:
        counted &= truth > above
    truth, predicted, members = truth[counted], predicted[counted], members[counted]
    if len(truth) == 0 or missing(predicted).any():
        return summary(float("nan"), np.full(RESAMPLES, np.nan))
    weighted = METRICS[metric](truth, predicted, members, n_models)
    return summary(float(weighted(np.ones((1, n_models)))[0]), weighted(draws_of(n_models)))


def missing(values: np.ndarray) -> np.ndarray:
    """Return which values are no finite number, or no name, bool (row,)."""
    return values == NO_NAME if values.dtype.kind == "U" else ~np.isfinite(values)


@lru_cache(maxsize=4)
def draws_of(n_models: int) -> np.ndarray:
    """Return how often each model is drawn, float64 (RESAMPLES, model), read-only."""
    random = np.random.RandomState(_DRAWS_SEED)
    draws = random.multinomial(n_models, np.full(n_models, 1 / n_models), size=RESAMPLES).astype(np.float64)
    draws.flags.writeable = False
    return draws


def summary(value: float, resampled: np.ndarray) -> Estimate:
    """Return a value with the percentile interval of its resamples (resample,), which may be those of several seeds."""
    defined = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or not len(defined):
        return Estimate(float("nan"), float("nan"), float("nan"), np.full(len(resampled), np.nan))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), resampled)


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean of a metric over several targets of the same models, leaving out where it is undefined."""
    defined = [estimate for estimate in estimates if np.isfinite(estimate.value)]
    if not defined:
        return summary(float("nan"), np.full(RESAMPLES, np.nan))
    resampled = np.array([estimate.resampled for estimate in defined])
    return summary(float(np.mean([estimate.value for estimate in defined])), resampled.mean(axis=0))


def difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """Return the interval of first - second and its significance, by a paired bootstrap.

    Args:
        first: resamples of the one's seeds, (seed, RESAMPLES); a resample drew the same models for all.
        second: resamples of the other's seeds, (seed, RESAMPLES). Every seed is compared with every seed.
    """
    paired = (first[:, None] - second[None]).reshape(-1)
    paired = paired[np.isfinite(paired)]
    if not len(paired):
        return Difference(float("nan"), float("nan"), float("nan"))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(paired, [tail, 1 - tail])
    # The plain share can be 0, which no finite number of resamples supports.
    share = (1 + min((paired <= 0).sum(), (paired >= 0).sum())) / (1 + len(paired))
    return Difference(float(low), float(high), float(min(1.0, 2 * share)))


def tau_ceiling(truth: np.ndarray) -> float:
    """Return the highest tau-b that predictions without ties can reach: sqrt(untied pairs / pairs); NaN without any.

    Rows whose truth is missing are left out.
    """
    truth = truth[~missing(truth)]
    counts = np.unique(truth, return_counts=True)[1].astype(np.float64)
    pairs = len(truth) * (len(truth) - 1.0)
    untied = pairs - (counts * (counts - 1)).sum()
    return float(np.sqrt(untied / pairs)) if untied > 0 else float("nan")


def r2(truth: np.ndarray, predicted: np.ndarray, members: np.ndarray, n_models: int) -> Weighted:
    """R2 = 1 - squared error / squared deviation from the rows' own mean; undefined for a constant truth."""
    values = truth.astype(np.float64)
    centred = values - values.mean()  # keeps the sums of squares well conditioned
    error = (values - predicted) ** 2
    count, total, squares, errors = (
        np.bincount(members, weights=column, minlength=n_models)
        for column in (np.ones_like(centred), centred, centred**2, error)
    )
    lowest, highest = np.full(n_models, np.inf), np.full(n_models, -np.inf)
    np.minimum.at(lowest, members, values)
    np.maximum.at(highest, members, values)

    def weighted(draws: np.ndarray) -> np.ndarray:
        drawn = draws > 0
        varies = np.where(drawn, lowest, np.inf).min(axis=1) < np.where(drawn, highest, -np.inf).max(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            about_zero = draws @ squares
            deviation = about_zero - (draws @ total) ** 2 / (draws @ count)
            for row in np.flatnonzero(varies & (deviation < _CANCELLED * about_zero)):
                deviation[row] = _deviation(values, draws[row, members])
            return np.where(varies & (deviation > 0), 1 - (draws @ errors) / deviation, np.nan)

    return weighted


def _deviation(values: np.ndarray, counts: np.ndarray) -> float:
    """Return the squared deviation of values that count as often as given, in two passes that lose no digits."""
    values, counts = values[counts > 0], counts[counts > 0]
    values = values - values[0]
    return float(counts @ (values - counts @ values / counts.sum()) ** 2)


def kendall_tau(truth: np.ndarray, predicted: np.ndarray, members: np.ndarray, n_models: int) -> Weighted:
    """Kendall's tau-b, which corrects for ties; undefined where either side is constant."""
    return resampled_tau(truth, predicted, members, n_models=n_models)


def spearman(truth: np.ndarray, predicted: np.ndarray, members: np.ndarray, n_models: int) -> Weighted:
    """Spearman's correlation: Pearson's of ranks, equal values sharing the mean of theirs; undefined as tau-b is."""
    sides = [np.unique(values, return_inverse=True)[1] for values in (truth, predicted)]
    orders = [np.argsort(ranks, kind="stable") for ranks in sides]
    starts = [np.flatnonzero(np.diff(r[o], prepend=-1)) for r, o in zip(sides, orders, strict=True)]

    def weighted(draws: np.ndarray) -> np.ndarray:
        step = max(1, _NUMBERS_AT_ONCE // len(truth))
        return np.concatenate([some(draws[start : start + step]) for start in range(0, len(draws), step)])

    def some(draws: np.ndarray) -> np.ndarray:
        draws = np.ascontiguousarray(draws.T)  # (model, resample), from which whole rows are taken
        weights = draws[members]
        half = weights.sum(axis=0) / 2
        centred = []
        for ranks, order, start in zip(sides, orders, starts, strict=True):
            size = np.add.reduceat(draws[members[order]], start, axis=0)  # of each group of equal values
            middle = np.cumsum(size, axis=0) - size / 2 - half  # the mean rank of the group, less that of all
            centred.append(middle[ranks])
        first, second = centred
        both, *alone = (
            np.einsum("ij,ij,ij->j", weights, *pair) for pair in ((first, second), (first,) * 2, (second,) * 2)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.clip(both / np.sqrt(alone[0] * alone[1]), -1.0, 1.0)

    return weighted


def mae(truth: np.ndarray, predicted: np.ndarray, members: np.ndarray, n_models: int) -> Weighted:
    """Mean absolute error, in the target's units."""
    return _mean(np.abs(truth.astype(np.float64) - predicted), members, n_models)


def mse(truth: np.ndarray, predicted: np.ndarray, members: np.ndarray, n_models: int) -> Weighted:
    """Mean squared error, in the target's units squared."""
    return _mean((truth.astype(np.float64) - predicted) ** 2, members, n_models)


def accuracy(truth: np.ndarray, predicted: np.ndarray, members: np.ndarray, n_models: int) -> Weighted:
    """Share of rows whose prediction is the truth."""
    return _mean((truth == predicted).astype(np.float64), members, n_models)


def macro_f1(truth: np.ndarray, predicted: np.ndarray, members: np.ndarray, n_models: int) -> Weighted:
    """The mean of F1 = 2 TP / (2 TP + FP + FN) over the names that are true or predicted somewhere."""
    names = np.union1d(truth, predicted)
    right, wrong = (np.zeros((n_models, len(names))) for _ in range(2))
    for column, name in enumerate(names):
        for counts, rows in (
            (right, (truth == name) & (predicted == name)),
            (wrong, (truth == name) ^ (predicted == name)),
        ):
            counts[:, column] = np.bincount(members, weights=rows.astype(np.float64), minlength=n_models)

    def weighted(draws: np.ndarray) -> np.ndarray:
        hits, misses = 2 * draws @ right, draws @ wrong
        occurs = hits + misses > 0
        f1 = np.divide(hits, hits + misses, out=np.zeros_like(hits), where=occurs)
        with np.errstate(invalid="ignore"):
            return f1.sum(axis=1) / occurs.sum(axis=1)

    return weighted


def _mean(values: np.ndarray, members: np.ndarray, n_models: int) -> Weighted:
    count = np.bincount(members, minlength=n_models).astype(np.float64)
    total = np.bincount(members, weights=values, minlength=n_models)

    def weighted(draws: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (draws @ total) / (draws @ count)

    return weighted


METRICS: dict[str, Metric] = {
    "r2": r2,
    "kendall_tau": kendall_tau,
    "spearman": spearman,
    "mae": mae,
    "mse": mse,
    "accuracy": accuracy,
    "macro_f1": macro_f1,
}
