"""Layers over sequences of a population whose models lie in the lanes of vector registers; see `lanes`.

Hidden values are (group, image, step, 1, feature, lane): sequences are images of one column, so that activations,
dropout, sums of residual connections and means over positions are those of images.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from zoo_gen.architecture.layers import (
    Attention,
    ClassToken,
    FirstStep,
    GlobalPooling,
    LayerNorm,
    Linear,
    PositionEmbedding,
    Tokens,
)
from zoo_gen.architecture.modules import position_codes
from zoo_gen.population.cpu.lanes import filled, run

Ours = Tokens | ClassToken | PositionEmbedding | Attention | FirstStep | GlobalPooling | Linear | LayerNorm
LAYERS = (Tokens, ClassToken, PositionEmbedding, Attention, FirstStep, GlobalPooling, Linear, LayerNorm)


def passed(
    layer: Ours, hidden: Tensor, parameters: Mapping[str, Tensor], n_models: int, *, with_relu: bool = False
) -> Tensor:
    """Return what a layer gives.

    Args:
        layer: the layer.
        hidden: (group, image, step, 1, feature, lane); of `Tokens`, images (group, image, height, width, channel,
            lane).
        parameters: name -> (model, *shape).
        n_models: how many models there are.
        with_relu: whether what a linear layer gives goes through relu at once.

    Returns:
        Sequences in lanes; of `FirstStep` and `GlobalPooling`, (model, feature, image).
    """
    if isinstance(layer, Tokens):
        return hidden.flatten(2, 3).unsqueeze(3)
    if isinstance(layer, ClassToken):
        token = _in_lanes(parameters[f"{layer.name}.weight"], hidden)  # (group, 1, feature, lane)
        return torch.cat([token[:, None, :, None].expand(-1, hidden.shape[1], -1, -1, -1, -1), hidden], dim=2)
    if isinstance(layer, PositionEmbedding):
        if layer.learned:
            return hidden + _in_lanes(parameters[f"{layer.name}.weight"], hidden)[:, None, :, None]
        return hidden + position_codes(layer.steps, layer.features).to(hidden)[:, None, :, None]
    if isinstance(layer, Linear):
        weight, bias = parameters[f"{layer.name}.weight"], parameters.get(f"{layer.name}.bias")
        return _linear(hidden, weight, bias, with_relu=with_relu)
    if isinstance(layer, Attention):
        return _attend(layer, hidden, parameters)
    if isinstance(layer, LayerNorm):
        return _normalize(layer, hidden, parameters)
    if isinstance(layer, FirstStep):
        pooled = hidden[:, :, 0, 0]
    else:
        pooled = _Mean.apply(hidden) if layer.kind == "average" else hidden.amax(dim=(2, 3))
    return pooled.permute(0, 3, 2, 1).flatten(0, 1)[:n_models].contiguous()


def from_lanes(hidden: Tensor, n_models: int) -> Tensor:
    """Return (group, image, step, 1, feature, lane) as (model, image, step, feature)."""
    return hidden.squeeze(3).permute(0, 4, 1, 2, 3).flatten(0, 1)[:n_models].contiguous()


def _in_lanes(values: Tensor, hidden: Tensor) -> Tensor:
    """Return (model, ...) as (group, ..., lane)."""
    lanes = hidden.shape[-1]
    return filled(values, 0, lanes).unflatten(0, (-1, lanes)).movedim(1, -1).contiguous()


def _linear(hidden: Tensor, weight: Tensor, bias: Tensor | None, *, with_relu: bool = False) -> Tensor:
    biases = None if bias is None else _in_lanes(bias, hidden)
    return _Linear.apply(hidden.contiguous(), _in_lanes(weight, hidden), biases, with_relu)


def _attend(layer: Attention, hidden: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    weight, bias = (
        torch.cat([parameters[f"{layer.name}.{part}.{role}"] for part in ("query", "key", "value")], dim=1)
        if role == "weight" or layer.bias
        else None
        for role in ("weight", "bias")
    )
    assert weight is not None  # which every such layer has
    attended = _Attend.apply(layer, _linear(hidden, weight, bias))
    output = f"{layer.name}.output"
    return _linear(attended, parameters[f"{output}.weight"], parameters.get(f"{output}.bias"))


def _normalize(layer: LayerNorm, hidden: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    normalized = _Normalize.apply(hidden.contiguous(), layer.epsilon)
    if not layer.affine:
        return normalized
    weight, bias = (
        _in_lanes(parameters[f"{layer.name}.{role}"], hidden)[:, None, None, None] for role in ("weight", "bias")
    )
    return torch.addcmul(bias, normalized, weight)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        from zoo_gen.population.cpu.lanes_sequence_kernels import linear_forward

        groups, images, steps, _, inputs, lanes = hidden.shape
        ctx.sizes = {
            **{"steps": steps, "inputs": inputs, "outputs": weight.shape[1], "bias": bias is not None},
            **{"relu": relu, "lanes": lanes, "bits": 8 * hidden.itemsize},
        }
        outputs = hidden.new_empty(groups, images, steps, 1, weight.shape[1], lanes)
        _of_each_group(linear_forward(**ctx.sizes), hidden, weight, bias, outputs)
        ctx.save_for_backward(hidden, weight, outputs if relu else None)
        return outputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from zoo_gen.population.cpu.lanes_sequence_kernels import linear_backward

        hidden, weight, results = ctx.saved_tensors
        to_hidden, to_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        groups, outputs, _, lanes = weight.shape
        to_bias = hidden.new_zeros(groups, outputs, lanes) if ctx.sizes["bias"] else None
        kernel, gradient = linear_backward(**ctx.sizes), gradient.contiguous()
        room = None if results is None else _room(hidden, hidden.shape[2], outputs)
        _of_each_group(kernel, hidden, weight, gradient, to_hidden, to_weight, to_bias, results, room)
        return to_hidden, to_weight, to_bias, None


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layer: Attention, products: Tensor) -> Tensor:
        """Return (group, image, step, 1, inner, lane) of queries, keys and values (..., 3 x inner, lane)."""
        from zoo_gen.population.cpu.lanes_attention_kernels import attention_forward, queries_at_once

        steps, lanes = products.shape[2], products.shape[-1]
        outputs = products.new_empty(*products.shape[:4], layer.inner, lanes)
        room = _room(products, queries_at_once(steps), steps)
        kernel = attention_forward(layer, steps, lanes=lanes, bits=8 * products.itemsize)
        _of_each_group(kernel, products, outputs, room)
        ctx.layer = layer
        ctx.save_for_backward(products)
        return outputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from zoo_gen.population.cpu.lanes_attention_kernels import attention_backward, queries_at_once

        (products,) = ctx.saved_tensors
        steps, lanes = products.shape[2], products.shape[-1]
        to_products = torch.empty_like(products)
        room = _room(products, 2 * queries_at_once(steps), steps)
        kernel = attention_backward(ctx.layer, steps, lanes=lanes, bits=8 * products.itemsize)
        _of_each_group(kernel, products, gradient.contiguous(), to_products, room)
        return None, to_products


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, epsilon: float) -> Tensor:
        from zoo_gen.population.cpu.lanes_sequence_kernels import norm_forward

        steps, features, lanes = hidden.shape[2], *hidden.shape[4:]
        normalized, scales = torch.empty_like(hidden), hidden.new_empty(*hidden.shape[:3], lanes)
        kernel = norm_forward(steps, features, epsilon, lanes=lanes, bits=8 * hidden.itemsize)
        _of_each_group(kernel, hidden, normalized, scales)
        ctx.save_for_backward(normalized, scales)
        return normalized

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        from zoo_gen.population.cpu.lanes_sequence_kernels import norm_backward

        normalized, scales = ctx.saved_tensors
        steps, features, lanes = gradient.shape[2], *gradient.shape[4:]
        to_hidden = torch.empty_like(normalized)
        kernel = norm_backward(steps, features, lanes=lanes, bits=8 * gradient.itemsize)
        _of_each_group(kernel, normalized, scales, gradient.contiguous(), to_hidden)
        return to_hidden, None


class _Mean(torch.autograd.Function):
    """Over steps, with a gradient whose neighbours in memory are lanes again."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor) -> Tensor:
        ctx.shape = hidden.shape
        return hidden.mean(dim=(2, 3))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return (gradient / ctx.shape[2]).contiguous()[:, :, None, None].expand(ctx.shape)


def _room(like: Tensor, rows: int, columns: int) -> Tensor:
    """Return room for vectors (row, column, lane), which all groups use: the axis of groups has no length in memory."""
    return like.new_empty(rows, columns, like.shape[-1]).expand(len(like), -1, -1, -1)


def _of_each_group(kernel: Callable[..., None], *tensors: Tensor | None) -> None:
    """Run a kernel on each group of contiguous tensors (group, image, ...)."""
    first = tensors[0]
    assert first is not None  # hidden values
    for group in range(len(first)):
        run(kernel, first.shape[1], group, *tensors)
