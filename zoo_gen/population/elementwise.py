"""Activation functions, element by element, to the same bits wherever in a tensor a model's values lie.

torch computes a tensor two vector registers at a time, and what is left at its end number by number, with functions of
another library; of sigmoid, silu, gelu, elu, celu and selu these give other last bits. So zeros make tensors up to
whole registers. Every gradient lies in memory as its values do, whatever the functions of the company are.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from zoo_gen.architecture.layers import Function
from zoo_gen.architecture.modules import FUNCTIONS

_NUMBERS = 32  # two registers of 16 numbers, the widest
_ALIKE = ("tanh", "relu", "leaky_relu", "sine", "identity")  # whose last values torch computes as all others


def activate(runs: Sequence[tuple[Function | None, slice]], values: Tensor, *, axis: int) -> Tensor:
    """Return an activation function of the values of each run of neighbouring models, which lie in memory as these.

    >>> import torch
    >>> activate([("silu", slice(0, 2)), ("relu", slice(2, 3))], torch.tensor([0.0, 0.0, -1.0]), axis=0).tolist()
    [0.0, 0.0, 0.0]

    Args:
        runs: name of a function, and its models; all models in order.
        values: of any shape.
        axis: of the models.
    """
    if len(runs) == 1 and values.is_contiguous():  # nothing to reorder, which would slow down the short steps of MLPs
        return _computed(runs[0][0], values)
    order = sorted(range(values.dim()), key=lambda each: values.stride(each) or math.inf, reverse=True)
    lying, models = values.permute(order), order.index(axis)
    parts = [_computed(name, lying.narrow(models, rows.start, rows.stop - rows.start)) for name, rows in runs]
    joined = parts[0] if len(parts) == 1 else torch.cat(parts, dim=models)
    return joined.permute([order.index(each) for each in range(len(order))])


def _computed(name: Function | None, lying: Tensor) -> Tensor:
    """Return a function of values in the order in which they lie in memory."""
    assert name is not None  # a model whose layers name no function has one
    function, missing = FUNCTIONS[name], 0 if name in _ALIKE else -lying.numel() % _NUMBERS
    if lying.is_cuda:
        return function(lying)
    flat = lying.reshape(-1)
    computed = function(functional.pad(flat, (0, missing)))[: len(flat)] if missing else function(flat)
    return computed.view(lying.shape)
