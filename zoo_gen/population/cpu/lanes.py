"""Layers of a population whose models lie in the lanes of vector registers: our own kernels, with their gradients.

Hidden values are (group, image, height, width, channel, lane): a group is as many models as a register has lanes, and
lanes that no model fills compute zeros. Linear layers stay what they are elsewhere, one batched matrix product. What
leaves lanes is contiguous: a product rounds by how its matrices lie, which registers and company would decide.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from zoo_gen.architecture.layers import Convolution, Pooling
from zoo_gen.population import filling
from zoo_gen.population.random import DROPOUT_STEP, dropout_words

LARGEST_WINDOW = 8  # of a pooling: its values are compared one after the other, in unrolled code


@cache
def register(dtype: torch.dtype) -> int:
    """Return how many numbers a vector register of this machine holds."""
    from zoo_gen.machine import vector_code

    return vector_code.machine().bits // (8 * dtype.itemsize)


def lanes_of(n_models: int, dtype: torch.dtype) -> int:
    """Return how many models share a register: as many as it holds, or half where that is enough."""
    full = register(dtype)
    return full // 2 if n_models <= full // 2 else full


def to_lanes(hidden: Tensor) -> Tensor:
    """Return (image, model, channel, height, width) as (group, image, height, width, channel, lane)."""
    n_models = hidden.shape[1]
    lanes = lanes_of(n_models, hidden.dtype)
    whole = filled(hidden, 1, lanes)
    return whole.unflatten(1, (-1, lanes)).permute(1, 0, 4, 5, 3, 2).contiguous()


def from_lanes(hidden: Tensor, n_models: int) -> Tensor:
    """Return (group, image, height, width, channel, lane) as (image, model, channel, height, width)."""
    return hidden.permute(1, 0, 5, 4, 2, 3).flatten(1, 2)[:, :n_models].contiguous()


def flattened(hidden: Tensor, n_models: int) -> Tensor:
    """Return (group, image, height, width, channel, lane) as (model, feature, image), channel by channel."""
    return hidden.permute(0, 5, 4, 2, 3, 1).flatten(2, 4).flatten(0, 1)[:n_models].contiguous()


def means(hidden: Tensor, n_models: int) -> Tensor:
    """Return the mean of each channel over all positions (model, channel, image)."""
    channels, hidden = hidden.shape[4], with_whole_sums(hidden)
    return hidden.mean(dim=(2, 3))[:, :, :channels].permute(0, 3, 2, 1).flatten(0, 1)[:n_models].contiguous()


def convolve(
    layer: Convolution,
    pooling: Pooling | None,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    relu: bool = False,
) -> Tensor:
    """Convolve, and pool and rectify what comes out.

    Args:
        layer: the convolution.
        pooling: the layer after it, if that is pooling.
        hidden: (group, image, height, width, input, lane).
        weight: (model, output, input, kernel, kernel).
        bias: (model, output), if the layer has one.
        relu: whether relu comes next.
    """
    lanes = hidden.shape[-1]
    if layer.padding:
        hidden = functional.pad(hidden, (0, 0, 0, 0, *[layer.padding] * 4))
    weight = filled(weight, 0, lanes).unflatten(0, (-1, lanes)).permute(0, 4, 5, 3, 2, 1).contiguous()
    if bias is not None:
        bias = filled(bias, 0, lanes).unflatten(0, (-1, lanes)).transpose(1, 2).contiguous()
    return _Convolve.apply(layer, pooling, relu, hidden.contiguous(), weight, bias)


def pool(layer: Pooling, hidden: Tensor) -> Tensor:
    """Pool windows of (group, image, height, width, channel, lane)."""
    return _Pool.apply(layer, hidden.contiguous())


def activate(hidden: Tensor, runs: Sequence[tuple[Callable[[Tensor], Tensor], slice]]) -> Tensor:
    """Apply to each run of neighbouring models its function; the lanes after the last model are as that."""
    groups, lanes = hidden.shape[0], hidden.shape[-1]
    activated = runs[-1][0](hidden)
    models = torch.arange(groups * lanes).view(groups, *[1] * (hidden.dim() - 2), lanes)
    for function, rows in reversed(runs[:-1]):
        activated = torch.where(models < rows.stop, function(hidden), activated)
    return activated


def drop(hidden: Tensor, seeds: Tensor, rates: Tensor, step: int, *, start: int) -> Tensor:
    """Do what `random.kept_by_dropout` says; values of an image are numbered channel by channel of a pixel.

    Args:
        hidden: (group, image, height, width, channel, lane).
        seeds: int64 (model,).
        rates: (model,).
        step: of the training.
        start: the number of the first value.
    """
    lanes = hidden.shape[-1]
    keys = [
        filled(each, 0, lanes).to(torch.int32).view(-1, lanes)
        for each in (*dropout_words(seeds, step, start=start), (rates.double() * 65536 + 0.5).floor().long())
    ]
    scale = filled(1 / (1 - rates), 0, lanes).view(-1, lanes)
    return _Drop.apply(hidden.contiguous(), *keys, scale)


def filled(values: Tensor, axis: int, lanes: int) -> Tensor:
    """Add zeros in the place of models until they fill whole registers."""
    missing = -values.shape[axis] % lanes
    return functional.pad(values, [*[0] * (2 * (values.dim() - axis - 1)), 0, missing]) if missing else values


def with_whole_sums(values: Tensor) -> Tensor:
    """Return values (..., channel, lane) with copies of a channel until torch's sums of each take whole registers.

    They take so many columns at a time, and those that are left in another order; a small company has half the lanes.
    """
    return filling.filled(values, values.dim() - 2, max(1, filling.COLUMNS // values.shape[-1]))


def run(kernel: Callable[..., None], count: int, group: int, *tensors: Tensor | None) -> None:
    """Run a kernel on one group of contiguous tensors (group, ...); one that is not given is not looked at."""
    kernel(
        *(0 if each is None else each.data_ptr() + group * each.stride(0) * each.itemsize for each in tensors), count
    )


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        layer: Convolution,
        pooling: Pooling | None,
        relu: bool,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        from zoo_gen.population.cpu.lanes_kernels import Stage, stage_forward

        groups, images, height, width, _, lanes = hidden.shape
        stage = Stage(layer, pooling, height, width, relu)
        outputs = hidden.new_empty(groups, images, *stage.output_size, layer.outputs, lanes)
        places = torch.empty(outputs.shape, dtype=torch.uint8) if pooling else None
        more = [_room(stage.convolved, layer.outputs, hidden), places] if pooling else []
        kernel = stage_forward(stage, lanes=lanes, bits=8 * hidden.itemsize)
        for group in range(groups):
            run(kernel, images, group, hidden, weight, bias, outputs, *more)
        ctx.stage = stage
        ctx.save_for_backward(hidden, weight, places, outputs if relu else None)
        return outputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from zoo_gen.population.cpu.lanes_kernels import stage_backward

        stage = ctx.stage
        hidden, weight, places, outputs = ctx.saved_tensors
        back = ctx.needs_input_grad[3]
        groups, images, lanes = hidden.shape[0], hidden.shape[1], hidden.shape[-1]
        gradient = gradient.contiguous()
        to_hidden = torch.empty_like(hidden) if back else None
        to_weight = torch.zeros_like(weight)
        to_bias = hidden.new_zeros(groups, stage.convolution.outputs, lanes) if stage.convolution.bias else None
        tensors = [hidden, weight, gradient, to_hidden, to_weight, to_bias]
        if stage.pooling:
            tensors += [_room(stage.convolved, stage.convolution.outputs, hidden), places]
        if stage.relu:
            tensors += [_room(stage.output_size, stage.convolution.outputs, hidden), outputs]
        kernel = stage_backward(stage, lanes=lanes, bits=8 * hidden.itemsize, back=back)
        for group in range(groups):
            run(kernel, images, group, *tensors)
        return None, None, None, to_hidden, to_weight, to_bias


def _room(shape: tuple[int, int], channels: int, like: Tensor) -> Tensor:
    """Return one image's room, which all groups use: the axis of groups has no length in memory."""
    return like.new_empty(*shape, channels, like.shape[-1]).expand(len(like), -1, -1, -1, -1)


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layer: Pooling, hidden: Tensor) -> Tensor:
        from zoo_gen.population.cpu.lanes_kernels import pool_forward, pooled

        groups, images, height, width, channels, lanes = hidden.shape
        outputs = hidden.new_empty(groups, images, *pooled(layer, height, width), channels, lanes)
        places = torch.empty(outputs.shape, dtype=torch.uint8)
        kernel = pool_forward(layer, height, width, channels, lanes=lanes, bits=8 * hidden.itemsize)
        for group in range(groups):
            run(kernel, images, group, hidden, outputs, places)
        ctx.layer, ctx.shape = layer, hidden.shape
        ctx.save_for_backward(places)
        return outputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from zoo_gen.population.cpu.lanes_kernels import pool_backward

        (places,) = ctx.saved_tensors
        groups, images, height, width, channels, lanes = ctx.shape
        gradient = gradient.contiguous()
        to_hidden = gradient.new_empty(ctx.shape)
        kernel = pool_backward(ctx.layer, height, width, channels, lanes=lanes, bits=8 * gradient.itemsize)
        for group in range(groups):
            run(kernel, images, group, gradient, to_hidden, places)
        return None, to_hidden


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, *keys: Tensor) -> Tensor:
        ctx.save_for_backward(*keys)
        return _dropped(hidden, *keys)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _dropped(gradient.contiguous(), *ctx.saved_tensors), None, None, None, None


def _dropped(hidden: Tensor, *keys: Tensor) -> Tensor:
    from zoo_gen.population.cpu.lanes_kernels import drop as kernel

    lanes, bits = hidden.shape[-1], 8 * hidden.itemsize
    values = hidden.view(len(hidden), -1, lanes)  # (group, number, lane)
    dropped = torch.empty_like(values)
    words, rest = divmod(values.shape[1], 2)
    for group in range(len(hidden)):
        if words:
            run(kernel(2, lanes=lanes, bits=bits), words, group, values, dropped, *keys)
        if rest:
            low, *others = keys
            last = (low.long() + words * DROPOUT_STEP).to(torch.int32)
            run(kernel(1, lanes=lanes, bits=bits), 1, group, values[:, -1:], dropped[:, -1:], last, *others)
    return dropped.view_as(hidden)
