"""Products of matrices, one a model, that have the same bytes for a model alone and in company.

MKL has other kernels for one product than for many where a matrix is a row or a column, and they add up in another
order. So a lone model's product is computed twice as one of two models there. Where matrices lie in memory is no
matter in the mode of `machine.mkl`; whether they are transposed is, and `forward` keeps that from depending on company.
"""

import torch
from torch import Tensor


def product_of_columns(weight: Tensor, values: Tensor, bias: Tensor | None, *, as_plain: bool = False) -> Tensor:
    """Return (model, output, column) of weights (model, output, input) and values (model, input, column).

    Args:
        weight: the weights.
        values: the values.
        bias: (model, output), or none.
        as_plain: compute a lone model as its plain module does, which may differ from its bytes in company.
    """
    return _product(weight, values, None if bias is None else bias.unsqueeze(2), as_plain=as_plain)


def product_of_rows(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return (model, row, output) of values (model, row, input) and weights (model, output, input)."""
    return _product(values, weight.transpose(1, 2), None if bias is None else bias.unsqueeze(1))


def _product(left: Tensor, right: Tensor, added: Tensor | None, *, as_plain: bool = False) -> Tensor:
    # Of (row x inner) times (inner x column), and of both gradients, a matrix is a vector where one of the three is 1.
    is_of_vectors = 1 in (*left.shape[1:], right.shape[2])
    if len(left) > 1 or left.is_cuda or as_plain or not is_of_vectors:
        return torch.bmm(left, right) if added is None else torch.baddbmm(added, left, right)
    left, right = (each.expand(2, -1, -1) for each in (left, right))
    twice = torch.bmm(left, right) if added is None else torch.baddbmm(added.expand(2, -1, -1), left, right)
    return twice[:1]
