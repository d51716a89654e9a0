"""Logistic regression at falling penalties, each solution found from the one before it.

It minimises what scikit-learn's LogisticRegression does, by L-BFGS (scipy), in coordinates in which the loss curves
alike in all directions. They follow from its curvature, which is computed again once the steps have taken as long as
that does: at weak penalties only a few rows are in doubt, and which these are changes from step to step.
"""

import math
from contextlib import suppress
from typing import Literal

import numpy as np
from scipy.linalg import LinAlgError, cholesky, solve_triangular
from scipy.optimize import OptimizeResult, minimize
from scipy.special import softmax

from zoo_bench.scores.cross_entropy import CrossEntropy, contrasts, logits

_TOLERANCE = 1e-4  # of the norm of the gradient in these coordinates: what the mean loss can lose is half its square
_REMEMBERED = 30  # steps, from which L-BFGS learns how the loss curves
_STEPS = 5000  # at most, at a penalty
_LEAST_CURVATURE = 1e-6  # of intercepts, which no penalty holds where rows tell names apart for certain
_CURVATURE_COSTS = 0.015  # steps for each axis and pair of names: so many take longer than all of the curvature
_MOST = 5000  # coefficients, whose curvature has the square of it numbers
_SLACKS = (1e-5, 1e-3)  # of the curvature along each axis: what float32 rounds, and much more


class Logistic:
    """A logistic regression of names, with an L2 penalty on all but the intercepts.

    Attributes:
        classes: the names, sorted (name,).
        coefficients: float64 (axis or intercept, contrast of names); the last row holds the intercepts.
        steps: that the last penalty took.
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
        self.steps = 0
        self._curvature = self._entropy.squares()  # that is all of it at 0, as rows lie along their principal axes
        costs = math.ceil(_CURVATURE_COSTS * math.comb(len(self.classes), 2) * len(rows.T))
        self._at_once = costs if self.coefficients.size <= _MOST else _STEPS  # steps in the same coordinates

    def fit(self, penalty: float) -> None:
        """Find the coefficients at a penalty of their squares' half sum, starting from those at the last penalty."""
        self.steps = 0
        while not self._step(penalty) and self.steps < _STEPS:
            self._curvature = self._entropy.curvature()

    def _step(self, penalty: float) -> bool:
        """Take steps in coordinates of the curvature that was computed last; say whether they reached the solution."""
        penalties = np.full((len(self.coefficients), 1), penalty / self._n_rows)
        penalties[-1] = 0.0
        coordinates = _Coordinates(self._curvature, penalties)
        norm = math.inf

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            nonlocal norm
            coefficients = coordinates.coefficients(flat)
            value, gradient = self._entropy.loss(coefficients)
            penalised = penalties * coefficients
            along = coordinates.gradient(gradient + penalised)
            norm = float(np.linalg.norm(along))
            return value + (penalised * coefficients).sum() / 2, along

        def end(intermediate_result: OptimizeResult) -> None:
            if norm <= _TOLERANCE:
                raise StopIteration

        start = coordinates.of(self.coefficients)
        options = {"maxcor": _REMEMBERED, "maxiter": self._at_once, "maxfun": math.inf, "ftol": 0, "gtol": 0}
        solution = minimize(loss, start, jac=True, method="L-BFGS-B", callback=end, options=options)
        self.coefficients = coordinates.coefficients(solution.x)
        self.steps += solution.nfev
        return norm <= _TOLERANCE or solution.nit < self._at_once

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
        added = np.broadcast_to(penalties.T, self._shape).ravel()
        is_whole = curvature.ndim == 4
        by_pairs = curvature.reshape(added.size, -1)
        along = added + (np.diagonal(by_pairs) if is_whole else by_pairs.ravel())
        self._units = 1 / np.sqrt(np.maximum(along, _LEAST_CURVATURE * (added == 0)))
        self._factor = None
        if is_whole:
            units = self._units.astype(np.float32)
            self._factor = _factor(units[:, None] * by_pairs * units)

    def of(self, coefficients: np.ndarray) -> np.ndarray:
        """Return the coordinates of coefficients."""
        scaled = coefficients.T.ravel() / self._units
        return scaled if self._factor is None else self._factor.T @ scaled

    def coefficients(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the coefficients that have these coordinates."""
        return np.ascontiguousarray((self._units * self._solved(coordinates, trans="T")).reshape(self._shape).T)

    def gradient(self, by_coefficients: np.ndarray) -> np.ndarray:
        """Return the derivative by the coordinates from that by the coefficients."""
        return self._solved(self._units * by_coefficients.T.ravel(), trans="N")

    def _solved(self, column: np.ndarray, *, trans: Literal["T", "N"]) -> np.ndarray:
        if self._factor is None:
            return column
        narrow = column.astype(np.float32)
        return solve_triangular(self._factor, narrow, lower=True, trans=trans, check_finite=False).astype(np.float64)


def _factor(curvature: np.ndarray) -> np.ndarray | None:
    """Return the Cholesky factor of a curvature whose diagonal is about 1; None if rounding left it none."""
    for slack in _SLACKS:
        np.fill_diagonal(curvature, 1 + slack)
        with suppress(LinAlgError):
            return np.asarray(cholesky(curvature, lower=True, check_finite=False))
    return None
