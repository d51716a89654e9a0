"""The parameter layout of a sequence of layers, with the sets of hidden units that can be reordered.

Which units are one set is found by following each through the network: where it lies in which parameter. Units that are
added to each other are one unit from then on, and so move together along a whole residual stream. Units can change
places if they lie in the same parameters in the same way; inputs and outputs of the network never can.

Heads of attention can be reordered, and in each head the units of queries together with keys, and those of values
together with what reads them: no normalisation and no residual connection lies between, so these always can. All other
sets are as for linear layers: codes of position that are not learned fix the units that they are added to.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zoo_gen.architecture.layers import (
    INPUT,
    Attention,
    Branch,
    ClassToken,
    Convolution,
    Flatten,
    GroupNorm,
    Layer,
    LayerNorm,
    Linear,
    Normalization,
    PositionEmbedding,
    Recurrent,
    Residual,
    Rows,
    Shape,
)
from zoo_gen.architecture.layout import Move, Parameter, ParameterLayout, Symmetry
from zoo_gen.architecture.shapes import buffer_shapes, parameter_shapes, shapes


def layouts(layers: Sequence[Layer], input_shape: Shape) -> tuple[ParameterLayout, ParameterLayout]:
    """Return the layouts of the weights and of the buffers: where each tensor lies, and which units can be reordered.

    An order of units is applied to both; each has the moves that concern it.
    """
    parameters, buffers = _laid_out(layers, parameter_shapes), _laid_out(layers, buffer_shapes)
    names = {buffer.name for buffer in buffers}
    of_weights: list[Symmetry] = []
    of_buffers: list[Symmetry] = []
    for each in _Walk(layers, input_shape).symmetries():
        of_weights.append(replace(each, moves=tuple(move for move in each.moves if move.parameter not in names)))
        of_buffers.append(replace(each, moves=tuple(move for move in each.moves if move.parameter in names)))
    return ParameterLayout(parameters, tuple(of_weights)), ParameterLayout(buffers, tuple(of_buffers))


def _laid_out(layers: Sequence[Layer], shapes_of: Callable[[Layer], list[tuple[str, Shape]]]) -> tuple[Parameter, ...]:
    parameters: list[Parameter] = []
    for layer in layers:
        for role, shape in shapes_of(layer):
            owner, _, own_role = f"{layer.name}.{role}".rpartition(".")  # in attention, one of four linear layers
            parameters.append(Parameter(owner, own_role, shape, parameters[-1].stop if parameters else 0))
    return tuple(parameters)


_PARTS = ("query", "key", "value", "output")


@dataclass(frozen=True)
class _Axis:
    """The units along the channels or features of a value: a unit is `block` neighbours, in each of `copies`."""

    units: np.ndarray  # int64 (unit,)
    block: int = 1
    copies: int = 1


@dataclass(frozen=True)
class _Place:
    """Where neighbouring units lie in a parameter, the first as `move` says; without one, what they have in common."""

    units: np.ndarray  # int64 (unit,)
    move: Move | None


class _Walk:
    """What is known of the units of a network, layer after layer."""

    def __init__(self, layers: Sequence[Layer], input_shape: Shape) -> None:
        self._same = np.arange(0)  # unit -> the first of those that are one with it
        self._fixed: list[np.ndarray] = []
        self._places: list[_Place] = []
        self._inside: list[tuple[int, int, Symmetry]] = []  # of attention, with the number of the place before
        axis = _Axis(self._new(input_shape[-1] if len(input_shape) == 2 else input_shape[0]))
        self._fixed.append(axis.units)
        earlier, shape = {INPUT: axis}, input_shape
        for layer, after in zip(layers, shapes(layers, input_shape), strict=True):
            axis = earlier[layer.source] if isinstance(layer, Branch) else self._passed(layer, axis, shape, earlier)
            earlier[layer.name], shape = axis, after
        self._fixed.append(axis.units)

    def symmetries(self) -> list[Symmetry]:
        """Return the sets of units that can be reordered, in the order of the layers that make them."""
        n_units = len(self._same)
        lies = np.zeros((n_units, len(self._places)), dtype=bool)
        for number, place in enumerate(self._places):
            lies[self._same[place.units], number] = True
        fixed = np.zeros(n_units, dtype=bool)
        fixed[self._same[np.concatenate(self._fixed)]] = True
        ways, way_of = np.unique(lies, axis=0, return_inverse=True)
        placed = list(self._inside)
        for way in range(len(ways)):
            units = np.flatnonzero((way_of.reshape(-1) == way) & ~fixed & (self._same == np.arange(n_units)))
            numbers = np.flatnonzero(ways[way]).tolist()
            if not len(units) or not len(numbers):
                continue
            moves, firsts = [], []
            for number in numbers:
                place = self._places[number]
                (positions,) = np.nonzero(np.isin(self._same[place.units], units))
                firsts.append(int(positions[0]))
                assert (np.diff(positions) == 1).all()  # units that are alike are neighbours
                if place.move is not None:
                    moves.append(replace(place.move, start=place.move.start + firsts[-1] * place.move.block))
            new_axis = self._places[numbers[0]]
            assert new_axis.move is not None  # which makes the units
            name, whole = new_axis.move.parameter.rpartition(".")[0], len(units) == len(new_axis.units)
            if whole or len(units) > 1:
                name = name if whole else f"{name}[{firsts[0]}:{firsts[0] + len(units)}]"
                placed.append((numbers[0], firsts[0], Symmetry(name, len(units), tuple(moves))))
        return [symmetry for *_, symmetry in sorted(placed, key=lambda each: each[:2])]

    def _passed(self, layer: Layer, axis: _Axis, shape: Shape, earlier: dict[str, _Axis]) -> _Axis:
        """Return the axis of what a layer gives for a value of a shape."""
        if isinstance(layer, Convolution) and layer.groups > 1:
            return self._grouped(layer, axis)
        if isinstance(layer, Convolution | Linear | Recurrent):
            return self._computed(layer, axis)
        if isinstance(layer, Normalization | LayerNorm | GroupNorm):
            for role, _ in [*parameter_shapes(layer), *buffer_shapes(layer)]:
                self._put(axis, f"{layer.name}.{role}", 0)
            if isinstance(layer, GroupNorm):
                self._cut(axis, layer.groups, layer.channels // layer.groups)
        elif isinstance(layer, Attention):
            return self._attending(layer, axis)
        elif isinstance(layer, ClassToken) or (isinstance(layer, PositionEmbedding) and layer.learned):
            self._put(axis, f"{layer.name}.weight", 1)
        elif isinstance(layer, PositionEmbedding):
            self._fixed.append(axis.units)
        elif isinstance(layer, Rows):
            return replace(axis, block=axis.block * shape[2])
        elif isinstance(layer, Flatten) and len(shape) == 2:
            return replace(axis, copies=axis.copies * shape[0])
        elif isinstance(layer, Flatten):
            positions = math.prod(shape[1:])
            if layer.channels_last and positions > 1:
                self._fixed.append(axis.units)  # a unit's values are not neighbours then
            return replace(axis, block=axis.block * positions)
        elif isinstance(layer, Residual):
            other = earlier[layer.source]
            are_alike = (len(axis.units), axis.block, axis.copies) == (len(other.units), other.block, other.copies)
            if layer.channels is None and are_alike:
                self._unite(axis.units, other.units)
            else:
                self._fixed += [axis.units, other.units]
        return axis

    def _computed(self, layer: Convolution | Linear | Recurrent, axis: _Axis) -> _Axis:
        """Return the units of a layer, which reads others."""
        new_axis = _Axis(self._new(layer.outputs), copies=layer.gates if isinstance(layer, Recurrent) else 1)
        read: list[tuple[_Axis, str]] = []
        for role, parameter_shape in parameter_shapes(layer):
            self._put(new_axis, f"{layer.name}.{role}", 0)
            if len(parameter_shape) > 1:
                read.append((replace(new_axis, copies=1) if role == "weight_hh_l0" else axis, f"{layer.name}.{role}"))
        for each, parameter in read:
            self._put(each, parameter, 1)
        return replace(new_axis, copies=1)

    def _attending(self, layer: Attention, axis: _Axis) -> _Axis:
        """Return the units that attention gives, which reads others; note those inside."""
        names, units = {role: f"{layer.name}.{role}" for role, _ in parameter_shapes(layer)}, layer.units
        makers = {part: [name for role, name in names.items() if role.startswith(part)] for part in _PARTS}

        def note(key: str, size: int, *, of: Sequence[str], block: int, start: int = 0, read: bool) -> None:
            moves = [Move(name, 0, block, start) for part in of for name in makers[part]]
            moves += [Move(names["output.weight"], 1, block, start)] if read else []
            if size > 1:
                self._inside.append(
                    (len(self._places), len(self._inside), Symmetry(f"{layer.name}.{key}", size, tuple(moves)))
                )

        # Heads first: the orders within heads are then those of the places where heads have come to lie.
        note("heads", layer.heads, of=("query", "key", "value"), block=units, read=True)
        for head in range(layer.heads):
            rows = f"[{head * units}:{(head + 1) * units}]"
            note(f"query{rows}", units, of=("query", "key"), block=1, start=head * units, read=False)
            note(f"value{rows}", units, of=("value",), block=1, start=head * units, read=True)
        for part in ("query", "key", "value"):
            self._put(axis, names[f"{part}.weight"], 1)
        new_axis = _Axis(self._new(layer.features))
        for name in makers["output"]:
            self._put(new_axis, name, 0)
        return new_axis

    def _grouped(self, layer: Convolution, axis: _Axis) -> _Axis:
        """Return the units of a convolution with groups; those of a depthwise one are the units that it reads."""
        inputs, outputs = layer.inputs // layer.groups, layer.outputs // layer.groups
        parameters = [f"{layer.name}.{role}" for role, _ in parameter_shapes(layer)]
        if inputs == 1:
            axis = replace(axis, block=axis.block * outputs)
            for parameter in parameters:
                self._put(axis, parameter, 0)
            return axis
        new_axis = _Axis(self._new(layer.outputs))
        for parameter in parameters:
            self._put(new_axis, parameter, 0)
        self._cut(new_axis, layer.groups, outputs)
        if inputs % axis.block:
            self._fixed.append(axis.units)
            return new_axis
        each = inputs // axis.block
        for group in range(layer.groups):
            rows = (group * outputs, (group + 1) * outputs)
            part = replace(axis, units=axis.units[group * each : (group + 1) * each])
            self._put(part, parameters[0], 1, rows=rows)
        return new_axis

    def _put(self, axis: _Axis, parameter: str, number: int, *, rows: tuple[int, int] | None = None) -> None:
        """Note that units lie along an axis of a parameter."""
        length = len(axis.units) * axis.block
        for copy in range(axis.copies):
            move = Move(parameter, number, axis.block, copy * length, rows)
            self._places.append(_Place(axis.units, move))

    def _cut(self, axis: _Axis, groups: int, channels: int) -> None:
        """Note that units are in groups of so many channels, which none can leave."""
        each = channels // axis.block
        if groups > 1 and channels % axis.block and axis.block % channels:
            self._fixed.append(axis.units)
        elif groups > 1 and each > 1:
            starts = range(0, len(axis.units), each)
            self._places += [_Place(axis.units[start : start + each], None) for start in starts]

    def _new(self, count: int) -> np.ndarray:
        first = len(self._same)
        self._same = np.arange(first + count) if not first else np.append(self._same, np.arange(first, first + count))
        return np.arange(first, first + count)

    def _unite(self, units: np.ndarray, others: np.ndarray) -> None:
        """Make each unit one with another, and with all that are one with it."""
        for one, two in zip(units.tolist(), others.tolist(), strict=True):
            first, second = sorted((int(self._same[one]), int(self._same[two])))
            self._same[self._same == second] = first
