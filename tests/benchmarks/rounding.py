"""What rounding alone changes in trained transformers: torch in float64, whose products round what they multiply.

`python -m tests.benchmarks.rounding "as published" bfloat16` prints what the bounds of `test_transformer_cuda.py` are
twice of. Each training rounds at random to one of the two neighbours, since a single one that rounds to the nearest
says little: its errors add up or cancel by chance.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tests.zoo_gen.population.test_train import relative_difference
from zoo_gen.population import forward

BITS = {"tf32": 11, "bfloat16": 8}  # of a significand
TRAININGS = 16


class _Rounded(torch.autograd.Function):
    """A value that is rounded forward, its gradient backward, or both."""

    @staticmethod
    def forward(ctx, values, rounding, ahead, back):
        ctx.rounding = rounding if back else None
        return rounding(values) if ahead else values.clone()

    @staticmethod
    def backward(ctx, slope):
        return (slope if ctx.rounding is None else ctx.rounding(slope)), None, None, None


@contextmanager
def rounded(precision: str, seed: int | None) -> Iterator[None]:
    """Let torch round as our kernels do: operands of every product, and in bfloat16 tokens between stages as well.

    Args:
        precision: of the kernels.
        seed: of rounding at random; None: toward 0, as matrix units read float32 as tf32 where nothing rounds before.
    """
    generator = torch.Generator().manual_seed(seed or 0)

    def rounding(values: Tensor) -> Tensor:
        significand, exponent = torch.frexp(values)
        significand = significand * 2 ** BITS[precision]
        up = torch.rand(values.shape, dtype=values.dtype, generator=generator)
        narrow = torch.trunc(significand) if seed is None else torch.floor(significand + up)
        return torch.ldexp(narrow / 2 ** BITS[precision], exponent)

    def operand(values: Tensor) -> Tensor:
        return _Rounded.apply(values, rounding, True, False)

    def product(of: Callable[..., Tensor], a: Tensor, b: Tensor, *rest, **more) -> Tensor:
        return _Rounded.apply(of(operand(a), operand(b), *rest, **more), rounding, False, True)

    def stored(values: Tensor) -> Tensor:
        narrow = precision == "bfloat16"
        return _Rounded.apply(values, rounding, narrow, narrow)

    bmm, conv2d, layer_norm, add = torch.bmm, functional.conv2d, functional.layer_norm, forward._add

    def convolution(values, weight, bias=None, *rest, **more):
        outputs = product(conv2d, values, weight, None, *rest, **more)
        return outputs if bias is None else outputs + bias[:, None, None]

    def attention(query, key, value):
        scores = product(torch.matmul, query, key.transpose(-1, -2)) * query.shape[-1] ** -0.5
        return product(torch.matmul, scores.softmax(dim=-1), value)

    with (
        patch.object(torch, "bmm", lambda a, b: product(bmm, a, b)),
        patch.object(torch, "baddbmm", lambda bias, a, b: bias + product(bmm, a, b)),
        patch.object(functional, "conv2d", convolution),
        patch.object(functional, "scaled_dot_product_attention", attention),
        patch.object(functional, "layer_norm", lambda values, *rest, **more: layer_norm(stored(values), *rest, **more)),
        patch.object(forward, "_add", lambda *of: stored(add(*of))),
    ):
        yield


def differences(actual: dict, expected: dict) -> tuple[float, float, float]:
    """Return how far models are from those of float64.

    Returns:
        of the weights' change the difference relative to the change, of all models together and of the median model;
        of the loss, that of the worst model.
    """
    start = expected["weights"][:, 0]
    steps, right = (arrays["weights"][:, -1] - start for arrays in (actual, expected))
    each = [relative_difference(*of_model) for of_model in zip(steps, right, strict=True)]
    loss = np.abs(actual["test_loss"] / expected["test_loss"] - 1).max()
    return relative_difference(steps, right), float(np.median(each)), float(loss)


if __name__ == "__main__":
    from tests.zoo_gen.population.gpu.test_transformer_cuda import in_float64

    torch.set_num_threads(1)
    name, precision = sys.argv[1:]
    expected = in_float64(name)
    rows = []
    for seed in (*range(TRAININGS), *([None] if precision == "tf32" else [])):
        with rounded(precision, seed):
            rows.append(differences(in_float64(name), expected))
        print(*(f"{value:.5f}" for value in rows[-1]), flush=True)
    print("greatest", *(f"{value:.5f}" for value in np.max(rows, axis=0)))
