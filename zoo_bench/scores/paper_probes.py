"""The probes of Schürholt et al. (NeurIPS 2021), on raw features, as their public code has them.

Numbers: ridge regression whose intercept is penalised too. Names: one linear layer, trained for 50 epochs by Adam at a
rate that leaves it far from converged, so that features with large values have the edge.
"""

from collections.abc import Iterator

import numpy as np

from zoo_bench.scores.linear_features import Axes, Classification, Features, Regression

RIDGE_PENALTIES = (1e3, 3e2, 1e2, 3e1, 1e1, 3e0, 1e0, 3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
EPOCHS, BATCH, RATE, DECAY = 50, 10, 1e-4, 1e-6
_FIRST_MOMENT, _SECOND_MOMENT, _EPSILON = 0.9, 0.999, 1e-8  # of Adam, as torch has them
_BIAS = 0.01  # of the layer at the start
_SEED = 42


def alternatives(train: np.ndarray, validation: np.ndarray, test: np.ndarray) -> Iterator[Features]:
    """Yield embeddings (row, dimension) as they are, with a column of ones."""
    parts = (np.asarray(part, np.float32) for part in (train, validation, test))
    yield Features(*(np.column_stack([part, np.ones(len(part), np.float32)]) for part in parts))


def regress(parts: Features, train: np.ndarray, validation: np.ndarray) -> Regression:
    """Predict several numbers by ridge regression with the penalty of the best R2 on the validation rows.

    R2 orders penalties as the squared error does. A target that is constant there is chosen on the training rows.

    Args:
        parts: what `alternatives` yielded.
        train: targets of the training rows (row, target).
        validation: targets of the validation rows (row, target).
    """
    axes = Axes.of(parts.train, np.zeros(parts.train.shape[1]))
    moments = axes.moments(parts.train, train)
    constant = np.ptp(validation, axis=0) == 0
    errors = np.empty((len(RIDGE_PENALTIES), train.shape[1]))
    for place, penalty in enumerate(RIDGE_PENALTIES):
        coefficients = axes.coefficients(moments, penalty)
        of_train, of_validation = (
            ((rows @ coefficients - targets) ** 2).mean(axis=0)
            for rows, targets in ((parts.train, train), (parts.validation, validation))
        )
        errors[place] = np.where(constant, of_train, of_validation)
    penalties = np.array(RIDGE_PENALTIES)[errors.argmin(axis=0)]
    return Regression(parts.test @ axes.coefficients(moments, penalties), penalties, errors.min(axis=0))


def classify(parts: Features, train: np.ndarray, validation: np.ndarray) -> Classification:
    """Predict one target of names by a linear layer with softmax, trained on cross-entropy.

    Args:
        parts: what `alternatives` yielded.
        train: names of the training rows (row,).
        validation: names of the validation rows (row,), which choose nothing.
    """
    names, labels = np.unique(train, return_inverse=True)
    random = np.random.RandomState(_SEED)
    weights = random.standard_normal((parts.train.shape[1], len(names))) * np.sqrt(2 / (parts.train.shape[1] - 1))
    weights[-1] = _BIAS  # the column of ones
    weights = trained(weights.astype(np.float32), parts.train, np.eye(len(names), dtype=np.float32)[labels], random)
    of_validation, of_test = (names[(rows @ weights).argmax(axis=1)] for rows in (parts.validation, parts.test))
    return Classification(of_test, None, float((of_validation != validation).mean()))


def trained(weights: np.ndarray, rows: np.ndarray, targets: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Return weights after all epochs of Adam (Kingma and Ba, 2015, algorithm 1; the decay is added to the gradient).

    Args:
        weights: at the start, float32 (feature, class).
        rows: float32 (row, feature).
        targets: one-hot, float32 (row, class).
        random: draws the order of the rows in each epoch.
    """
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    step = 0
    for _ in range(EPOCHS):
        order = random.permutation(len(rows))
        for start in range(0, len(rows), BATCH):
            step += 1
            batch = order[start : start + BATCH]
            logits = rows[batch] @ weights
            odds = np.exp(logits - logits.max(axis=1, keepdims=True))
            residual = odds / odds.sum(axis=1, keepdims=True) - targets[batch]
            gradient = rows[batch].T @ residual / len(batch) + DECAY * weights
            first += (1 - _FIRST_MOMENT) * (gradient - first)
            second += (1 - _SECOND_MOMENT) * (gradient**2 - second)
            scale = np.sqrt(second / (1 - _SECOND_MOMENT**step)) + _EPSILON
            weights = weights - RATE / (1 - _FIRST_MOMENT**step) * first / scale
    return weights
