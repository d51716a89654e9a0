"""Our kernels for attention on a GPU: in bfloat16 against the formula in float64, compiled, and in a CUDA graph."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.zoo_bench.encoders.hyper_representation.attended import dropout_factors, formula, gradients, operands
from tests.zoo_bench.encoders.layouts import random_view
from tests.zoo_bench.layouts import TETRIS
from zoo_bench.encoders.hyper_representation import attention, kernel_support
from zoo_bench.encoders.hyper_representation.configurations import SMALL
from zoo_bench.encoders.hyper_representation.encoder import HyperRepresentation
from zoo_bench.encoders.hyper_representation.network import Block
from zoo_bench.encoders.training.runtime import Runtime

pytestmark = [
    pytest.mark.skipif(not kernel_support.has_kernels(), reason="needs a CUDA device with matrix units, and Triton"),
    pytest.mark.filterwarnings("ignore:::torch"),  # what torch.compile says of its own choices
]

SHAPES = [
    (64, 0, 10, 4, 64),
    (64, 1, 10, 4, 64),
    (64, 0, 49, 4, 200),
    (64, 1, 49, 4, 200),
    (64, 0, 58, 4, 128),
    (7, 0, 64, 2, 400),
    (7, 5, 33, 3, 20),
]


def relative_error(actual, expected):
    return ((actual.double() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention_and_its_gradients_are_those_of_the_formula(shape, dropout, dtype):
    heads, factors, seed = shape[3], 1.0, None
    if dropout > 0:
        seed = torch.tensor([11], device="cuda")
        wide = (*shape[:4], max(shape[2:]))  # the same weights are dropped whatever the width
        factors = (dropout_factors(*wide, seed=seed, dropout=dropout, device="cuda", dtype=dtype) > 0.5).double() / (
            1 - dropout
        )
        assert (factors > 0).double().mean().item() == pytest.approx(1 - dropout, abs=0.03)
    projected, queries = operands(*shape, device="cuda", dtype=dtype)
    actual = gradients(lambda *tensors: attention.attended(*tensors, seed, heads, dropout), projected, queries)
    expected = gradients(lambda *tensors: formula(*tensors, heads, factors), projected, queries, dtype=torch.float64)
    errors = [relative_error(one, other) for one, other in zip(actual, expected, strict=True)]
    assert max(errors) < (5e-5 if dtype == torch.float32 else 1e-2), errors


def test_replays_of_a_captured_function_drop_anew():
    rows, tokens, heads, width = 50, 49, 2, 64
    nothing = torch.zeros(rows, tokens, 2 * heads * width)
    projected = torch.cat([nothing, torch.eye(tokens, width).repeat(rows, 1, heads)], dim=2).cuda().bfloat16()
    act = torch.compile(
        lambda tensors: attention.attend(tensors, heads=heads, dropout=0.1, has_kernels=True),
        dynamic=False,
        fullgraph=True,
    )
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        act(projected)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        actual = act(projected)
    seen = []
    for _ in range(2):
        graph.replay()
        seen.append(actual.unflatten(2, (heads, width))[..., :tokens] > 0)
    assert not torch.equal(*seen)
    for left in seen:
        assert left.double().mean().item() == pytest.approx(0.9, abs=0.005)


@pytest.mark.parametrize("n_outputs", [None, 1])
def test_two_compiled_blocks_are_as_near_to_float32_as_with_torchs_operations(n_outputs):
    torch.manual_seed(0)
    blocks = nn.ModuleList(Block(128, 4, 60, 0.0) for _ in range(2)).cuda()
    for block in blocks:  # no unit near 0, where a ReLU turns a rounding into a difference
        nn.init.uniform_(block.widen.bias, 4, 6)
        block.widen.bias.data[::2] *= -1
    tokens = torch.randn(40, 33, 128, device="cuda", requires_grad=True)

    def act(hidden):
        hidden, update = blocks[0](hidden)
        hidden, update = blocks[1](hidden, update, n_outputs=n_outputs)
        return update.added(hidden)

    def computed(act, *, has_kernels, bfloat16):
        for block in blocks:
            block._has_kernels = has_kernels
        hidden = tokens.bfloat16() if bfloat16 else tokens
        with torch.autocast("cuda", torch.bfloat16, enabled=bfloat16):
            result = act(hidden)
        slopes = torch.randn(result.shape, generator=torch.Generator().manual_seed(1)).to(result)
        return result.detach(), *torch.autograd.grad(result, [tokens, *blocks.parameters()], slopes)

    expected = computed(act, has_kernels=False, bfloat16=False)
    theirs = computed(act, has_kernels=False, bfloat16=True)
    ours = computed(torch.compile(act, dynamic=False, fullgraph=True), has_kernels=True, bfloat16=True)
    for one, other, exact in zip(ours, theirs, expected, strict=True):
        assert relative_error(one, exact.double()) < 1.5 * relative_error(other, exact.double()) + 2e-3


def test_the_same_seed_trains_the_same_encoder(monkeypatch):
    calls = []
    original = attention.attended
    monkeypatch.setattr(attention, "attended", lambda *tensors: calls.append(1) or original(*tensors))
    tiny = replace(SMALL, steps=None, width=32, feedforward=24, latent=8, epochs=2, batch_size=40, dropout=0.1)
    views = [random_view(TETRIS, models=models, checkpoints=3, seed=seed) for seed, models in enumerate((40, 20, 20))]

    def encoded(seed):
        encoder = HyperRepresentation(configuration=tiny)
        encoder.runtime = Runtime(device="cuda", compile=False)
        return encoder.fit([views[0]], [views[1]], seed=seed).encode(views[2])

    first, second, other = encoded(1), encoded(1), encoded(2)
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 0.01
    assert calls
