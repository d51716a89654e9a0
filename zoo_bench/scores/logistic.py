"""Logistic regression at falling penalties, each solution found from the one before it.

It minimises what scikit-learn's LogisticRegression does, by Newton steps within a trust region (scipy), in units in
which the loss, at the solution before, curves alike along all axes: so some dozen products a penalty are enough however
correlated the features are, where L-BFGS wanders and Newton steps in the units of the features take hundreds.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax

from zoo_bench.scores.cross_entropy import cross_entropy, logits

_TOLERANCE = 2e-5  # of the norm of the gradient in these units: what the mean loss can still lose is half its square
_STEPS = 200
_LEAST_CURVATURE = 1e-6  # of intercepts, which no penalty holds where rows tell names apart for certain


class Logistic:
    """A logistic regression of names, with an L2 penalty on all but the intercepts.

    Attributes:
        classes: the names, sorted (class,).
        coefficients: float64 (axis or intercept, column); the last row holds the intercepts.
    """

    def __init__(self, rows: np.ndarray, names: np.ndarray, *, device: str | None = None) -> None:
        """Take the training rows.

        Args:
            rows: along their principal axes, about their mean, float32 (row, axis).
            names: of the rows (row,); at least two differ.
            device: as torch names it, where products with the rows are computed; by numpy without one.
        """
        self.classes, codes = np.unique(names, return_inverse=True)
        self._n_rows = len(rows)
        self._entropy = cross_entropy(rows, np.eye(len(self.classes))[codes], device=device)
        # Of two names one column of coefficients tells both, and bears the penalty once.
        columns = len(self.classes) if len(self.classes) > 2 else 1
        self.coefficients = np.zeros((rows.shape[1] + 1, columns))

    def fit(self, penalty: float) -> None:
        """Find the coefficients at a penalty of their squares' half sum, starting from those at the last penalty."""
        strength = penalty / self._n_rows
        penalties = np.full((len(self.coefficients), 1), strength)
        penalties[-1] = 0.0
        curvatures = self._entropy.curvatures()[:, None] + penalties
        units = 1 / np.sqrt(np.maximum(curvatures, _LEAST_CURVATURE * (penalties == 0)))

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            coefficients = units * flat.reshape(self.coefficients.shape)
            value, gradient = self._entropy.loss(coefficients)
            penalised = penalties * coefficients
            return value + (penalised * coefficients).sum() / 2, (units * (gradient + penalised)).ravel()

        def curved(_: np.ndarray, flat: np.ndarray) -> np.ndarray:  # at the coefficients that loss saw last
            along = units * flat.reshape(self.coefficients.shape)
            return (units * (self._entropy.curved(along) + penalties * along)).ravel()

        options = {"gtol": _TOLERANCE, "maxiter": _STEPS}
        start = (self.coefficients / units).ravel()
        solution = minimize(loss, start, jac=True, hessp=curved, method="trust-ncg", options=options).x
        self.coefficients = units * solution.reshape(self.coefficients.shape)

    def shares(self, rows: np.ndarray) -> np.ndarray:
        """Return the probability of each name, of rows along the axes (row, axis): float64 (row, class)."""
        return softmax(logits(rows.astype(np.float64), self.coefficients), axis=1)
