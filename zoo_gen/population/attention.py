"""Layers that make and mix sequences, for all models of a population at once: tokens, positions and self-attention.

Sequences lie as (model, image, step, feature). Attention of images and heads is one call of torch's own over all of
them; models are the first axis of it, because its GPU kernels count at most 65,535 along each.
"""

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from zoo_gen.architecture.layers import Attention, ClassToken, FirstStep, PositionEmbedding, Rows, Tokens
from zoo_gen.architecture.modules import position_codes
from zoo_gen.population.products import product_of_rows

Ours = Rows | Tokens | ClassToken | PositionEmbedding | Attention | FirstStep
LAYERS = (Rows, Tokens, ClassToken, PositionEmbedding, Attention, FirstStep)


def passed(layer: Ours, hidden: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    """Return what a layer gives.

    Args:
        layer: the layer.
        hidden: sequences; of `Rows` and `Tokens`, images (image, model, channel, height, width).
        parameters: name -> (model, *shape).

    Returns:
        Sequences; of `FirstStep`, (model, feature, image).
    """
    if isinstance(layer, Rows):
        return hidden.permute(1, 0, 3, 2, 4).flatten(3)
    if isinstance(layer, Tokens):
        return hidden.flatten(3).permute(1, 0, 3, 2).contiguous()
    if isinstance(layer, ClassToken):
        return _put_class_token(layer, hidden, parameters)
    if isinstance(layer, PositionEmbedding):
        return _add_positions(layer, hidden, parameters)
    if isinstance(layer, Attention):
        return _attend(layer, hidden, parameters)
    return hidden[:, :, 0].transpose(1, 2)


def _put_class_token(layer: ClassToken, hidden: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    """Return sequences (model, image, step + 1, feature) that begin with each model's token."""
    weight = parameters[f"{layer.name}.weight"]  # (model, 1, feature)
    return torch.cat([weight.unsqueeze(1).expand(-1, hidden.shape[1], -1, -1), hidden], dim=2)


def _add_positions(layer: PositionEmbedding, hidden: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    """Return sequences (model, image, step, feature) with the code of each step."""
    if layer.learned:
        return hidden + parameters[f"{layer.name}.weight"].unsqueeze(1)
    return hidden + _codes(layer.steps, layer.features, hidden.dtype, hidden.device)


@lru_cache(maxsize=8)
def _codes(steps: int, features: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the fixed codes (step, feature) where they are read, so that no step copies them to a GPU again."""
    return position_codes(steps, features).to(device, dtype)


def _attend(layer: Attention, hidden: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    """Return self-attention of sequences (model, image, step, feature); scores are over the root of a head's units."""
    rows, (n_images, n_steps) = hidden.flatten(1, 2), hidden.shape[1:3]
    weights, biases = (
        [parameters[f"{layer.name}.{part}.{role}"] for part in ("query", "key", "value")] if is_present else None
        for role, is_present in (("weight", True), ("bias", layer.bias))
    )
    assert weights is not None  # which every such layer has
    read = product_of_rows(rows, torch.cat(weights, dim=1), None if biases is None else torch.cat(biases, dim=1))
    # (model, image x step, 3 x head x unit) -> three of (model, image x head, step, unit)
    parts = read.view(len(rows), n_images, n_steps, 3, layer.heads, layer.units).permute(3, 0, 1, 4, 2, 5)
    query, key, value = parts.flatten(2, 3).unbind(0)
    attended = functional.scaled_dot_product_attention(query, key, value)
    # (model, image x head, step, unit) -> (model, image x step, head x unit)
    joined = attended.unflatten(1, (n_images, layer.heads)).transpose(2, 3).reshape(*rows.shape[:2], layer.inner)
    output = f"{layer.name}.output"
    return product_of_rows(joined, parameters[f"{output}.weight"], parameters.get(f"{output}.bias")).view(hidden.shape)
