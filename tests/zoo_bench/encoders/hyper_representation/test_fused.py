"""Our kernels between the products of a block against the formula in float64; Triton's interpreter runs them."""

import pytest
import torch

from tests.zoo_bench.encoders.hyper_representation.between import (
    activated,
    added_and_normalized,
    dropout_factors,
    gradients,
    operands,
)
from zoo_bench.encoders.hyper_representation import fused

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="compiled here; test_fused_cuda.py runs them")

SHAPES = [(3, 5, 16), (2, 7, 100), (1, 9, 256), (2, 1, 904)]  # row, token, width


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sum_and_norm_and_their_gradients_are_those_of_the_formula(shape, dropout):
    seed = torch.tensor([2**31 - 5]) if dropout else None
    factors = dropout_factors(shape, seed=seed, dropout=dropout)
    inputs = operands(*shape)
    actual = gradients(lambda *tensors: fused._add_and_normalize(*tensors, seed, dropout)[:2], inputs)
    expected = gradients(lambda *tensors: added_and_normalized(*tensors, factors), inputs, dtype=torch.float64)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_activation_and_its_gradient_are_those_of_the_formula(shape, dropout):
    seed = torch.tensor([17]) if dropout else None
    factors = dropout_factors(shape, seed=seed, dropout=dropout)
    _, product, bias, _, _ = operands(*shape)
    actual = gradients(lambda *tensors: fused._activate(*tensors, seed, dropout), (product, bias))
    expected = gradients(lambda *tensors: activated(*tensors, factors), (product, bias), dtype=torch.float64)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


def test_dropout_keeps_its_share_everywhere_and_each_entry_alone():
    left = (dropout_factors((40, 8, 200), seed=torch.tensor([3]), dropout=0.1) > 0).float()
    n = left.numel()
    assert left.mean().item() == pytest.approx(0.9, abs=4 * (0.09 / n) ** 0.5)
    for axis in range(3):  # neighbours along no axis go together, nor do those that share a call of the generator
        for apart in range(1, 8):
            size = left.shape[axis] - apart
            first, second = left.narrow(axis, 0, size), left.narrow(axis, apart, size)
            pair = torch.stack([first.flatten(), second.flatten()])
            assert torch.corrcoef(pair)[0, 1].item() == pytest.approx(0, abs=4.5 / pair.shape[1] ** 0.5)


def test_another_seed_drops_others_and_no_rate_draws_nothing():
    tokens, product, bias, weight, shift = operands(2, 5, 64)

    def drawn(dropout):
        return fused.add_and_normalize(tokens, product, bias, weight, shift, dropout=dropout)[0].detach()

    torch.manual_seed(4)
    first, second = drawn(0.5), drawn(0.5)
    torch.manual_seed(4)
    assert torch.equal(drawn(0.5), first)
    assert not torch.equal(first, second)
    state = torch.get_rng_state()
    drawn(0.0)
    assert torch.equal(torch.get_rng_state(), state)


def test_torch_may_trace_the_operations_and_their_gradients():
    tokens, product, bias, weight, shift = operands(2, 5, 16)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    inputs = (tokens, product, bias, weight, shift, torch.tensor([7]), 0.2)
    torch.library.opcheck(fused._add_and_normalize, inputs, test_utils=checks)
    torch.library.opcheck(fused._activate, (product, bias, None, 0.0), test_utils=checks)
