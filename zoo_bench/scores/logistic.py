"""Logistic regression at falling penalties, each solution found from the one before it.

It minimises what scikit-learn's LogisticRegression does, by Newton steps within a trust region (scipy). Steps are in
coordinates in which the loss curved alike in all directions at the solution before: where only a few rows are in doubt,
as at weak penalties, that takes far fewer products with the rows than steps along their principal axes.
"""

import math
from contextlib import suppress
from typing import Literal

import numpy as np
from scipy.linalg import LinAlgError, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.special import softmax

from zoo_bench.scores.cross_entropy import CrossEntropy, contrasts, logits

_TOLERANCE = 1e-4  # of the norm of the gradient in these coordinates: what the mean loss can lose is half its square
_STEPS = 200
_LEAST_CURVATURE = 1e-6  # of intercepts, which no penalty holds where rows tell names apart for certain
_CURVATURE_COSTS = 0.015  # products for each axis and pair of names: so many take longer than all of the curvature
_MOST = 5000  # coefficients, whose curvature has the square of it numbers
_SLACKS = (1e-6, 1e-4)  # of the curvature along each axis: more than float32 rounds, and much more


class Logistic:
    """A logistic regression of names, with an L2 penalty on all but the intercepts.

    Attributes:
        classes: the names, sorted (name,).
        coefficients: float64 (axis or intercept, contrast of names); the last row holds the intercepts.
    """

    def __init__(self, rows: np.ndarray, names: np.ndarray) -> None:
        """Take the training rows.

        Args:
            rows: along their principal axes, about their mean, float32 (row, axis).
            names: of the rows (row,); at least two differ.
        """
        self.classes, codes = np.unique(names, return_inverse=True)
        self._n_rows = len(rows)
        self._entropy = CrossEntropy(rows, np.eye(len(self.classes))[codes])
        self.coefficients = np.zeros((rows.shape[1] + 1, contrasts(len(self.classes)).shape[1]))
        self._curvature = self._entropy.squares()  # that is all of it at 0, as rows lie along their principal axes
        self._products = 0  # that the penalty before took
        n_pairs = math.comb(len(self.classes), 2)
        self._costs = _CURVATURE_COSTS * n_pairs * len(rows.T) if self.coefficients.size <= _MOST else math.inf

    def fit(self, penalty: float) -> None:
        """Find the coefficients at a penalty of their squares' half sum, starting from those at the last penalty."""
        if self._products > self._costs:
            self._curvature = self._entropy.curvature()
        penalties = np.full((len(self.coefficients), 1), penalty / self._n_rows)
        penalties[-1] = 0.0
        coordinates = _Coordinates(self._curvature, penalties)
        self._products = 0

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            self._products += 1
            coefficients = coordinates.coefficients(flat)
            value, gradient = self._entropy.loss(coefficients)
            penalised = penalties * coefficients
            return value + (penalised * coefficients).sum() / 2, coordinates.gradient(gradient + penalised)

        def curved(_: np.ndarray, flat: np.ndarray) -> np.ndarray:  # at the coefficients that loss saw last
            self._products += 1
            along = coordinates.coefficients(flat)
            return coordinates.gradient(self._entropy.curved(along) + penalties * along)

        options = {"gtol": _TOLERANCE, "maxiter": _STEPS}
        start = coordinates.of(self.coefficients)
        solution = minimize(loss, start, jac=True, hessp=curved, method="trust-ncg", options=options).x
        self.coefficients = coordinates.coefficients(solution)

    def shares(self, rows: np.ndarray) -> np.ndarray:
        """Return the probability of each name, of rows along the axes (row, axis): float64 (row, name)."""
        return softmax(logits(rows.astype(np.float64), self.coefficients), axis=1)


class _Coordinates:
    """Coordinates (coordinate,) of coefficients (axis or intercept, contrast) in which a loss curves alike everywhere.

    Args:
        curvature: of the loss, as `CrossEntropy.squares` or `CrossEntropy.curvature` returns it.
        penalties: the curvature that the penalty adds (axis or intercept, 1).
    """

    def __init__(self, curvature: np.ndarray, penalties: np.ndarray) -> None:
        self._shape = curvature.shape[:2]
        added = np.broadcast_to(penalties, self._shape).ravel()
        by_pairs = curvature.reshape(added.size, -1)  # of a diagonal, one column
        along = added + (np.diagonal(by_pairs) if curvature.ndim == 4 else by_pairs[:, 0])
        self._units = 1 / np.sqrt(np.maximum(along, _LEAST_CURVATURE * (added == 0)))
        self._factor = None
        if curvature.ndim == 4:
            self._factor = _factor(self._units[:, None] * by_pairs * self._units)

    def of(self, coefficients: np.ndarray) -> np.ndarray:
        """Return the coordinates of coefficients."""
        scaled = coefficients.ravel() / self._units
        return scaled if self._factor is None else self._factor.T @ scaled

    def coefficients(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the coefficients that have these coordinates."""
        return (self._units * self._solved(coordinates, trans="T")).reshape(self._shape)

    def gradient(self, by_coefficients: np.ndarray) -> np.ndarray:
        """Return the derivative by the coordinates from that by the coefficients."""
        return self._solved(self._units * by_coefficients.ravel(), trans="N")

    def _solved(self, column: np.ndarray, *, trans: Literal["T", "N"]) -> np.ndarray:
        if self._factor is None:
            return column
        return solve_triangular(self._factor, column, lower=True, trans=trans, check_finite=False)


def _factor(curvature: np.ndarray) -> np.ndarray | None:
    """Return the Cholesky factor of a curvature whose diagonal is about 1; None if rounding left it none."""
    for slack in _SLACKS:
        np.fill_diagonal(curvature, 1 + slack)
        with suppress(LinAlgError):
            return np.asarray(cholesky(curvature, lower=True, check_finite=False))
    return None
