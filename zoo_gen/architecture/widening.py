"""Widening: networks whose hidden units are split in two without changing what they compute.

Both halves of a unit keep its weights and bias, and share what the next layer reads of it, at a proportion that is
drawn. So the widened network is of another architecture, and any function may stand between its layers.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from zoo_gen.architecture.layers import (
    Activate,
    Convolution,
    Dropout,
    Flatten,
    GlobalPooling,
    Layer,
    Linear,
    Normalization,
    Pooling,
    Shift,
)
from zoo_gen.architecture.network import Network
from zoo_gen.errors import ZooError

_IN_SEQUENCE = (Activate, Convolution, Dropout, Flatten, GlobalPooling, Linear, Normalization, Pooling, Shift)


def widened(network: Network) -> Network:
    """Return the network whose hidden layers have twice as many units.

    Raises:
        ZooError: its hidden units cannot all be split: a layer's units are not read by the next layer alone.

    >>> from zoo_gen.architecture.registry import MLP, network
    >>> widened(network(MLP(name="mlp", widths=(3, 5, 2)), (3,), 2)).layers[1].outputs
    10
    """
    parametric = [layer for layer in network.layers if isinstance(layer, Convolution | Linear)]
    read = {symmetry.layer for symmetry in network.layout.symmetries}
    if (
        not parametric
        or network.buffer_layout.size
        or not all(isinstance(layer, _IN_SEQUENCE) for layer in network.layers)
        or any(isinstance(layer, Convolution) and layer.groups > 1 for layer in network.layers)
        or any(isinstance(layer, Flatten) and layer.channels_last for layer in network.layers)
        or any(layer.name not in read for layer in parametric[:-1])
    ):
        raise ZooError("widening: hidden units are not read by the next layer alone; expected layers in one sequence")
    layers: list[Layer] = []
    for layer in network.layers:
        if isinstance(layer, Convolution | Linear):
            inputs = layer.inputs if layer is parametric[0] else 2 * layer.inputs
            outputs = layer.outputs if layer is parametric[-1] else 2 * layer.outputs
            layers.append(replace(layer, inputs=inputs, outputs=outputs))
        elif isinstance(layer, Normalization):
            layers.append(replace(layer, features=2 * layer.features))
        else:
            layers.append(layer)
    return Network(tuple(layers), network.input_shape)


def split_units(network: Network, weights: np.ndarray, *, seed: int, keys: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the weights, float32 (network, parameter), of the widened networks that compute the same.

    Args:
        network: that is widened.
        weights: float32 (network, parameter).
        seed: of the proportions.
        keys: a number for each network, from which its proportions follow besides `seed`.

    Raises:
        ZooError: as `widened`.
    """
    wide = widened(network).layout
    tensors = network.layout.split(weights.astype(np.float64))
    draws = [np.random.default_rng([seed, int(key)]) for key in keys]
    for symmetry in network.layout.symmetries:
        shares = np.array([draw.uniform(0.1, 0.9, size=symmetry.size) for draw in draws])
        for move in symmetry.moves:
            values = tensors[move.parameter]
            if move.axis == 0:
                tensors[move.parameter] = np.repeat(values, 2, axis=1)
                continue
            units = values.reshape(*values.shape[:2], symmetry.size, move.block, *values.shape[3:])
            first_share = shares.reshape(len(weights), 1, symmetry.size, *[1] * (units.ndim - 3))
            halves = np.stack([units * first_share, units * (1 - first_share)], axis=3)
            tensors[move.parameter] = halves.reshape(*values.shape[:2], 2 * values.shape[2], *values.shape[3:])
    parts = [tensors[parameter.name].reshape(len(weights), -1) for parameter in wide.parameters]
    return np.concatenate(parts, axis=1).astype(np.float32)
