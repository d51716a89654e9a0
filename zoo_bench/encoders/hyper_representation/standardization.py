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
        some = rows[np.arange(min(len(rows), ROWS)) * len(rows) // min(len(rows), ROWS)]
        middle, spread = np.zeros(layout.size, np.float32), np.ones(layout.size, np.float32)
        for parameter in layout.parameters:
            part = slice(parameter.start, parameter.stop)
            values = some[:, part].astype(np.float64)
            low, median, high = np.percentile(values, QUANTILES)
            # Where most numbers are one, as biases are at first, quantiles meet, and the deviation alone is left.
            width = (high - low) / 2 if high > low else values.std()
            middle[part], spread[part] = median, width or 1.0
        return cls(middle, spread)

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Return standardised rows, float32 (row, parameter)."""
        units = (rows - self.middle) / self.spread
        distance = np.abs(units)
        drawn_in = np.sign(units) * (FAR + np.log1p(np.maximum(distance - FAR, 0)))
        return np.where(distance <= FAR, units, drawn_in).astype(np.float32)
