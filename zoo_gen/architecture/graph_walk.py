"""GraphWalk: the units and edges of a network's graph, found by walking through its layers.

Edges come in blocks that are tensors (group, target, source): one group where all units of a layer read all of another,
several in convolutions with groups and within heads of attention, and as many as units where each reads its equal.
"""

import math
from collections.abc import Mapping
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
    Pair,
    PositionEmbedding,
    Recurrent,
    Residual,
    Rows,
    Shape,
)
from zoo_gen.architecture.network import Network
from zoo_gen.architecture.shapes import shapes
from zoo_gen.errors import ZooError

NODE_FEATURES = ("bias", "weight", "norm_bias", "running_mean", "running_var")  # the last four: of normalisation
KINDS = ("input", "hidden", "output")
_INSTEAD = "expected an encoder of weights, or tensors()"


@dataclass(frozen=True)
class Units:
    """The units of one layer among all nodes."""

    name: str
    start: int
    index: np.ndarray  # int64 (unit, feature), where NODE_FEATURES lie; -1 where there is none
    is_input: bool = False  # or the constant 1

    @property
    def count(self) -> int:
        """How many units there are."""
        return len(self.index)

    @property
    def nodes(self) -> tuple[int, int]:
        """From which node to which they are."""
        return self.start, self.start + self.count


@dataclass(frozen=True)
class EdgeBlock:
    """The edges from the units of one layer to those of another, or of some of them.

    Attributes:
        source_layer, target_layer: whose units they join.
        sources, targets: from which node to which.
        groups: how many neighbouring parts both are cut into, each of which is joined with its equal alone.
        kernel: height and width of the numbers on an edge; 0 and 0 if it has none.
        index: int64 (edge, number), where the numbers lie in the weights; edges group by group, target by target.
    """

    source_layer: int
    target_layer: int
    sources: tuple[int, int]
    targets: tuple[int, int]
    groups: int
    kernel: Pair
    index: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        """Groups, and the targets and sources of each."""
        targets, sources = (stop - start for start, stop in (self.targets, self.sources))
        return self.groups, targets // self.groups, sources // self.groups

    @property
    def count(self) -> int:
        """How many edges there are."""
        return math.prod(self.shape)

    @property
    def has_weight(self) -> bool:
        """Whether there are numbers on an edge."""
        return self.kernel != (0, 0)

    @property
    def edges(self) -> np.ndarray:
        """From which node to which each leads, int64 (2, edge)."""
        groups, targets, sources = self.shape
        to = np.arange(*self.targets).reshape(groups, targets, 1)
        origin = np.arange(*self.sources).reshape(groups, 1, sources)
        return np.stack([np.broadcast_to(ends, self.shape).reshape(-1) for ends in (origin, to)])


@dataclass(frozen=True)
class _Value:
    """What a layer gives: whose units, and how its numbers lie among them."""

    layer: int
    shape: Shape  # of the value
    positions: Pair = (1, 1)  # height and width of the numbers that each unit has where it is read as flat values
    positions_first: bool = False  # whether these lie position by position


