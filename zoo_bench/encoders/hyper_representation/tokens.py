"""Neuron tokens: a model's weights as one token a neuron (or filter), its incoming weights followed by its bias.

A channel that is normalised has a token of its scale and shift; a hidden unit of a GRU has one for each gate.

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
        """Return the tokens of an architecture: the rows of each layer's parameters (out, ...), beside each other.

        Raises:
            ZooError: a layer has no weight, or a parameter with other rows than its first.
        """
        layers, rows = [], []
        for layer in layout.layers:
            own = [parameter for parameter in layout.parameters if parameter.layer == layer]
            if not own[0].role.startswith("weight") or len({parameter.shape[:1] for parameter in own}) > 1:
                shapes = [parameter.shape for parameter in own]
                raise ZooError(
                    f"tokens: layer {layer} has shapes {shapes}; expected a weight (out, ...), and all others of as "
                    "many rows"
                )
            token = np.column_stack([np.arange(p.start, p.stop).reshape(p.shape[0], -1) for p in own])
            layers.append(LayerTokens(layer, *token.shape))
            rows.append(token.reshape(-1))
        order = np.concatenate(rows)
        if not np.array_equal(np.sort(order), np.arange(layout.size)):
            raise ZooError("tokens: the layers do not cover each parameter once; expected parameters without gaps")
        return cls(tuple(layers), order)

    @cached_property
    def count(self) -> int:
        """The number of tokens of a model."""
        return sum(layer.count for layer in self.layers)

    @cached_property
    def inverse(self) -> np.ndarray:
        """The gather index back, int64 (parameter,): flat weights are `laid_out[..., inverse]`."""
        return np.argsort(self.order)
