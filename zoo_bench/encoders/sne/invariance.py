"""Random reorderings and sign changes of hidden units, for the logit invariance (SNE, section 3.6, appendix C).

The penalty is half the squared difference between the outputs for a network and for a random reordering of its hidden
units. Every network of a batch gets another order, drawn on the device for all layouts at once: each position of
a flat vector knows which unit of which layer moves it, and how far.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from zoo_bench.encoders.sne.batches import Ragged
from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.errors import ZooError

AXES = 2  # a parameter has units along its outputs, its inputs, both or neither
DEPTH = 2  # and on each of them units whose own parts are units of another set, as heads of attention have


class Moves(NamedTuple):
    """What moves where in a batch, one network after another."""

    networks: Tensor  # int64 (number,), the network of each number
    positions: Tensor  # int64 (number,), where it lies in its network
    fixed: Tensor  # int64 (number,), the part of its position that does not move
    units: Tensor  # int64 (number, way), which units of the batch move it; any where the stride is 0
    strides: Tensor  # int64 (number, way), how far apart neighbouring units lie
    segments: Tensor  # int64 (unit,), the set of units that are reordered among themselves
    firsts: Tensor  # int64 (unit,), the first unit of that set
    starts: Tensor  # int64 (network,), where each reordered network begins


class Permuter:
    """Draws reorderings of hidden units, and changes of their signs, for batches over a fixed list of layouts."""

    def __init__(self, layouts: Sequence[ParameterLayout], device: torch.device) -> None:
        self._device = device
        self._moves: dict[bytes, Moves] = {}
        tables = [_table(layout) for layout in layouts]
        moving = np.stack([(strides != 0).any(axis=0) for _, _, strides, _ in tables]).any(axis=0)
        self._ways = int(moving.sum())
        rows = [
            np.concatenate([fixed[:, None], units[:, moving], strides[:, moving]], axis=1).tolist()
            for fixed, units, strides, _ in tables
        ]
        self._positions = Ragged(rows)
        self._sizes = Ragged([sizes for *_, sizes in tables])
        self._units = np.array([sum(sizes) for *_, sizes in tables])
        self._lengths = np.array([layout.size for layout in layouts])

    def draw(
        self, layouts: np.ndarray, numbers: Tensor, offsets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return reordered networks of a batch.

        Args:
            layouts: the number of each network's layout, int64 (network,).
            numbers: of many networks (number,).
            offsets: where the networks of the batch begin in them, int64 (network,).
            generator: on the device.

        Returns:
            Their numbers, one network after another, and where each begins.
        """
        moves = self._moves_of(layouts)
        # Sorting random keys within each set of units gives every order the same chance.
        keys = torch.rand(len(moves.segments), generator=generator, device=self._device, dtype=torch.float64)
        orders = torch.argsort(keys + moves.segments) - moves.firsts
        moved = (orders[moves.units] * moves.strides).sum(dim=1)
        return numbers[offsets[moves.networks] + moves.fixed + moved], moves.starts

    def flip(
        self, layouts: np.ndarray, numbers: Tensor, offsets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return networks of a batch with random hidden units negated, in what makes them and in what reads them.

        With an odd activation (sine, tanh) they compute the same. Arguments and result are those of `draw`.
        """
        moves = self._moves_of(layouts)
        flips = torch.randint(0, 2, moves.segments.shape, generator=generator, device=self._device)
        both = torch.where(moves.strides > 0, flips[moves.units], 0).sum(dim=1)  # twice is not at all
        return numbers[offsets[moves.networks] + moves.positions] * (1 - 2 * (both % 2)), moves.starts

    def _moves_of(self, layouts: np.ndarray) -> Moves:
        key = layouts.tobytes()
        if key not in self._moves:
            self._moves = {key: self._make(layouts)}
        return self._moves[key]

    def _make(self, layouts: np.ndarray) -> Moves:
        positions, networks = self._positions.take(layouts)
        sizes, _ = self._sizes.take(layouts)
        firsts = np.repeat(np.cumsum(sizes) - sizes, sizes)
        first_units = np.cumsum(self._units[layouts]) - self._units[layouts]
        units = positions[:, 1 : 1 + self._ways] + first_units[networks, None]
        lengths = self._lengths[layouts]
        starts = np.cumsum(lengths) - lengths
        arrays = (
            networks,
            np.arange(len(networks)) - starts[networks],
            positions[:, 0],
            np.minimum(units, max(len(firsts) - 1, 0)),
            positions[:, 1 + self._ways :],
            np.repeat(np.arange(len(sizes)), sizes),
            firsts,
            starts,
        )
        return Moves(*(torch.from_numpy(np.ascontiguousarray(a, dtype=np.int64)).to(self._device) for a in arrays))


def has_symmetries(layouts: Sequence[ParameterLayout]) -> bool:
    """Say whether any hidden units can be reordered."""
    return any(layout.symmetries for layout in layouts)


def has_signs(layouts: Sequence[ParameterLayout]) -> bool:
    """Say whether hidden units can be negated: not behind a normalisation, which has weights along one axis."""
    parameters = (parameter for layout in layouts for parameter in layout.parameters)
    plain = all(
        parameter.role == "bias" or (parameter.role == "weight" and len(parameter.shape) in (2, 4))
        for parameter in parameters
    )
    return plain and has_symmetries(layouts)


def _table(layout: ParameterLayout) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """Return what is fixed of each position (number,), its units and strides (number, way), and the sizes of the sets.

    A way is an axis and a depth. Sets inside units of another come after it in a layout, and are reordered where these
    have come to lie, so that which units move a position does not depend on the orders.
    """
    units = layout.split(np.zeros((AXES * DEPTH, layout.size), dtype=np.int64))
    strides = layout.split(np.zeros((AXES * DEPTH, layout.size), dtype=np.int64))
    shapes = {parameter.name: parameter.shape for parameter in layout.parameters}
    first = 0
    for symmetry in layout.symmetries:
        for move in symmetry.moves:
            shape = shapes[move.parameter]
            along = [1] * len(shape)
            along[move.axis] = -1
            length = symmetry.size * move.block
            part = [slice(*(move.rows or (None,))), *[slice(None)] * (len(shape) - 1)]
            part[move.axis] = slice(move.start, move.start + length)
            way = None if move.axis >= AXES else _way(move.axis, units[move.parameter], strides[move.parameter], part)
            if way is None:
                raise ZooError(
                    f"permutations: units of {symmetry.layer} share axis {move.axis} of {move.parameter} with others, "
                    "or lie along neither outputs nor inputs; expected one set an axis, or one inside units of another"
                )
            unit = (np.arange(length) // move.block).reshape(along)
            units[move.parameter][way][*part] = first + unit
            strides[move.parameter][way][*part] = move.block * int(np.prod(shape[move.axis + 1 :]))
        first += symmetry.size
    flat_units, flat_strides = (
        np.stack([layout.join({name: array[way] for name, array in arrays.items()}) for way in range(AXES * DEPTH)], 1)
        for arrays in (units, strides)
    )
    sizes = [symmetry.size for symmetry in layout.symmetries]
    local = np.concatenate([np.arange(size) for size in sizes]) if sizes else np.zeros(1, dtype=np.int64)
    fixed = np.arange(layout.size) - (local[flat_units] * flat_strides).sum(axis=1)
    return fixed, flat_units, flat_strides, sizes


def _way(axis: int, units: np.ndarray, strides: np.ndarray, part: list[slice]) -> int | None:
    """Return the way in which units lie along an axis of a part of a parameter; None where others are in the way."""
    outer, inner = axis * DEPTH, axis * DEPTH + 1
    if not strides[outer][*part].any():
        return outer
    around = units[outer][*part]
    is_inside_one = (around == around.flat[0]).all() and strides[outer][*part].all()
    return inner if is_inside_one and not strides[inner][*part].any() else None
