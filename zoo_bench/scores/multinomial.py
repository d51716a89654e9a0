"""Multinomial logistic regression along principal axes, from one penalty to the next.

Along the axes of the features, each scaled by its own curvature, the loss is about as steep in all directions, so that
L-BFGS takes some dozen iterations where it takes hundreds on the features themselves. The solution is the same: the
penalty is that of the coefficients of the features, which a rotation leaves as it is.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import special
from scipy.optimize import minimize

STEEPEST = 0.25  # the highest curvature of the loss of a row, by a logit
GRADIENT = 1e-5  # the largest entry of the gradient of the mean loss at which a solution is taken
MOST_ITERATIONS = 500


def solutions(
    rows: np.ndarray, labels: np.ndarray, squares: np.ndarray, penalties: Sequence[float]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield for each penalty what rows are multiplied by (axis, class) and what is added to that (class,).

    The loss is that of scikit-learn's LogisticRegression with C = 1 / penalty: the sum over rows of the cross-entropy,
    and half the penalty times the sum of squared coefficients; of two classes, only their difference has coefficients.

    Args:
        rows: training rows along their principal axes, float32 (row, axis), each axis of mean 0.
        labels: the numbers of their classes, all of which occur (row,).
        squares: the sum of squares along each axis (axis,).
        penalties: from the strongest to the weakest; each starts from the solution of the one before.
    """
    n_rows, n_axes = rows.shape
    counts = np.bincount(labels)
    truth = np.eye(len(counts), dtype=np.float32)[labels]
    coefficients = np.zeros((n_axes, len(counts)))
    constants = np.log(counts / n_rows)
    for penalty in penalties:
        # Two classes are penalised by their difference, which is twice as long as either, and so by 4 / 2 as much.
        strength = (2.0 if len(counts) == 2 else 1.0) * penalty / n_rows
        scales = 1 / np.sqrt(STEEPEST * squares / n_rows + strength)[:, None]

        def loss(flat: np.ndarray, strength: float = strength, scales: np.ndarray = scales) -> tuple[float, np.ndarray]:
            table = flat.reshape(n_axes + 1, -1)
            weights = scales * table[:-1]
            logits = rows @ weights.astype(np.float32) + table[-1].astype(np.float32)
            logits -= logits.max(axis=1, keepdims=True)
            normaliser = special.logsumexp(logits, axis=1, keepdims=True)
            value = float((normaliser[:, 0] - logits[truth > 0]).mean(dtype=np.float64))
            residual = (np.exp(logits - normaliser) - truth) / np.float32(n_rows)
            gradient = scales * ((rows.T @ residual) + strength * weights)
            value += 0.5 * strength * float((weights**2).sum())
            return value, np.concatenate([gradient, residual.sum(axis=0, dtype=np.float64)[None]]).reshape(-1)

        start = np.concatenate([coefficients / scales, constants[None]]).reshape(-1)
        options = {"gtol": GRADIENT, "ftol": 0.0, "maxiter": MOST_ITERATIONS}
        table = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x.reshape(n_axes + 1, -1)
        coefficients, constants = scales * table[:-1], table[-1]
        yield coefficients, constants
