"""Filling: models, or columns of theirs, made up to whole vector registers by copies whose results are thrown away.

torch's sums over rows take four registers of columns at a time, and the columns that are left in another order. Of 64
nothing is left: a register holds 16 numbers of 32 bits at most. Its convolutions have other kernels for other numbers
of models. So no model's bytes depend on its place or its company.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

COLUMNS = 64  # of four registers


def filled(values: Tensor, axis: int, multiple: int) -> Tensor:
    """Return values (..., model, ...) of a multiple of so many models; copies have no gradient.

    >>> filled(torch.tensor([[1.0, 2.0]]), 1, 4)
    tensor([[1., 2., 1., 1.]])
    """
    return _Fill.apply(values, axis, multiple) if values.shape[axis] % multiple else values


def first(values: Tensor, axis: int, count: int) -> Tensor:
    """Return the first of filled values (..., model, ...), contiguous, with a contiguous gradient.

    >>> first(torch.tensor([[1.0, 2.0, 1.0, 1.0]]), 1, 2)
    tensor([[1., 2.]])
    """
    return _First.apply(values, axis, count)


class _First(torch.autograd.Function):
    """With a gradient that lies in memory alike, whether anything is thrown away or not."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, axis: int, count: int) -> Tensor:
        """Return what `first` says."""
        ctx.axis, ctx.missing = axis, values.shape[axis] - count
        return values.narrow(axis, 0, count).contiguous()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient, with zeros for what was thrown away."""
        after = [*[0] * (2 * (gradient.dim() - ctx.axis - 1)), 0, ctx.missing]
        return functional.pad(gradient.contiguous(), after) if ctx.missing else gradient.contiguous(), None, None


class _Fill(torch.autograd.Function):
    """With a gradient that lies in memory as that of models which need no filling: sums round by how values lie."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, axis: int, multiple: int) -> Tensor:
        """Return what `filled` says."""
        ctx.axis, ctx.count = axis, values.shape[axis]
        shape = list(values.shape)
        shape[axis] = -ctx.count % multiple
        return torch.cat([values, values.narrow(axis, 0, 1).expand(shape)], dim=axis)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of the models that were there."""
        return gradient.narrow(ctx.axis, 0, ctx.count).contiguous(), None, None
