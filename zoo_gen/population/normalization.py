"""The normalisations of all models of a population at once, in training and in evaluation mode.

Statistics are torch's own functions'; a model's scale and shift are applied after them.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from zoo_gen.architecture.layers import GroupNorm, LayerNorm, Normalization
from zoo_gen.errors import ZooError
from zoo_gen.population.cpu import lanes_norms
from zoo_gen.population.filling import COLUMNS, filled, first


def normalize(
    layer: Normalization | LayerNorm | GroupNorm,
    hidden: Tensor,
    parameters: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    *,
    training: bool,
) -> Tensor:
    """Normalise the values of each model.

    Args:
        layer: the layer.
        hidden: (image, model, channel, height, width), in training also as lanes; (model, image, step, feature) or
            (model, feature, image).
        parameters: name -> (model, *shape).
        buffers: the running statistics, name -> (model, feature), contiguous; training changes them in place.
        training: whether the statistics of batch normalisation are those of the batch.
    """
    if isinstance(layer, Normalization):
        counts = {6: hidden.shape[1:4], 5: (hidden.shape[0], *hidden.shape[3:]), 3: hidden.shape[2:]}
        if training and math.prod(counts[hidden.dim()]) == 1:
            raise ZooError(
                f"{layer.name}: a batch of one value has no variance; expected batches of two images or more"
            )
        if hidden.dim() == 6:
            return lanes_norms.batch_norm(layer, hidden, parameters, buffers)
        return _batch_norm(layer, hidden, parameters, buffers, training=training)
    if hidden.dim() == 6:
        return lanes_norms.normalize(layer, hidden, parameters)
    return _image_by_image(layer, hidden, parameters)


def _batch_norm(
    layer: Normalization,
    hidden: Tensor,
    parameters: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    *,
    training: bool,
) -> Tensor:
    # torch has other kernels where these lie scattered, as they do of several models with one channel each.
    weight, bias = (
        parameters[f"{layer.name}.{role}"].flatten().contiguous() if layer.affine else None
        for role in ("weight", "bias")
    )
    mean, variance = (buffers[f"{layer.name}.{role}"].view(-1) for role in ("running_mean", "running_var"))
    axes = (1, 2) if hidden.dim() == 5 else (0, 1)
    values = hidden.flatten(*axes)  # every model's channels beside each other are the channels of one
    if hidden.dim() == 3:
        values = values.unsqueeze(0)
    normalized = functional.batch_norm(
        values.contiguous(), mean, variance, weight, bias, training=training, momentum=layer.momentum, eps=layer.epsilon
    )
    return normalized.view(hidden.shape)


def _image_by_image(layer: LayerNorm | GroupNorm, hidden: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    flat = hidden.dim() == 3
    values = hidden.transpose(1, 2) if flat else hidden  # two axes, then what is normalised
    if isinstance(layer, LayerNorm):
        normalized = functional.layer_norm(values, layer.shape, eps=layer.epsilon)
    else:
        normalized = functional.group_norm(values.flatten(0, 1), layer.groups, eps=layer.epsilon).view(values.shape)
    if layer.affine:
        weight, bias = (parameters[f"{layer.name}.{role}"] for role in ("weight", "bias"))
        if hidden.dim() == 5:  # a scale an element, or a channel
            shape = weight.shape if weight.dim() == 4 else (*weight.shape, 1, 1)
            if shape == hidden.shape[1:]:
                return _scaled_element_by_element(normalized, weight, bias)
        else:
            shape = (len(weight), *[1] * (values.dim() - 2), weight.shape[1])
        normalized = torch.addcmul(bias.view(shape), normalized, weight.view(shape))
    return normalized.transpose(1, 2) if flat else normalized


def _scaled_element_by_element(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return values (image, model, channel, height, width) times a weight and plus a bias of (model, ...).

    Their gradients are sums over images, of which torch takes 64 columns at a time, and the rest in another order.
    """
    columns = values.flatten(1)
    shift, scale = (filled(each.flatten(), 0, COLUMNS) for each in (bias, weight))
    scaled = torch.addcmul(shift, filled(columns, 1, COLUMNS), scale)
    return first(scaled, 1, columns.shape[1]).view(values.shape)
