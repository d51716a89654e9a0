"""Numbers of other types as float32, the type of a zoo's weights: exactly, rounded and said so, or refused."""

import numpy as np

from zoo_gen.errors import ZooError

_EXACT_TO = 2**24  # whole numbers up to which float32 holds every one


def as_float32(values: np.ndarray, *, where: str) -> tuple[np.ndarray, bool]:
    """Return numbers as float32, and whether any of them was rounded; only those of float64 are.

    Raises:
        ZooError: they are no real numbers, a whole number is none of float32's, or one of float64 is beyond its range.
    """
    if values.dtype == np.float32:
        return values, False
    if values.dtype.kind not in "fiub":
        raise ZooError(f"{where}: holds numbers of type {values.dtype}; expected real numbers")
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    if values.dtype.kind == "f":
        beyond = np.isfinite(values) & ~np.isfinite(narrow)
        if beyond.any():
            raise ZooError(f"{where}: holds {values[beyond].flat[0]:g} of type {values.dtype}, beyond float32's range")
        return narrow, bool(((narrow != values) & ~np.isnan(values)).any())
    if values.dtype.itemsize > 2:
        for number in np.unique(values[(values > _EXACT_TO) | (values < -_EXACT_TO)]):
            if int(np.float32(number)) != int(number):
                raise ZooError(f"{where}: holds {number} of type {values.dtype}, which float32 cannot hold exactly")
    return narrow, False
