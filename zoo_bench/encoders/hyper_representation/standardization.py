"""Standardised weights: each tensor in units of its own spread over the training networks, with tails drawn in.

Tensors differ in size by orders of magnitude, and a few networks whose weights explode would rule a squared error.
Later work on hyper-representations standardises weights layer by layer (Schürholt et al., NeurIPS 2022; SANE, ICML
2024); middle and spread are medians and quantiles here, and what lies far outside grows as a logarithm.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from zoo_gen.architecture.layout import ParameterLayout

FAR = 3.0  # deviations from the middle beyond which only the logarithm of the distance counts
QUANTILES = (15.87, 50.0, 84.13)  # of a normal distribution: one deviation below the mean, the mean, one above
ROWS = 2048  # training rows at most that middle and spread are taken from, spread evenly


@dataclass(frozen=True)
class Standardization:
    """Middle and spread of each number of a network; all numbers of a tensor share them, so units may change places.

    Attributes:
        middle: float32 (parameter,).
        spread: float32 (parameter,), above 0.
    """

    middle: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, layout: ParameterLayout) -> Self:
        """Return that of training rows (row, parameter)."""
        some = spread_rows(rows)
        middle, spread = np.zeros(layout.size, np.float32), np.ones(layout.size, np.float32)
        for parameter in layout.parameters:
            part = slice(parameter.start, parameter.stop)
            middle[part], spread[part] = middle_and_spread(some[:, part])
        return cls(middle, spread)

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Return standardised rows, float32 (row, parameter)."""
        return drawn_in((rows - self.middle) / self.spread)


def spread_rows(rows: np.ndarray, most: int = ROWS) -> np.ndarray:
    """Return at most so many rows (row, ...), spread evenly."""
    count = min(len(rows), most)
    return rows[np.arange(count) * len(rows) // max(count, 1)]


def middle_and_spread(values: np.ndarray) -> tuple[float, float]:
    """Return the median of some values, and half the distance between the quantiles that are two deviations apart."""
    values = values.astype(np.float64)
    low, median, high = np.percentile(values, QUANTILES)
    # Where most numbers are one, as biases are at first, quantiles meet, and the deviation alone is left.
    width = (high - low) / 2 if high > low else values.std()
    return float(median), float(width or 1.0)


def drawn_in(units: np.ndarray) -> np.ndarray:
    """Return standardised numbers with what lies far outside drawn in, float32 (..., number)."""
    distance = np.abs(units)
    tails = np.sign(units) * (FAR + np.log1p(np.maximum(distance - FAR, 0)))
    return np.where(distance <= FAR, units, tails).astype(np.float32)
