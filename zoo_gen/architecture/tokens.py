"""Tokens: the weights of a network as a sequence of rows, each the incoming weights of a neuron and its bias.

A channel that is normalised has a row of its scale and shift; a hidden unit of a GRU has one for each gate. A bias
without weights of as many rows, and any other vector that is no weight, is a row by itself.

Rows are laid out layer after layer, so that one gather by index turns flat weights into all tokens at once: no loop
over neurons. Offsets come from the shapes of the layout alone and are checked to be a partition, because a wrong offset
in a hand-made table corrupts results without a word.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from zoo_gen.architecture.layout import Parameter, ParameterLayout
from zoo_gen.errors import ZooError

POSITIONS = ("sequence", "layer", "row", "part")  # what the position of a token of one size says


@dataclass(frozen=True)
class LayerTokens:
    """The rows of one layer: `count` neurons, each with `length` numbers (incoming weights, then the bias if any)."""

    layer: str
    count: int
    length: int

    @property
    def size(self) -> int:
        """The numbers of the layer, all rows together."""
        return self.count * self.length


@dataclass(frozen=True)
class Tokens:
    """How flat weights become tokens as long as the rows of each layer, a neuron each.

    Attributes:
        layers: the rows of each layer, in the order of the forward pass; a layer of several kinds of rows comes
            several times.
        order: int64 (parameter,), the gather index: `weights[..., order]` holds layer after layer, row after row.
    """

    layers: tuple[LayerTokens, ...]
    order: np.ndarray

    @classmethod
    def of(cls, layout: ParameterLayout) -> Self:
        """Return the tokens of an architecture: the rows of each layer's parameters (out, ...), beside each other.

        Raises:
            ZooError: the parameters do not cover the weights once.
        """
        layers, rows = [], []
        for layer, row_index in _row_indices(layout):
            layers.append(LayerTokens(layer, *row_index.shape))
            rows.append(row_index.reshape(-1))
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


@dataclass(frozen=True)
class TokenIndex:
    """How flat weights become tokens of one size, whatever the architecture: rows are cut into pieces and filled up.

    Attributes:
        index: int64 (token, size), the places in the flat weights; -1 is padding, at the end of a row.
        positions: int64 (token, 4), of each token what POSITIONS names: its place in the sequence, its layer counted
            from the input, its row within the layer, and which piece of the row it is; all from 0.
    """

    index: np.ndarray
    positions: np.ndarray

    @classmethod
    def of(cls, layout: ParameterLayout, size: int | None = None) -> Self:
        """Return the tokens of an architecture (the tokenisation of SANE, Schürholt et al., ICML 2024).

        Args:
            layout: of the weights.
            size: numbers a token; without it, the longest row of this architecture.

        Raises:
            ZooError: the size is below 1.
        """
        tokens = Tokens.of(layout)
        size = max(layer.length for layer in tokens.layers) if size is None else size
        if size < 1:
            raise ZooError(f"tokens: got a size of {size}; expected 1 or more numbers a token")
        indices, positions, first, rows_before = [], [], 0, dict.fromkeys(layout.layers, 0)
        for layer in tokens.layers:
            rows = tokens.order[first : first + layer.size].reshape(layer.count, layer.length)
            pieces = -(-layer.length // size)
            padded = np.pad(rows, ((0, 0), (0, pieces * size - layer.length)), constant_values=-1)
            indices.append(padded.reshape(-1, size))
            row, part = np.divmod(np.arange(layer.count * pieces), pieces)
            number = np.full(len(row), layout.layers.index(layer.layer))
            positions.append(np.stack([number, rows_before[layer.layer] + row, part], axis=1))
            first += layer.size
            rows_before[layer.layer] += layer.count
        index = np.concatenate(indices)
        return cls(index, np.column_stack([np.arange(len(index)), np.concatenate(positions)]))

    @cached_property
    def mask(self) -> np.ndarray:
        """Where a number stands and no padding, bool (token, size)."""
        return self.index >= 0

    def values(self, weights: np.ndarray) -> np.ndarray:
        """Return the tokens (network, token, size) of flat weights (network, parameter), with 0 for padding."""
        return np.where(self.mask, weights[:, self.index], np.zeros((), weights.dtype))

    def join(self, values: np.ndarray) -> np.ndarray:
        """Return the flat weights (network, parameter) of tokens (network, token, size), whatever stands in padding.

        >>> from zoo_gen.architecture.registry import MLP, network
        >>> tokens = TokenIndex.of(network(MLP(name="mlp", widths=(3, 2)), (3,), 2).layout, size=3)
        >>> tokens.mask.tolist()  # three weights and a bias make two tokens of three numbers
        [[True, True, True], [True, False, False], [True, True, True], [True, False, False]]
        >>> tokens.join(tokens.values(np.arange(8.0)[None])).tolist()
        [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]]
        """
        weights = np.empty((len(values), int(self.mask.sum())), values.dtype)
        weights[:, self.index[self.mask]] = values[:, self.mask]
        return weights


@dataclass(frozen=True)
class TokenSequences:
    """Networks of one architecture as sequences of tokens: a shared index, and the numbers of each network."""

    index: TokenIndex
    values: np.ndarray  # float32 (network, token, size), 0 for padding

    @property
    def mask(self) -> np.ndarray:
        """Where a number stands and no padding, bool (token, size), for all networks."""
        return self.index.mask

    @property
    def positions(self) -> np.ndarray:
        """Of each token its place in the sequence, layer, row and part of the row, int64 (token, 4)."""
        return self.index.positions

    def __len__(self) -> int:
        return len(self.values)


def _row_indices(layout: ParameterLayout) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each layer with the places of its rows in the flat weights (row, number).

    Parameters of as many rows stand beside each other, in the order of the layout.
    """
    for layer in layout.layers:
        alike: dict[int, list[Parameter]] = {}
        for parameter in layout.parameters:
            if parameter.layer == layer:
                alike.setdefault(parameter.shape[0] if parameter.shape else 0, []).append(parameter)
        for count, parameters in alike.items():
            has_rows = any(len(p.shape) > 1 or p.role.startswith("weight") for p in parameters)
            for together in [parameters] if has_rows else [[parameter] for parameter in parameters]:
                shape = (count if has_rows else 1, -1)
                yield layer, np.column_stack([np.arange(p.start, p.stop).reshape(shape) for p in together])
