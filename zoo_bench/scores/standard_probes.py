"""The standard probes: ridge regression for numbers, logistic regression for names, on robustly scaled features.

A few networks whose weights exploded would own every mean, deviation and squared error. So each feature is cut at some
deviations from its median, and a predicted number at half a span beyond the training targets: bounds that come from
training rows alone, and that touch nothing where no tail is heavy. docs/benchmarks.md has the measured alternatives.
"""

from collections.abc import Iterator

import numpy as np

from zoo_bench.scores.linear_features import Classification, Features, Regression, blocks
from zoo_bench.scores.logistic import Logistic

MEAN_ALONE = 1e15  # so strong a penalty that nothing but the mean of the training rows is predicted
# From that to least squares along the axes that are more than rounding, by half decades: nothing lies beyond the ends.
RIDGE_PENALTIES = (MEAN_ALONE, *(float(f"{10 ** (step / 2):.3g}") for step in range(20, -21, -1)))
# From shares of the names alone, each starting from the solution before it, for as long as the validation rows gain.
LOGISTIC_PENALTIES = tuple(float(f"1e{power}") for power in range(10, -5, -1))
PATIENCE = 2  # penalties in a row that are clearly worse than the best, before no weaker one is tried
CUTS = (10.0, 3.0)  # deviations from the median; the narrower is taken where it is clearly better
_DEVIATION = 1.4826  # of a normal distribution, in medians of absolute deviations
_TAIL = 3.29  # the same, in distances between the 5 % and 95 % quantiles
BEYOND = 0.5  # spans of the training targets, on each side
_BETTER = 1e-3  # by which share the error must be lower for a weaker penalty to be taken
_LEAST_SHARE = 1e-12  # whose logarithm is taken
_COLUMNS = 256  # that are treated at once


def alternatives(train: np.ndarray, validation: np.ndarray, test: np.ndarray) -> Iterator[Features]:
    """Yield embeddings (row, dimension), cut and standardised, once for each of CUTS."""
    middle = middles(train)
    for cut in CUTS:
        yield features(train, validation, test, cut=cut, middle=middle)


def features(
    train: np.ndarray,
    validation: np.ndarray,
    test: np.ndarray,
    *,
    cut: float,
    middle: tuple[np.ndarray, np.ndarray] | None = None,
) -> Features:
    """Return embeddings (row, dimension), cut and standardised by what the training rows say.

    Args:
        train: embeddings of the training rows.
        validation: embeddings of the validation rows.
        test: embeddings of the test rows.
        cut: deviations from the median of each feature, beyond which it is cut.
        middle: what `middles` says of the training rows, where it was asked already.
    """
    medians, scales = middle or middles(train)
    parts = [np.empty(part.shape, np.float32) for part in (train, validation, test)]
    for columns in _some_columns(train):
        low, high = medians[columns] - cut * scales[columns], medians[columns] + cut * scales[columns]
        within = np.clip(train[:, columns].astype(np.float64), low, high)
        mean, deviation = within.mean(axis=0), within.std(axis=0)
        deviation[deviation < 1e-12 * np.maximum(np.abs(mean), 1e-300)] = 1.0  # it varies by rounding alone
        for part, rows in zip(parts, (train, validation, test), strict=True):
            part[:, columns] = (np.clip(rows[:, columns].astype(np.float64), low, high) - mean) / deviation
    return Features(*parts)


