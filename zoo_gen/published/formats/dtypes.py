"""Tensors of every type that torch and safetensors write, as arrays of real numbers that hold the same values.

Types that no real number of float32 can stand for are refused by name: complex, quantised and packed ones.
"""

from typing import Any

import numpy as np

from zoo_gen.errors import ZooError
from zoo_gen.published.archives.pickles import array_of

_NUMPY = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
_FLOATS = ("float64", "float32", "float16", "bfloat16")
_FLOAT8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")


def numbers_of(value: Any, *, where: str) -> tuple[np.ndarray, str]:
    """Return the numbers of a tensor that was read, exactly, and the name of its type.

    Raises:
        ZooError: it is of a type or form that is not kept, or says that it is larger than the numbers it has.
    """
    import torch

    dtype = str(value.dtype).removeprefix("torch.")
    form = str(value.layout).removeprefix("torch.")
    if value.is_quantized:
        raise ZooError(f"{where}: is quantised ({dtype}); expected numbers, as tensor.dequantize() gives them")
    if value.dtype.is_complex:
        raise ZooError(f"{where}: is complex ({dtype}); expected real numbers, as torch.view_as_real gives them")
    if value.is_nested or form != "strided":
        raise ZooError(f"{where}: is stored as {'nested' if value.is_nested else form}; expected a dense tensor")
    if value.device.type == "meta":
        raise ZooError(f"{where}: has a shape and no numbers (a meta tensor); expected a tensor with its numbers")
    if dtype in _FLOAT8:
        bits = torch.from_numpy(array_of(value.view(torch.uint8), where=where))
        return bits.view(value.dtype).float().numpy(), dtype
    if dtype not in (*_NUMPY, *_FLOATS):
        raise ZooError(f"{where}: is of type {dtype}; expected one of {', '.join((*_FLOATS, *_FLOAT8, *_NUMPY))}")
    return array_of(value.resolve_neg(), where=where), dtype
