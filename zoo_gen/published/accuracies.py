"""Accuracies as fractions: those above 1 are per cent, which nobody but their publisher can say for certain."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from zoo_gen.errors import ZooError, argument

Unit = Literal["percent", "fraction"]
UNITS = ("percent", "fraction")
_ROUNDING = 1e-6
_PERCENT = 100


def is_accuracy(metric: str) -> bool:
    """Return whether a metric is an accuracy by its name."""
    return metric.lower().endswith(("accuracy", "acc"))


def as_fractions(values: np.ndarray, unit: Unit | None, *, where: Callable[[int], str]) -> tuple[np.ndarray, str]:
    """Return accuracies as fractions, and what was done to them.

    Args:
        values: of any shape, NaN where not measured.
        unit: what they are, if the caller knows.
        where: names the value at a position of the flattened values.

    Raises:
        ZooError: one is no accuracy, or is above 1 and the unit is not known.
    """
    flat = values.reshape(-1)
    known = np.isfinite(flat)
    no_share = np.flatnonzero((known & ((flat < -_ROUNDING) | (flat > _PERCENT * (1 + _ROUNDING)))) | np.isinf(flat))
    if len(no_share):
        first = int(no_share[0])
        raise ZooError(f"{where(first)} is {flat[first]:g}; expected an accuracy, or nothing where it was not measured")
    if unit == "percent":
        return values / _PERCENT, "per cent, divided by 100"
    above = np.flatnonzero(known & (flat > 1 + _ROUNDING))
    if len(above) and unit is None:
        first = int(above[0])
        raise ZooError(
            f"{where(first)} is {flat[first]:g}; expected fractions up to 1, or "
            f"{argument('accuracies', 'percent')}, which divides them by 100 ({argument('accuracies', 'fraction')} "
            "keeps them)"
        )
    return values, "above 1 in places, kept as it is" if len(above) else ""
