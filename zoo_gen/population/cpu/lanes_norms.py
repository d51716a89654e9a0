"""Normalisations in training of a population whose models lie in the lanes of vector registers; see `lanes`.

They are torch's sums over whole lanes, so that a model's numbers do not depend on which others lie beside it.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zoo_gen.architecture.layers import GroupNorm, LayerNorm, Normalization
from zoo_gen.population.cpu.lanes import filled, with_whole_sums
from zoo_gen.population.filling import first


def batch_norm(
    layer: Normalization, hidden: Tensor, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]
) -> Tensor:
    """Normalise each channel of (group, image, height, width, channel, lane) by its batch; see `normalization`."""
    channels, hidden = hidden.shape[4], with_whole_sums(hidden)
    normalized, mean, variance = _normalized(hidden, (1, 2, 3), layer.epsilon)
    count = math.prod(hidden.shape[1:4])
    for role, statistic in (("running_mean", mean), ("running_var", variance * (count / (count - 1)))):
        running = buffers[f"{layer.name}.{role}"]
        models = statistic[..., :channels, :].flatten(1, 4).transpose(1, 2).flatten(0, 1)[: len(running)]
        running.mul_(1 - layer.momentum).add_(models, alpha=layer.momentum)
    return _scaled(layer, normalized, parameters, channels)


def normalize(layer: LayerNorm | GroupNorm, hidden: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    """Normalise each image of (group, image, height, width, channel, lane) by itself; see `normalization`."""
    channels = hidden.shape[4]
    if isinstance(layer, LayerNorm):
        return _scaled(layer, _normalized(hidden, (2, 3, 4), layer.epsilon)[0], parameters, channels)
    if layer.groups == channels:
        return _scaled(layer, _normalized(with_whole_sums(hidden), (2, 3), layer.epsilon)[0], parameters, channels)
    groups = hidden.unflatten(4, (layer.groups, -1))
    normalized = _normalized(groups, (2, 3, 5), layer.epsilon)[0].flatten(4, 5)
    return _scaled(layer, normalized, parameters, channels)


def _normalized(hidden: Tensor, axes: tuple[int, ...], epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return values of mean 0 and variance 1, and their mean and variance before (axes kept)."""
    return _Normalize.apply(hidden, axes, epsilon)


class _Normalize(torch.autograd.Function):
    """With a gradient of its own, which reads and writes less than torch's would."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, axes: tuple[int, ...], epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `_normalized` says."""
        mean = hidden.mean(dim=axes, keepdim=True)
        normalized = hidden - mean
        variance = normalized.square().mean(dim=axes, keepdim=True)
        scale = torch.rsqrt(variance + epsilon)
        normalized.mul_(scale)
        ctx.save_for_backward(normalized, scale)
        ctx.axes = axes
        ctx.mark_non_differentiable(mean, variance)
        return normalized, mean, variance

    @staticmethod
    def backward(ctx: Any, slopes: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:
        """Take from the slopes what changing mean and variance takes back."""
        normalized, scale = ctx.saved_tensors
        along = (slopes * normalized).mean(dim=ctx.axes, keepdim=True)
        taken = torch.addcmul(slopes.mean(dim=ctx.axes, keepdim=True), normalized, along)
        return torch.sub(slopes, taken).mul_(scale), None, None


def _scaled(
    layer: Normalization | LayerNorm | GroupNorm, normalized: Tensor, parameters: Mapping[str, Tensor], channels: int
) -> Tensor:
    """Multiply by the scales of each model, and add its shifts; return so many channels."""
    if not layer.affine:
        return first(normalized, 4, channels)
    shape = normalized.shape
    weight, bias = (_in_lanes(parameters[f"{layer.name}.{role}"], normalized) for role in ("weight", "bias"))
    if weight.shape[2:4] == shape[2:4]:  # their gradients are sums over images: one column an element
        normalized, weight, bias = (each.flatten(2, 4).unsqueeze(2).unsqueeze(2) for each in (normalized, weight, bias))
    scaled = torch.addcmul(with_whole_sums(bias), with_whole_sums(normalized), with_whole_sums(weight))
    count = channels if scaled.shape[2:4] == shape[2:4] else math.prod(shape[2:4]) * channels
    return first(scaled, 4, count).view(*shape[:4], channels, shape[5])


def _in_lanes(values: Tensor, hidden: Tensor) -> Tensor:
    """Return (model, channel) or (model, channel, height, width) as (group, 1, height, width, channel, lane).

    Contiguous: else torch would lay out what it computes from them, and its gradients, channel by channel of a lane.
    """
    lanes = hidden.shape[-1]
    if values.dim() == 2:
        values = values[..., None, None]
    return filled(values, 0, lanes).unflatten(0, (-1, lanes)).permute(0, 3, 4, 2, 1).unsqueeze(1).contiguous()
