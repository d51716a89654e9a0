"""Our kernels for CPUs against torch's own layers and gradients, in float64."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from zoo_gen.architecture.layers import Convolution, Normalization, Pooling
from zoo_gen.population.cpu import lanes, lanes_norms
from zoo_gen.population.random import kept_by_dropout

pytest.importorskip("llvmlite")

# convolution (inputs, outputs, kernel, stride, padding, bias), the pooling after it, (height, width)
STAGES = {
    "one channel": ((1, 8, 5, 1, 0, True), Pooling("p", "max", 2, 2), (28, 28)),
    "no pooling": ((6, 4, 2, 1, 0, True), None, (4, 4)),
    "stride": ((3, 16, 3, 2, 0, True), None, (13, 14)),
    "padding without bias": ((2, 5, 5, 1, 2, False), None, (9, 7)),
    "many channels": ((16, 33, 3, 1, 1, True), Pooling("p", "max", 2, 2), (6, 5)),
    "one pixel": ((4, 3, 3, 1, 0, True), None, (3, 3)),
    "stride beyond the kernel": ((2, 3, 1, 3, 0, True), None, (8, 8)),
    "windows that overlap": ((1, 3, 3, 1, 1, True), Pooling("p", "max", 3, 2), (11, 10)),
    "windows apart": ((1, 3, 3, 1, 1, True), Pooling("p", "max", 2, 3), (11, 10)),
    "means that overlap": ((1, 3, 3, 1, 1, True), Pooling("p", "average", 3, 2), (10, 10)),
    "means": ((1, 3, 3, 1, 1, True), Pooling("p", "average", 2, 2), (9, 10)),
    "columns that no output reads": ((2, 3, 2, 3, 0, True), None, (7, 10)),
    "stride and a wide kernel": ((3, 4, 5, 2, 0, True), None, (11, 16)),
    "a kernel wider than what it gives": ((2, 3, 5, 1, 0, True), None, (7, 6)),
}


def drawn(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def parts(stage: str, n_models: int, *, n_images: int = 3, dtype: torch.dtype = torch.float64) -> tuple:
    """Return the convolution, its pooling, and random inputs, weights and biases of some models."""
    numbers, pooling, shape = STAGES[stage]
    layer = Convolution("c", *numbers)
    inputs = drawn(n_images, n_models, layer.inputs, *shape, dtype=dtype)
    weight = drawn(n_models, layer.outputs, layer.inputs, layer.kernel, layer.kernel, dtype=dtype, seed=1)
    bias = drawn(n_models, layer.outputs, dtype=dtype, seed=2) if layer.bias else None
    return layer, pooling, inputs, weight, bias


def by_torch(
    layer: Convolution, pooling: Pooling | None, inputs: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """One model after another by torch's own layers: (image, model, channel, height, width)."""
    actual = []
    for model in range(len(weight)):
        shift = None if bias is None else bias[model]
        hidden = functional.conv2d(inputs[:, model], weight[model], shift, stride=layer.stride, padding=layer.padding)
        if pooling is not None:
            pool = functional.max_pool2d if pooling.kind == "max" else functional.avg_pool2d
            hidden = pool(hidden, pooling.size, pooling.stride)
        actual.append(hidden)
    return torch.stack(actual, dim=1)


