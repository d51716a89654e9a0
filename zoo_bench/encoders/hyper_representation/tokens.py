"""Neuron tokens: a model's weights as one token a neuron (or filter), its incoming weights followed by its bias.

Tokens are laid out layer after layer, so that one gather by index turns flat weights into all tokens at once, and one
matrix product a layer embeds them: no loop over neurons. Offsets come from the shapes of the layout alone and are
checked to be a partition, because a wrong offset in a hand-made table corrupts results without a word.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.errors import ZooError


@dataclass(frozen=True)
class LayerTokens:
    """The tokens of one layer: `count` neurons, each with `length` numbers (incoming weights, then the bias if any)."""

    layer: str
    count: int
    length: int

    @property
    def size(self) -> int:
        """The numbers of the layer, all tokens together."""
        return self.count * self.length


@dataclass(frozen=True)
class Tokens:
    """How flat weights become neuron tokens.

    Attributes:
        layers: the tokens of each layer, in the order of the forward pass.
        order: int64 (parameter,), the gather index: `weights[..., order]` holds layer after layer, token after token.
    """

    layers: tuple[LayerTokens, ...]
    order: np.ndarray

    @classmethod
    def of(cls, layout: ParameterLayout) -> Self:
        """Return the tokens of an architecture: linear weights (out, in), convolutions (out, in, kh, kw).

        Raises:
            ZooError: a layer has no weight, or a bias that does not fit it.
        """
        parameters = {parameter.name: parameter for parameter in layout.parameters}
        layers, rows = [], []
        for layer in layout.layers:
            weight, bias = parameters.get(f"{layer}.weight"), parameters.get(f"{layer}.bias")
            if weight is None or len(weight.shape) < 2 or (bias is not None and bias.shape != weight.shape[:1]):
                shapes = [parameter.shape for parameter in (weight, bias) if parameter is not None]
                raise ZooError(
                    f"tokens: layer {layer} has shapes {shapes}; expected a weight (out, in, ...) and its bias"
                )
            token = np.arange(weight.start, weight.stop).reshape(weight.shape[0], -1)
            if bias is not None:
                token = np.column_stack([token, np.arange(bias.start, bias.stop)])
            layers.append(LayerTokens(layer, *token.shape))
            rows.append(token.reshape(-1))
        order = np.concatenate(rows)
        if not np.array_equal(np.sort(order), np.arange(layout.size)):
            raise ZooError("tokens: the layers do not cover each parameter once; expected one weight and bias a layer")
        return cls(tuple(layers), order)

    @cached_property
    def count(self) -> int:
        """The number of tokens of a model."""
        return sum(layer.count for layer in self.layers)

    @cached_property
    def inverse(self) -> np.ndarray:
        """The gather index back, int64 (parameter,): flat weights are `laid_out[..., inverse]`."""
        return np.argsort(self.order)
