"""Linear probes on frozen embeddings: ridge regression for numbers, logistic regression for names.

Features are standardised with the mean and deviation of the training rows. The strength of the penalty is the one
choice, and is made on the validation rows only.
"""

from dataclasses import dataclass

import numpy as np

# The grid of Schürholt et al. (NeurIPS 2021, public code): 1e3 down to 1e-5, as `alpha` of its ridge regression.
RIDGE_PENALTIES = (1e3, 3e2, 1e2, 3e1, 1e1, 3e0, 1e0, 3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
# Wide enough that neither edge is where the best ones pile up; from the strongest, each starts from the one before.
LOGISTIC_PENALTIES = (1e4, 1e3, 1e2, 1e1, 1e0, 1e-1, 1e-2)
_BLOCK = 16384  # rows that are widened to float64 at once


@dataclass(frozen=True)
class Prediction:
    """What is predicted of the test rows, and the penalty of the probe that predicts it, if it is one."""

    values: np.ndarray  # (row,)
    penalty: float | None


@dataclass(frozen=True)
class Features:
    """Embeddings of the three parts, standardised by the first."""

    train: np.ndarray  # float32 (row, feature)
    validation: np.ndarray  # float32 (row, feature)
    test: np.ndarray  # float32 (row, feature)

    @classmethod
    def standardized(cls, train: np.ndarray, validation: np.ndarray, test: np.ndarray) -> "Features":
        """Subtract the mean of the training rows and divide by their deviation (by 1 where it is 0)."""
        mean = train.mean(axis=0, dtype=np.float64)
        deviation = train.std(axis=0, dtype=np.float64)
        deviation[deviation < 1e-12 * np.maximum(np.abs(mean), 1e-300)] = 1.0
        return cls(*(((part - mean) / deviation).astype(np.float32) for part in (train, validation, test)))


def ridge(features: Features, train: np.ndarray, validation: np.ndarray) -> list[Prediction]:
    """Predict several targets at once from one eigendecomposition of the Gram matrix.

    Args:
        features: the embeddings.
        train: targets of the training rows (row, target).
        validation: targets of the validation rows (row, target).

    Returns:
        One prediction a target, with the penalty of the least squared error on the validation rows. The penalty is
        added to the Gram matrix of the standardised features; the intercept is not penalised.
    """
    mean = train.mean(axis=0)
    gram, moment = _products(features.train, train - mean)
    eigenvalues, eigenvectors = np.linalg.eigh(gram)
    eigenvalues = np.maximum(eigenvalues, 0.0)
    rotated = eigenvectors.T @ moment  # (feature, target)
    best_error = np.full(train.shape[1], np.inf)
    best_penalty = np.zeros(train.shape[1])
    rotated_validation = features.validation @ eigenvectors
    for penalty in RIDGE_PENALTIES:
        predicted = rotated_validation @ (rotated / (eigenvalues + penalty)[:, None]) + mean
        error = ((predicted - validation) ** 2).mean(axis=0)
        better = error < best_error
        best_error[better], best_penalty[better] = error[better], penalty
    coefficients = eigenvectors @ (rotated / (eigenvalues[:, None] + best_penalty))
    predicted = features.test @ coefficients + mean
    return [Prediction(predicted[:, column], float(best_penalty[column])) for column in range(train.shape[1])]


def logistic(features: Features, train: np.ndarray, validation: np.ndarray) -> Prediction:
    """Predict one target of names; of the penalties the one with the best validation accuracy is taken.

    Args:
        features: the embeddings.
        train: names of the training rows (row,).
        validation: names of the validation rows (row,).
    """
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(train)) == 1:  # all training models may share a value when configurations stay together
        return Prediction(np.full(len(features.test), train[0]), LOGISTIC_PENALTIES[0])
    # Truncated Newton steps: on thousands of correlated features they converge where L-BFGS still wanders. Each
    # penalty starts from the solution of the stronger one before it.
    model = LogisticRegression(solver="newton-cg", warm_start=True)
    best: tuple[float, float, np.ndarray] | None = None
    for penalty in LOGISTIC_PENALTIES:
        model.set_params(C=1.0 / penalty).fit(features.train, train)
        accuracy = float((model.predict(features.validation) == validation).mean())
        if best is None or accuracy > best[0]:
            best = accuracy, penalty, model.predict(features.test)
    assert best is not None
    return Prediction(best[2], best[1])


def _products(rows: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return X'X (feature, feature) and X'Y (feature, target) in float64, a block of rows at a time."""
    gram = np.zeros((rows.shape[1], rows.shape[1]))
    moment = np.zeros((rows.shape[1], targets.shape[1]))
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK].astype(np.float64)
        gram += block.T @ block
        moment += block.T @ targets[start : start + _BLOCK]
    return gram, moment
