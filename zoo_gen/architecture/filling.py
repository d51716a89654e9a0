"""Filling: models made up to whole vector registers by copies of the first, whose results are thrown away.

torch's functions of single numbers take two registers at a time, its sums over rows four, and what is left at the end
of a tensor by other code, which rounds otherwise. Of 64 models, as of any multiple, nothing is left, whatever their
shapes: a register holds 16 numbers of 32 bits at most. So no model's bytes depend on its place or its company.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_leaves, tree_map

MODELS = 64
Tree = Any  # tensors in dictionaries, lists and tuples


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


def filled_tree(tree: Tree, axis: int = 0, multiple: int = MODELS) -> Tree:
    """Return tensors (..., model, ...) in dictionaries, lists and tuples, each of a multiple of so many models.

    >>> filled_tree({"weight": torch.zeros(3, 2)})["weight"].shape
    torch.Size([64, 2])
    """
    return tree_map(lambda each: filled(each, axis, multiple), tree)


def count(tree: Tree) -> int:
    """Return how many models tensors (model, ...) have.

    >>> count({"weight": torch.zeros(3, 2)})
    3
    """
    return len(tree_leaves(tree)[0])
