"""Our kernels between the products of a block on a GPU: in three precisions against the formula in float64."""

import pytest
import torch

from tests.zoo_bench.encoders.hyper_representation.between import (
    activated,
    added_and_normalized,
    dropout_factors,
    gradients,
    operands,
)
from zoo_bench.encoders.hyper_representation import fused, kernel_support

pytestmark = pytest.mark.skipif(
    not kernel_support.has_kernels(), reason="needs a CUDA device with matrix units, and Triton"
)

SHAPES = [(500, 10, 256), (300, 49, 800), (300, 48, 904), (400, 1, 800), (7, 58, 512), (3, 5, 20)]  # row, token, width
DTYPES = [torch.bfloat16, torch.float16, torch.float32]


def assert_near(actual, expected, dtype):
    errors = [
        ((one.double() - other).norm() / other.norm()).item() for one, other in zip(actual, expected, strict=True)
    ]
    assert max(errors) < (1e-5 if dtype == torch.float32 else 1e-2), errors


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sum_and_norm_and_their_gradients_are_those_of_the_formula(shape, dropout, dtype):
    seed = torch.tensor([11], device="cuda") if dropout else None
    factors = dropout_factors(shape, seed=seed, dropout=dropout, device="cuda").double()
    inputs = operands(*shape, device="cuda", dtype=dtype)
    actual = gradients(lambda *tensors: fused._add_and_normalize(*tensors, seed, dropout)[:2], inputs)
    expected = gradients(lambda *tensors: added_and_normalized(*tensors, factors), inputs, dtype=torch.float64)
    assert_near(actual, expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_activation_and_its_gradient_are_those_of_the_formula(shape, dropout, dtype):
    seed = torch.tensor([17], device="cuda") if dropout else None
    factors = dropout_factors(shape, seed=seed, dropout=dropout, device="cuda").double()
    assert (factors > 0).double().mean().item() == pytest.approx(1 - dropout, abs=0.05)
    _, product, bias, _, _ = operands(*shape, device="cuda", dtype=dtype)
    actual = gradients(lambda *tensors: fused._activate(*tensors, seed, dropout), (product, bias))
    expected = gradients(lambda *tensors: activated(*tensors, factors), (product, bias), dtype=torch.float64)
    assert_near(actual, expected, dtype)


def test_every_entry_is_written_whatever_was_there():
    inputs = operands(100, 49, 800, device="cuda", dtype=torch.bfloat16)
    seed = torch.tensor([5], device="cuda")

    def computed():
        return gradients(lambda *tensors: fused._add_and_normalize(*tensors, seed, 0.1)[:2], inputs)

    first = computed()
    poison = [torch.full((100, 49, 800), torch.nan, device="cuda", dtype=torch.bfloat16) for _ in range(8)]
    del poison  # whose memory the next results get
    for one, other in zip(first, computed(), strict=True):
        assert torch.equal(one, other)
