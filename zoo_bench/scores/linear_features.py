"""What linear probes are fitted to and return: features in three parts, and predictions with their errors."""

from dataclasses import dataclass
from typing import Self

import numpy as np

_BLOCK = 16384  # rows that are widened to float64 at once


@dataclass(frozen=True)
class Features:
    """Features of the training, validation and test rows, float32 (row, feature)."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

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


def products(rows: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return X'X (feature, feature) and X'Y (feature, target) in float64, a block of rows at a time."""
    gram = np.zeros((rows.shape[1], rows.shape[1]))
    moment = np.zeros((rows.shape[1], targets.shape[1]))
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK].astype(np.float64)
        gram += block.T @ block
        moment += block.T @ targets[start : start + _BLOCK]
    return gram, moment
