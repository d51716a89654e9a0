"""What linear probes are fitted to and return: features in three parts, and predictions with their errors.

All penalties and all targets of ridge regressions share one eigendecomposition, of whichever Gram matrix is the
smaller: that of the features, or where these outnumber the rows, that of the rows.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any, Self

import numpy as np

_BLOCK = 2**25  # numbers that are widened to float64 at once


@dataclass(frozen=True)
class Axes:
    """Principal axes of rows X about a centre c: X - c = U S V'.

    Attributes:
        centre: c (feature,).
        directions: V, float64 (feature, axis).
        squares: the squares of S, float64 (axis,).
    """

    centre: np.ndarray
    directions: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, centre: np.ndarray) -> Self:
        """Return the axes of rows (row, feature) along which they vary by more than rounding."""
        n_rows, n_features = rows.shape
        if n_features <= n_rows:
            gram = np.zeros((n_features, n_features))
            for block in blocks(n_rows, n_features):
                centred = rows[block].astype(np.float64) - centre
                gram += centred.T @ centred
            squares, directions = np.linalg.eigh(gram)
            varies = _beyond_rounding(squares)
            return cls(centre, directions[:, varies], squares[varies])
        gram = np.zeros((n_rows, n_rows))
        for block in blocks(n_features, n_rows):
            centred = rows[:, block].astype(np.float64) - centre[block]
            gram += centred @ centred.T
        squares, left = np.linalg.eigh(gram)
        varies = _beyond_rounding(squares)
        scaled = left[:, varies] / np.sqrt(squares[varies])
        directions = np.empty((n_features, scaled.shape[1]))
        for block in blocks(n_features, n_rows):
            directions[block] = (rows[:, block].astype(np.float64) - centre[block]).T @ scaled
        return cls(centre, directions, squares[varies])

    def moments(self, rows: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return V'(X - c)'Y of the rows X that the axes are of, (axis, target)."""
        moments = np.zeros((rows.shape[1], targets.shape[1]))
        for block in blocks(*rows.shape):
            moments += (rows[block].astype(np.float64) - self.centre).T @ targets[block]
        return self.directions.T @ moments

    def coefficients(self, moments: np.ndarray, penalties: np.ndarray | float) -> np.ndarray:
        """Return what ridge regressions multiply centred features by, (feature, target).

        Args:
            moments: of the targets (axis, target).
            penalties: added to the Gram matrix, one for all targets or one each (target,).
        """
        return self.directions @ (moments / (self.squares[:, None] + penalties))

    def along(self, rows: np.ndarray) -> np.ndarray:
        """Return rows (row, feature) along the axes, float32 (row, axis)."""
        return rows @ self.directions.astype(np.float32) - (self.centre @ self.directions).astype(np.float32)


@dataclass(frozen=True)
class Features:
    """Features of the training, validation and test rows, float32 (row, feature)."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    _lock: AbstractContextManager[Any] = field(default_factory=Lock, init=False, repr=False)

    @cached_property
    def axes(self) -> Axes:
        """The principal axes of the training rows about their mean."""
        return Axes.of(self.train, self.train.mean(axis=0, dtype=np.float64))

    @property
    def along_axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The training, validation and test rows along these axes, float32 (row, axis) each; computed by one thread."""
        with self._lock:
            return self._along_axes

    @cached_property
    def _along_axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.axes.along(self.train), self.axes.along(self.validation), self.axes.along(self.test)

    def of_rows(self, train: np.ndarray, validation: np.ndarray) -> Self:
        """Return the features of some of the training and validation rows, bool (row,)."""
        if train.all() and validation.all():
            return self
        return type(self)(self.train[train], self.validation[validation], self.test)


@dataclass(frozen=True)
class Regression:
    """What a probe predicts of several numbers."""

    predicted: np.ndarray  # of the test rows, float64 (row, target)
    penalties: np.ndarray  # (target,)
    errors: np.ndarray  # mean squared ones of the validation rows (target,)


@dataclass(frozen=True)
class Classification:
    """What a probe predicts of one target of names."""

    predicted: np.ndarray  # of the test rows (row,)
    penalty: float | None  # None where nothing was chosen
    error: float  # the share of the validation rows that are wrong


def _beyond_rounding(squares: np.ndarray) -> np.ndarray:
    """Return which eigenvalues of a Gram matrix, rising (axis,), are more than its rounding, bool (axis,)."""
    return squares > len(squares) * np.finfo(np.float64).eps * squares[-1]


def blocks(count: int, width: int) -> list[slice]:
    """Return slices of `count` lines of so many numbers each, none of more numbers than are widened at once."""
    size = max(1, _BLOCK // width)
    return [slice(start, start + size) for start in range(0, count, size)]
