"""Logistic regression at falling penalties, each solution found from the one before it.

It minimises what scikit-learn's LogisticRegression does, by Newton steps within a trust region (scipy), in units in
which the loss curves about alike along all axes: so some dozen products a penalty are enough however correlated the
features are, where L-BFGS wanders and Newton steps in the units of the features take hundreds. Losses and
gradients are computed in float64, and in float32 the curvatures, which only guide the steps.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

_TOLERANCE = 1e-4  # of the norm of the gradient in these units: what the mean loss can still lose is half its square
_STEPS = 200
_CURVATURE = 0.2  # about p (1 - p), by which a logit's square adds to the cross-entropy


class Logistic:
    """A logistic regression of names, with an L2 penalty on all but the intercepts.

    Attributes:
        classes: the names, sorted (class,).
    """

    def __init__(self, rows: np.ndarray, names: np.ndarray, *, squares: np.ndarray) -> None:
        """Take the training rows.

        Args:
            rows: along their principal axes, about their mean, float32 (row, axis).
            names: of the rows (row,); at least two differ.
            squares: sums of the squares of the rows along each axis, above 0 (axis,).
        """
        self.classes, codes = np.unique(names, return_inverse=True)
        self._rows, self._narrow = rows.astype(np.float64), rows
        self._truth = np.eye(len(self.classes))[codes]
        self._curvatures = _CURVATURE * squares / len(rows)
        # Of two names one column of coefficients tells both, and bears the penalty once.
        columns = len(self.classes) if len(self.classes) > 2 else 1
        self._coefficients = np.zeros((rows.shape[1] + 1, columns))  # the last row holds the intercepts

    def fit(self, penalty: float) -> None:
        """Find the coefficients at a penalty of their squares' half sum, starting from those at the last penalty."""
        strength = penalty / len(self._rows)
        units = 1 / np.sqrt(np.append(self._curvatures + strength, _CURVATURE))[:, None]
        shares = self._truth

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            nonlocal shares
            coefficients = units * flat.reshape(len(units), -1)
            logarithms = log_softmax(_logits(self._rows, coefficients), axis=1)
            shares = np.exp(logarithms)
            penalised = coefficients[:-1]
            value = -(logarithms * self._truth).sum() / len(self._rows) + strength / 2 * (penalised**2).sum()
            gradient = _gradient(self._rows, shares - self._truth, strength * penalised)
            return value, (units * gradient).ravel()

        def curved(_: np.ndarray, flat: np.ndarray) -> np.ndarray:  # at the coefficients that loss saw last
            along = units * flat.reshape(len(units), -1)
            change = _logits(self._narrow, along.astype(np.float32))
            change = shares * (change - (shares * change).sum(axis=1, keepdims=True))
            return (units * _gradient(self._narrow, change.astype(np.float32), strength * along[:-1])).ravel()

        options = {"gtol": _TOLERANCE, "maxiter": _STEPS}
        start = (self._coefficients / units).ravel()
        solution = minimize(loss, start, jac=True, hessp=curved, method="trust-ncg", options=options).x
        self._coefficients = units * solution.reshape(self._coefficients.shape)

    def shares(self, rows: np.ndarray) -> np.ndarray:
        """Return the probability of each name, of rows along the axes (row, axis): float64 (row, class)."""
        return softmax(_logits(rows.astype(np.float64), self._coefficients), axis=1)


def _logits(rows: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Return the logit of each name (row, class); of two names the first has 0."""
    logits = rows @ coefficients[:-1] + coefficients[-1]
    return logits if logits.shape[1] > 1 else np.concatenate([np.zeros_like(logits), logits], axis=1)


def _gradient(rows: np.ndarray, of_logits: np.ndarray, of_penalty: np.ndarray) -> np.ndarray:
    """Return derivatives by the coefficients (axis or intercept, column) from those by each logit (row, class)."""
    of_logits = of_logits[:, -of_penalty.shape[1] :] / len(rows)
    return np.concatenate([rows.T @ of_logits + of_penalty, of_logits.sum(axis=0, keepdims=True)])
