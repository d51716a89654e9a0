"""Activation functions, element by element, to the same bits wherever in a tensor a model's values lie.

torch computes a tensor two vector registers at a time, and what is left at its end number by number, with functions of
another library; of sigmoid, silu, gelu, elu, celu and selu these give other last bits. So zeros make tensors up to
whole registers. Every gradient lies in memory as its values do, whatever the functions of the company are.
"""

import math

from torch import Tensor
from torch.nn import functional

from zoo_gen.architecture.layers import Activation
from zoo_gen.architecture.modules import FUNCTIONS

_NUMBERS = 32  # two registers of 16 numbers, the widest
_ALIKE = ("tanh", "relu", "leaky_relu", "sine", "identity")  # whose last values torch computes as all others


def activate(function: Activation, values: Tensor) -> Tensor:
    """Return an activation function of values (any shape), which lie in memory as these.

    >>> import torch
    >>> activate("silu", torch.zeros(3)).tolist()
    [0.0, 0.0, 0.0]
    """
    compute = FUNCTIONS[function]
    if values.is_cuda:
        return compute(values)
    order = in_memory(values)
    lying = values.permute(order)
    flat, missing = lying.reshape(-1), 0 if function in _ALIKE else -values.numel() % _NUMBERS
    computed = compute(functional.pad(flat, (0, missing)))[: len(flat)] if missing else compute(flat)
    return computed.view(lying.shape).permute([order.index(axis) for axis in range(len(order))])


def in_memory(values: Tensor) -> list[int]:
    """Return the axes of values in the order in which they lie in memory, the outermost first."""
    return sorted(range(values.dim()), key=lambda axis: values.stride(axis) or math.inf, reverse=True)