class GraphWalk:
    """The units and edges of a network; `last` is the place of the units that it gives.

    Raises:
        ZooError: a layer has no form as a graph.
    """

    def __init__(self, network: Network) -> None:
        self.units: list[Units] = []
        self.blocks: list[EdgeBlock] = []
        self._places = network.layout.split(np.arange(network.layout.size))
        shape = network.input_shape
        value = _Value(self._add(INPUT, shape[-1] if len(shape) == 2 else shape[0], is_input=True), shape)
        earlier = {INPUT: value}
        for layer, after in zip(network.layers, shapes(network.layers, shape), strict=True):
            value = replace(self._passed(layer, value, earlier), shape=after)
            earlier[layer.name] = value
        self.last = value.layer

    def _passed(self, layer: Layer, value: _Value, earlier: Mapping[str, _Value]) -> _Value:
        """Return what a layer makes of a value."""
        if isinstance(layer, Branch):
            return earlier[layer.source]
        if isinstance(layer, Flatten) and self.units[value.layer].name == INPUT and len(value.shape) == 3:
            self.units[0] = replace(self.units[0], index=np.full((math.prod(value.shape), len(NODE_FEATURES)), -1))
            return value  # every pixel of an input is a unit of its own
        if isinstance(layer, Flatten | Rows):
            return _laid_out(layer, value)
        if isinstance(layer, Convolution):
            return self._reading_units(layer.name, value, layer.outputs, kernel=layer.kernels, groups=layer.groups)
        if isinstance(layer, Linear):
            return self._reading_units(layer.name, value, layer.outputs)
        if isinstance(layer, Recurrent):
            return self._recurrent(layer, value)
        if isinstance(layer, Attention):
            return self._attention(layer, value)
        if isinstance(layer, ClassToken | PositionEmbedding):
            weight = self._places.get(f"{layer.name}.weight")  # (step, feature)
            if weight is not None:
                self._constant(layer, value, weight.T, (len(weight), 1))
        elif isinstance(layer, Normalization | LayerNorm | GroupNorm):
            self._normalise(layer, value)
        elif isinstance(layer, Residual):
            self._residual(layer, value, earlier[layer.source])
        elif any(name.startswith(f"{layer.name}.") for name in self._places):
            raise _formless(layer)
        return value

    def _reading_units(
        self, name: str, value: _Value, outputs: int, *, kernel: Pair = (1, 1), groups: int = 1
    ) -> _Value:
        """Return the new units of a convolution or a linear layer, which read others."""
        layer = self._add(name, outputs, bias=f"{name}.bias")
        positions = value.positions if kernel == (1, 1) else kernel
        self._join(value, layer, self._places[f"{name}.weight"], positions, groups=groups)
        return _Value(layer, ())

    def _recurrent(self, layer: Recurrent, value: _Value) -> _Value:
        """Return the units of a recurrent layer, which read the step before too; an edge has a number a gate."""
        units = self._add(layer.name, layer.outputs)
        for role, read in (("weight_ih_l0", value), ("weight_hh_l0", _Value(units, ()))):
            gates = self._places[f"{layer.name}.{role}"].reshape(layer.gates, layer.outputs, -1)
            by_unit = gates.transpose(1, 2, 0).reshape(layer.outputs, -1, math.prod(read.positions), layer.gates)
            kernel = (math.prod(read.positions), layer.gates)
            self._edges(read.layer, units, by_unit.reshape(-1, math.prod(kernel)), kernel)
        if layer.bias:
            biases = [self._places[f"{layer.name}.bias_{of}_l0"] for of in ("ih", "hh")]
            of_gates = np.stack(biases).reshape(2 * layer.gates, layer.outputs)
            self._constant(layer, _Value(units, ()), of_gates.T, (2, layer.gates))
        return _Value(units, ())

    def _attention(self, layer: Attention, value: _Value) -> _Value:
        """Return the units that attention gives.

        Each query meets the key that it is multiplied with, the keys of a head meet in a node of the head, and the
        head meets the values that it weighs; none of these edges has a number.
        """
        parts = [f"{layer.name}.{part}" for part in ("query", "key", "value", "output")]
        query, key = (self._reading_units(part, value, layer.inner).layer for part in parts[:2])
        heads = self._add(f"{layer.name}.heads", layer.heads)
        values = self._reading_units(parts[2], value, layer.inner)
        self._edges(query, key, None, (0, 0), groups=layer.inner)
        self._edges(key, heads, None, (0, 0), groups=layer.heads)
        self._edges(heads, values.layer, None, (0, 0), groups=layer.heads)
        return self._reading_units(parts[3], values, layer.features)

    def _normalise(self, layer: Normalization | LayerNorm | GroupNorm, value: _Value) -> None:
        """Note the numbers of a normalisation at the units that it normalises, or on edges if a unit has several."""
        units = self.units[value.layer]
        places = {
            feature: self._places[f"{layer.name}.{role}"].reshape(-1)
            for feature, role in enumerate(("weight", "bias", "running_mean", "running_var"), start=1)
            if f"{layer.name}.{role}" in self._places  # running statistics may lie beside the weights
        }
        if not places:
            return
        counts = {len(each) for each in places.values()}
        if units.is_input or len(counts) > 1 or min(counts) % units.count or value.positions_first:
            raise ZooError(f"graphs: layer {layer.name} does not normalise units of a layer; {_INSTEAD}")
        if min(counts) == units.count and not (units.index[:, list(places)] >= 0).any():
            for feature, each in places.items():
                units.index[:, feature] = each
            return
        positions = value.shape[1:] if len(value.shape) == 3 else value.positions
        height, width = (positions[0], positions[1]) if min(counts) > units.count else (1, 1)
        numbers = np.stack([each.reshape(units.count, -1) for each in places.values()], axis=1)
        self._constant(layer, value, numbers.reshape(units.count, -1), (len(places) * height, width))

    def _residual(self, layer: Residual, value: _Value, added: _Value) -> None:
        if self.units[added.layer].is_input:
            raise ZooError(f"graphs: layer {layer.name} adds the network's inputs; {_INSTEAD}")
        counts = [self.units[each.layer].count for each in (added, value)]
        count = min(layer.channels or counts[1], *counts)
        self._edges(added.layer, value.layer, None, (0, 0), groups=count, first=count)

    def _constant(self, layer: Layer, value: _Value, index: np.ndarray, kernel: Pair) -> None:
        """Add a node that stands for the constant 1, and an edge to each unit: index (unit, number)."""
        self._edges(self._add(layer.name, 1, is_input=True), value.layer, index, kernel)

    def _add(self, name: str, count: int, *, bias: str = "", is_input: bool = False) -> int:
        """Add the units of a layer and return its place."""
        index = np.full((count, len(NODE_FEATURES)), -1)
        if bias in self._places:
            index[:, 0] = self._places[bias]
        start = self.units[-1].nodes[1] if self.units else 0
        self.units.append(Units(name, start, index, is_input))
        return len(self.units) - 1

    def _join(self, value: _Value, target: int, weight: np.ndarray, kernel: Pair, *, groups: int) -> None:
        """Add the edges of a weight, given as places (output, input, ...)."""
        sources, outputs = self.units[value.layer].count // groups, len(weight)
        flat = weight.reshape(outputs, -1)
        if value.positions_first:
            numbers = flat.reshape(outputs, -1, sources).transpose(0, 2, 1)
        else:
            numbers = flat.reshape(outputs, sources, -1)
        self._edges(value.layer, target, numbers.reshape(outputs * sources, -1), kernel, groups=groups)

    def _edges(
        self,
        source: int,
        target: int,
        index: np.ndarray | None,
        kernel: Pair,
        *,
        groups: int = 1,
        first: int | None = None,
    ) -> None:
        """Add a block of edges between the units of two layers, or the `first` of both."""
        sources, targets = (self.units[layer].nodes for layer in (source, target))
        if first is not None:
            sources, targets = ((start, start + first) for start, _ in (sources, targets))
        block = EdgeBlock(source, target, sources, targets, groups, kernel, np.empty((0, 0), np.int64))
        self.blocks.append(replace(block, index=np.empty((block.count, 0), np.int64) if index is None else index))


def _laid_out(layer: Flatten | Rows, value: _Value) -> _Value:
    """Return a value whose units have several numbers side by side."""
    if len(value.shape) == 2 and value.positions != (1, 1):
        raise _formless(layer)  # rows of an image of which each unit has several numbers
    if len(value.shape) == 2:
        return replace(value, positions=(value.shape[0], 1), positions_first=True)
    if len(value.shape) == 1:
        return value
    height, width = value.shape[1:]
    if isinstance(layer, Rows):
        return replace(value, positions=(1, width))
    return replace(value, positions=(height, width), positions_first=layer.channels_last)


def _formless(layer: Layer) -> ZooError:
    return ZooError(f"graphs: layer {layer.name} has no form as a graph yet; {_INSTEAD}")