def by_lanes(
    layer: Convolution, pooling: Pooling | None, inputs: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    return lanes.from_lanes(lanes.convolve(layer, pooling, lanes.to_lanes(inputs), weight, bias), len(weight))


def outputs_and_gradients(way, layer, pooling, inputs, *parameters, models: slice = slice(None)) -> list[Tensor]:
    """Return outputs and gradients of some models of a population, which send back what they would send in it."""
    n_models, inputs = inputs.shape[1], inputs[:, models]
    parameters = [None if each is None else each[models] for each in parameters]
    leaves = [each.clone().requires_grad_() for each in (inputs, *parameters) if each is not None]
    padded = [*leaves, None][: 1 + len(parameters)]
    outputs = way(layer, pooling, *padded)
    back = drawn(len(outputs), n_models, *outputs.shape[2:], seed=3)[:, models].to(outputs.dtype)
    return [outputs.detach(), *torch.autograd.grad(outputs, leaves, back)]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("n_models", [1, 7, 16])  # on most machines part of a register, two, and several
def test_a_convolution_with_its_pooling_equals_torchs(stage, n_models):
    operands = parts(stage, n_models)
    for actual, expected in zip(
        outputs_and_gradients(by_lanes, *operands), outputs_and_gradients(by_torch, *operands), strict=True
    ):
        assert actual.shape == expected.shape
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stage", ["one channel", "stride", "many channels", "windows that overlap"])
def test_a_model_has_the_same_bits_alone_and_in_any_population(stage):
    operands = parts(stage, 21, dtype=torch.float32)
    among = outputs_and_gradients(by_lanes, *operands)
    for some in (slice(17, 18), slice(13, 21), slice(2, 19)):
        alone = outputs_and_gradients(by_lanes, *operands, models=some)
        axes = (1, 1, 0, 0)  # of the models in outputs and gradients
        for axis, one, all_of_them in zip(axes, alone, among, strict=True):
            assert torch.equal(one, all_of_them.narrow(axis, some.start, some.stop - some.start))


@pytest.mark.parametrize("stage", ["one channel", "stride", "padding without bias", "means that overlap"])
def test_relu_done_with_a_convolution_equals_relu_after_it(stage):
    """Bit for bit, and so do the gradients, also where the convolution gives no number, or just zero."""
    layer, pooling, inputs, weight, bias = parts(stage, 7, n_images=4)
    inputs[0, 1], inputs[1, 2], inputs[2, 3] = float("nan"), float("inf"), 0.0
    bias = torch.zeros_like(bias) if bias is not None else None

    def at_once(layer, pooling, inputs, weight, bias):
        outputs = lanes.convolve(layer, pooling, lanes.to_lanes(inputs), weight, bias, relu=True)
        return lanes.from_lanes(outputs, len(weight))

    def in_turn(*operands):
        return torch.relu(by_lanes(*operands))

    one, other = (outputs_and_gradients(way, layer, pooling, inputs, weight, bias) for way in (at_once, in_turn))
    assert torch.isnan(one[0]).any()
    assert (one[0] == 0).any()
    assert (one[0] > 0).any()
    for same, expected in zip(one, other, strict=True):
        assert torch.equal(same.view(torch.int64), expected.view(torch.int64))


@pytest.mark.parametrize("registers", [(128, 16), (256, 16), (512, 32)])
@pytest.mark.parametrize("stage", ["one channel", "stride", "many channels"])
def test_the_registers_of_a_machine_change_no_bit(stage, registers, monkeypatch):
    from zoo_gen.machine import vector_code
    from zoo_gen.population.cpu import lanes_kernels

    operands = parts(stage, 5, dtype=torch.float32)
    expected = outputs_and_gradients(by_lanes, *operands)
    kernels = (lanes_kernels.stage_forward, lanes_kernels.stage_backward, lanes.register)
    other = replace(vector_code.machine(), bits=registers[0], count=registers[1])
    for kernel in kernels:
        kernel.cache_clear()
    monkeypatch.setattr(vector_code, "machine", lambda: other)
    try:
        for one, same in zip(outputs_and_gradients(by_lanes, *operands), expected, strict=True):
            assert torch.equal(one, same)
    finally:
        for kernel in kernels:
            kernel.cache_clear()


@pytest.mark.parametrize(
    "pooling", [Pooling("p", "max", 2, 2), Pooling("p", "max", 3, 2), Pooling("p", "average", 2, 1)]
)
def test_pooling_equals_torchs_where_values_are_equal(pooling):
    """After relu many are; the gradient then goes to the first of them."""
    inputs = torch.relu(drawn(2, 5, 3, 8, 9)).requires_grad_()
    pool = functional.max_pool2d if pooling.kind == "max" else functional.avg_pool2d
    expected = pool(inputs.flatten(1, 2), pooling.size, pooling.stride).unflatten(1, (5, 3))
    actual = lanes.from_lanes(lanes.pool(pooling, lanes.to_lanes(inputs)), 5)
    torch.testing.assert_close(actual, expected, rtol=1e-14, atol=0)
    back = drawn(*expected.shape, seed=3)
    (found_gradient,), (gradient,) = (torch.autograd.grad(each, inputs, back) for each in (actual, expected))
    torch.testing.assert_close(found_gradient, gradient, rtol=1e-14, atol=0)


def test_a_maximum_with_nan_is_nan_and_harms_no_other_model():
    inputs = drawn(1, 3, 1, 4, 4)
    inputs[0, 1, 0, 1, 1] = torch.nan
    actual = lanes.from_lanes(lanes.pool(Pooling("p", "max", 2, 2), lanes.to_lanes(inputs)), 3)
    expected = functional.max_pool2d(inputs[0], 2)
    torch.testing.assert_close(actual[0], expected, rtol=0, atol=0, equal_nan=True)
    assert actual.isnan().sum() == 1


@pytest.mark.parametrize(("channels", "start"), [(4, 0), (3, 10), (1, 2)])  # an even, an odd and a single number
def test_dropout_keeps_what_the_counters_say(channels, start):
    n_images, side, n_models = (1, 1, 9) if channels == 1 else (3, 3, 9)
    seeds, rates = torch.arange(n_models), torch.linspace(0, 0.9, n_models, dtype=torch.float64)
    hidden = 1 + drawn(n_images, n_models, channels, side, side).abs()
    inside = lanes.to_lanes(hidden).requires_grad_()
    dropped = lanes.drop(inside, seeds, rates, 5, start=start)
    count = n_images * side * side * channels
    factors = kept_by_dropout(seeds, rates, 5, count, start=start).view(n_models, n_images, side, side, channels)
    expected = (hidden / (1 - rates).view(-1, 1, 1, 1)) * factors.permute(1, 0, 4, 2, 3)
    torch.testing.assert_close(lanes.from_lanes(dropped, n_models), expected, rtol=1e-14, atol=0)
    (gradient,) = torch.autograd.grad(dropped.sum(), inside)
    torch.testing.assert_close(lanes.from_lanes(gradient, n_models), expected / hidden, rtol=1e-14, atol=0)


def test_what_is_no_number_stays_none_when_it_is_dropped():
    hidden = torch.full((1, 1, 1, 1, 64, lanes.register(torch.float32)), torch.nan)
    n_models = hidden.shape[-1]
    actual = lanes.drop(hidden, torch.arange(n_models), torch.full((n_models,), 0.9), 0, start=0)
    assert actual.isnan().all()


def test_what_batch_norm_gives_and_its_gradient_lie_in_lanes():
    """Else every layer before and after it walks through memory in strides."""
    random = torch.Generator().manual_seed(0)
    hidden = torch.randn((1, 4, 3, 3, 2, 16), generator=random).requires_grad_()
    layer = Normalization("norm", 2, 1e-5, buffers=True)
    parameters = {
        f"norm.{role}": torch.randn((15, 2), generator=random).requires_grad_() for role in ("weight", "bias")
    }
    buffers = {f"norm.{role}": torch.ones(15, 2) for role in ("running_mean", "running_var")}
    normalized = lanes_norms.batch_norm(layer, hidden, parameters, buffers)
    (gradient,) = torch.autograd.grad(normalized.square().sum(), hidden)
    assert normalized.is_contiguous()
    assert gradient.is_contiguous()
