"""ParameterLayout: which part of a model's flat weight vector is which parameter of which layer.

Weights lie in torch order (out, in, ...), weight before bias, layer after layer. The layout travels with every zoo,
together with the symmetries of its architecture, so that a vector can be read and permuted without the code that
made it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from zoo_gen.errors import ZooError, unknown_name


@dataclass(frozen=True)
class Parameter:
    """One tensor of a model: the elements `start` to `stop` of the flat vector, in row-major order."""

    layer: str
    role: str  # weight or bias, of a recurrent layer one of several; running_mean and what else a state may hold
    shape: tuple[int, ...]
    start: int

    @property
    def name(self) -> str:
        """Its key in the module's `state_dict`."""
        return f"{self.layer}.{self.role}" if self.layer else self.role

    @property
    def size(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)

    @property
    def stop(self) -> int:
        """The position after its last element."""
        return self.start + self.size


@dataclass(frozen=True)
class Move:
    """What a reordering of hidden units does to one parameter: its axis is reordered in blocks of equal length.

    The first block begins at `start`; what the blocks do not cover stays. Where `rows` are given, only that part of
    axis 0 is reordered along the other axis.
    """

    parameter: str
    axis: int
    block: int
    start: int = 0
    rows: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the move as plain data, as short as it was before it knew starts and rows."""
        values = {"parameter": self.parameter, "axis": self.axis, "block": self.block}
        if self.start:
            values["start"] = self.start
        return values if self.rows is None else values | {"rows": list(self.rows)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Read a move from a store's attributes."""
        rows = content.get("rows")
        return cls(**content | {"rows": None if rows is None else tuple(rows)})

    def places(self, order: np.ndarray, length: int) -> np.ndarray:
        """Return which position of its axis, of this length, each position is taken from, for an order of the units."""
        places = np.arange(length)
        blocks = order[:, None] * self.block + np.arange(self.block)
        places[self.start : self.start + blocks.size] = self.start + blocks.reshape(-1)
        return places


@dataclass(frozen=True)
class Symmetry:
    """Hidden units of one layer that can be reordered without changing what the network computes.

    Their own weights and biases move (axis 0), and so do the inputs of the next layer that read them (axis 1; in
    blocks of several inputs a unit where an image was flattened). Units that are added to those of other layers move
    with these, under the name of the first layer; of a part of a layer's units, the name says which, `layer[4:8]`.
    """

    layer: str
    size: int
    moves: tuple[Move, ...]


@dataclass(frozen=True)
class ParameterLayout:
    """The parameters of one architecture in the order in which they lie in the flat weight vector."""

    parameters: tuple[Parameter, ...]
    symmetries: tuple[Symmetry, ...] = ()

    @cached_property
    def size(self) -> int:
        """The length of the flat weight vector."""
        return sum(parameter.size for parameter in self.parameters)

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers that have parameters, in the order of the forward pass."""
        return tuple(dict.fromkeys(parameter.layer for parameter in self.parameters))

    @cached_property
    def is_kernel(self) -> np.ndarray:
        """Whether each element belongs to a weight and not to a bias, bool (parameter,)."""
        return np.concatenate([np.full(p.size, p.role.startswith("weight")) for p in self.parameters])

    def split(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Cut flat weights (..., parameter) into one view a parameter, name -> (..., *shape).

        Raises:
            ZooError: the last axis does not have the length of this layout.
        """
        if weights.shape[-1] != self.size:
            raise ZooError(f"weights of length {weights.shape[-1]} do not fit a layout of {self.size} parameters")
        leading = weights.shape[:-1]
        return {p.name: weights[..., p.start : p.stop].reshape((*leading, *p.shape)) for p in self.parameters}

    def join(self, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
        """Lay one model's parameters (name -> array of its shape) into one flat vector (parameter,).

        Raises:
            ZooError: a parameter is missing, is not in the layout, or has another shape.
        """
        expected = {p.name: p.shape for p in self.parameters}
        shapes = {name: tuple(array.shape) for name, array in parameters.items()}
        if shapes != expected:
            raise ZooError(f"parameters {shapes} do not fit the layout {expected}")
        return np.concatenate([np.asarray(parameters[p.name]).reshape(-1) for p in self.parameters])

    def permutation(self, orders: Mapping[str, Sequence[int] | np.ndarray]) -> np.ndarray:
        """Return the index (parameter,) that reorders hidden units: `weights[..., index]` computes the same function.

        Args:
            orders: layer -> order of its hidden units; unit i of the new model is unit `order[i]` of the old one.

        Raises:
            ZooError: a layer has no hidden units to reorder, or an order is not a permutation of them.
        """
        symmetries = {symmetry.layer: symmetry for symmetry in self.symmetries}
        index = np.arange(self.size)
        parts = self.split(index)  # views into it
        for layer, order in orders.items():
            if layer not in symmetries:
                raise ZooError(unknown_name("layer with hidden units", layer, symmetries))
            symmetry = symmetries[layer]
            if sorted(np.asarray(order).tolist()) != list(range(symmetry.size)):
                raise ZooError(f"order of {layer}: {list(order)} is not a permutation of its {symmetry.size} units")
            for move in symmetry.moves:
                part = parts[move.parameter][slice(*(move.rows or (None,)))]
                part[:] = np.take(part, move.places(np.asarray(order), part.shape[move.axis]), axis=move.axis)
        return index

    def to_json(self) -> dict[str, Any]:
        """Return the layout as plain data for a store's attributes."""
        rows = [
            {"name": p.name, "layer": p.layer, "role": p.role, "shape": list(p.shape), "start": p.start, "stop": p.stop}
            for p in self.parameters
        ]
        symmetries = [
            {"layer": s.layer, "size": s.size, "moves": [move.to_json() for move in s.moves]} for s in self.symmetries
        ]
        return {"parameters": rows, "symmetries": symmetries}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Read the layout from a store's attributes.

        Raises:
            ZooError: the parameters do not follow one another without gap or overlap.
        """
        rows = content["parameters"]
        parameters = tuple(Parameter(r["layer"], r["role"], tuple(r["shape"]), r["start"]) for r in rows)
        position = 0
        for parameter, row in zip(parameters, rows, strict=True):
            if parameter.start != position or parameter.stop != row["stop"]:
                raise ZooError(f"layout: {parameter.name} lies at {row['start']}-{row['stop']}; expected {position}")
            position = parameter.stop
        symmetries = tuple(
            Symmetry(s["layer"], s["size"], tuple(map(Move.from_json, s["moves"]))) for s in content["symmetries"]
        )
        return cls(parameters, symmetries)