def middles(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the median and the deviation of each feature, as the bulk of its rows has them (feature,).

    The deviation follows from the median of absolute deviations; where most rows have one value, from more of the rows.
    """
    medians, scales = np.empty((2, rows.shape[1]))
    for columns in _some_columns(rows):
        values = np.ascontiguousarray(rows[:, columns].T, np.float64)  # (feature, row): sorted along memory
        low, median, high = np.quantile(values, [0.05, 0.5, 0.95], axis=1)
        scale = _DEVIATION * np.median(np.abs(values - median[:, None]), axis=1)
        scale = np.where(scale > 0, scale, (high - low) / _TAIL)
        medians[columns] = median
        scales[columns] = np.where(scale > 0, scale, rows[:, columns].std(axis=0, dtype=np.float64))
    return medians, scales


def _some_columns(rows: np.ndarray) -> list[slice]:
    """Return slices of the columns of rows that are treated at once."""
    return [slice(start, start + _COLUMNS) for start in range(0, rows.shape[1], _COLUMNS)]


def regress(parts: Features, train: np.ndarray, validation: np.ndarray) -> Regression:
    """Predict several numbers by ridge regression, all penalties along the same principal axes.

    Of the penalties, added to the Gram matrix of the features, the one with the least squared error on the validation
    rows is taken, the stronger of nearly equal ones; the intercept is not penalised.

    Args:
        parts: what `features` returned.
        train: targets of the training rows (row, target).
        validation: targets of the validation rows (row, target).

    """
    axes, mean = parts.axes, train.mean(axis=0)
    moments = axes.moments(parts.train, train - mean)
    span = np.ptp(train, axis=0)
    low, high = train.min(axis=0) - BEYOND * span, train.max(axis=0) + BEYOND * span

    def predicted(rows: np.ndarray, coefficients: np.ndarray) -> np.ndarray:  # (row, penalty, target)
        values = rows @ coefficients - axes.centre @ coefficients
        return np.clip(values.reshape(len(rows), -1, len(mean)) + mean, low, high)

    n_penalties, n_targets = len(RIDGE_PENALTIES), len(mean)
    of_all = axes.coefficients(np.tile(moments, n_penalties), np.repeat(RIDGE_PENALTIES, n_targets))
    errors = np.zeros((n_penalties, n_targets))
    for block in blocks(len(validation), max(of_all.shape)):
        of_block = predicted(parts.validation[block], of_all)
        errors += ((of_block - validation[block, None]) ** 2).sum(axis=0) / len(validation)
    best_error = np.full(n_targets, np.inf)
    best = np.zeros(n_targets)
    for penalty, error in zip(RIDGE_PENALTIES, errors, strict=True):
        better = error < (1 - _BETTER) * best_error
        best_error[better], best[better] = error[better], penalty
    return Regression(predicted(parts.test, axes.coefficients(moments, best))[:, 0], best, best_error)


def classify(parts: Features, train: np.ndarray, validation: np.ndarray) -> Classification:
    """Predict one target of names by logistic regression.

    Of the penalties the one with the best accuracy on the validation rows is taken, of equal ones that with the least
    cross-entropy: some dozen validation models are all right at penalties that are far too strong for others. Weaker
    ones are tried until PATIENCE in a row have neither a better accuracy than the best nor nearly its cross-entropy,
    since the weakest take by far the longest.

    Args:
        parts: what `features` returned.
        train: names of the training rows (row,).
        validation: names of the validation rows (row,).
    """

    if len(np.unique(train)) == 1:  # all training models may share a value when configurations stay together
        error = float((validation != train[0]).mean())
        return Classification(np.full(len(parts.test), train[0]), LOGISTIC_PENALTIES[0], error)
    # Coefficients of minimal length lie in the span of the training rows, so nothing is lost along the rows' axes.
    of_train, of_validation, of_test = parts.along_axes
    model = Logistic(of_train, train)
    candidates: list[tuple[float, float, float, np.ndarray]] = []
    best_error, least_entropy, worse = np.inf, np.inf, 0
    for penalty in LOGISTIC_PENALTIES:
        model.fit(penalty)
        shares = model.shares(of_validation)
        error = float((model.classes[shares.argmax(axis=1)] != validation).mean())
        is_true = validation[:, None] == model.classes  # nowhere for a name that no training row has
        entropy = -float(np.where(is_true, np.log(np.maximum(shares, _LEAST_SHARE)), 0.0).sum())
        candidates.append((error, entropy, penalty, model.coefficients))
        gains = error < best_error or entropy < (1 + _BETTER) * least_entropy
        worse = 0 if gains else worse + 1
        best_error, least_entropy = min(error, best_error), min(entropy, least_entropy)
        if worse == PATIENCE:
            break
    error, _, penalty, model.coefficients = min(candidates, key=lambda candidate: candidate[:2])
    return Classification(model.classes[model.shares(of_test).argmax(axis=1)], penalty, error)
