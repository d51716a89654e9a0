"""ParameterLayout: which part of a model's flat weight vector is which parameter of which layer.

Weights lie in torch order (out, in), weight before bias, layer after layer. The layout travels with every zoo, so
that a vector can be read without the code that made it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np

from zoo_gen.errors import ZooError


@dataclass(frozen=True)
class Parameter:
    """One tensor of a model: the elements `start` to `stop` of the flat vector, in row-major order."""

    layer: str
    role: Literal["weight", "bias"]
    shape: tuple[int, ...]
    start: int

    @property
    def name(self) -> str:
        """Its key in the module's `state_dict`."""
        return f"{self.layer}.{self.role}"

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
    """What permuting a layer's units reorders in one parameter: `axis`, in blocks of `block` consecutive entries."""

    parameter: str
    axis: int
    block: int


@dataclass(frozen=True)
class Symmetry:
    """The `size` hidden units of a layer, whose order does not matter if all the moves are made together."""

    layer: str
    size: int
    moves: tuple[Move, ...]


@dataclass(frozen=True)
class ParameterLayout:
    """The parameters of one architecture in the order in which they lie in the flat weight vector."""

    parameters: tuple[Parameter, ...]

    @cached_property
    def size(self) -> int:
        """The length of the flat weight vector."""
        return sum(parameter.size for parameter in self.parameters)

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers that have parameters, in the order of the forward pass."""
        return tuple(dict.fromkeys(parameter.layer for parameter in self.parameters))

    @cached_property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """The permutation symmetries of layers that follow one another: of all but the last."""
        found = []
        by_name = {parameter.name: parameter for parameter in self.parameters}
        for layer, after in pairwise(self.layers):
            size = by_name[f"{layer}.weight"].shape[0]
            names = [name for name in (f"{layer}.weight", f"{layer}.bias") if name in by_name]
            block = by_name[f"{after}.weight"].shape[1] // size
            moves = [Move(name, axis=0, block=1) for name in names] + [Move(f"{after}.weight", axis=1, block=block)]
            found.append(Symmetry(layer, size, tuple(moves)))
        return tuple(found)

    def permutation(self, orders: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the gather index int64 (parameter,) that puts hidden units in new orders: new[i] = old[order[i]].

        The permuted network, `weights[..., index]`, computes the same function. `orders` maps layers to int (unit,).
        """
        index = self.split(np.arange(self.size))
        for symmetry in self.symmetries:
            if symmetry.layer in orders:
                order = np.asarray(orders[symmetry.layer])
                for move in symmetry.moves:
                    entries = (order[:, None] * move.block + np.arange(move.block)).reshape(-1)
                    index[move.parameter] = np.take(index[move.parameter], entries, axis=move.axis)
        return self.join(index)

    def split(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Cut flat weights (..., parameter) into one view a parameter, name -> (..., *shape).

        Raises:
            ZooError: the last axis does not have the length of this layout.
        """
        if weights.shape[-1] != self.size:
            raise ZooError(f"weights of length {weights.shape[-1]} do not fit a layout of {self.size} parameters")
        return {p.name: weights[..., p.start : p.stop].reshape(*weights.shape[:-1], *p.shape) for p in self.parameters}

    def join(self, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
        """Lay one model's parameters (name -> array of its shape) into one flat vector (parameter,).

        Raises:
            ZooError: a parameter is missing, is not in the layout, or has another shape.
        """
        expected = {p.name: p.shape for p in self.parameters}
        found = {name: tuple(array.shape) for name, array in parameters.items()}
        if found != expected:
            raise ZooError(f"parameters {found} do not fit the layout {expected}")
        return np.concatenate([np.asarray(parameters[p.name]).reshape(-1) for p in self.parameters])

    def to_json(self) -> list[dict[str, Any]]:
        """Return the layout as plain data for a store's attributes."""
        return [
            {"name": p.name, "layer": p.layer, "role": p.role, "shape": list(p.shape), "start": p.start, "stop": p.stop}
            for p in self.parameters
        ]

    @classmethod
    def from_json(cls, rows: list[dict[str, Any]]) -> Self:
        """Read the layout from a store's attributes.

        Raises:
            ZooError: the parameters do not follow one another without gap or overlap.
        """
        parameters = tuple(Parameter(r["layer"], r["role"], tuple(r["shape"]), r["start"]) for r in rows)
        position = 0
        for parameter, row in zip(parameters, rows, strict=True):
            if parameter.start != position or parameter.stop != row["stop"]:
                raise ZooError(f"layout: {parameter.name} lies at {row['start']}-{row['stop']}; expected {position}")
            position = parameter.stop
        return cls(parameters)
