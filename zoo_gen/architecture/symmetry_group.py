"""The symmetries of a network: changes of its weights after which it computes the same function.

Hidden units can stand in another order; between positively homogeneous functions (ReLU) they can be multiplied by
positive factors, and between odd ones (tanh, sine) by -1, if the layer that reads them is divided by the same. Orders
follow from the layout alone; factors need the layers and, where a layer names no function, that of each network.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from zoo_gen.architecture.layers import (
    Activate,
    Convolution,
    Dropout,
    Flatten,
    Function,
    GlobalPooling,
    Layer,
    Linear,
    Normalization,
    Pooling,
)
from zoo_gen.architecture.layout import ParameterLayout, Symmetry
from zoo_gen.errors import ZooError

# f(c x) = c f(x) for every c > 0, and f(-x) = -f(x).
HOMOGENEOUS = frozenset[Function]({"relu", "leaky_relu", "identity"})
ODD = frozenset[Function]({"tanh", "sine", "identity"})


@dataclass(frozen=True)
class HiddenUnits:
    """The units of one layer that can be reordered, and what stands between them and the layer that reads them."""

    symmetry: Symmetry
    scaled: tuple[str, ...]  # the parameters that are multiplied along axis 0: of the last layer before the functions
    reader: str  # the parameter that is divided along axis 1
    block: int  # neighbouring inputs of the reader that belong to one unit
    functions: tuple[Function | None, ...]  # None: that of the network
    can_scale: bool  # whether all layers between commute with positive factors
    can_flip: bool  # and with -1, as the maximum of a window does not

    def allows_factors(self, default: Function | None) -> bool:
        """Say whether a network can have positive factors here, whose function is `default` where layers name none."""
        return self.can_scale and self._all_in(HOMOGENEOUS, default)

    def allows_signs(self, default: Function | None) -> bool:
        """Say whether a network can have other signs here."""
        return self.can_flip and self._all_in(ODD, default)

    def _all_in(self, functions: frozenset[Function], default: Function | None) -> bool:
        return all((function or default) in functions for function in self.functions)


@dataclass(frozen=True)
class Member:
    """One element of the symmetry group for each of some networks: weights are reordered, then multiplied."""

    index: np.ndarray  # int64 (network, parameter)
    factor: np.ndarray  # float32 (network, parameter)

    def apply(self, weights: np.ndarray) -> np.ndarray:
        """Return the changed weights, float32 (network, parameter); each number is rounded once at most."""
        return np.take_along_axis(weights, self.index, axis=1) * self.factor

    def inverse(self) -> "Member":
        """Return the element that undoes this one."""
        index = np.argsort(self.index, axis=1)
        return Member(index, 1 / np.take_along_axis(self.factor, index, axis=1))


@dataclass(frozen=True)
class SymmetryGroup:
    """The symmetries of some networks of one architecture.

    Attributes:
        layout: of their weights.
        count: how many networks there are.
        units: what is known of each set of hidden units; without layers, nothing but that they can be reordered.
        reason: why factors cannot be drawn; empty where they can.

    >>> from zoo_gen.architecture.registry import MLP, network
    >>> mlp = network(MLP(name="mlp", widths=(3, 5, 2)), (3,), 2)
    >>> group = SymmetryGroup.of(mlp.layout, mlp.layers, functions=("relu",), function_of=np.zeros(4, np.int64))
    >>> weights = np.random.default_rng(0).normal(size=(4, mlp.layout.size)).astype(np.float32)
    >>> member = group.draw(seed=1, scales=(1, 10))
    >>> bool(np.allclose(member.inverse().apply(member.apply(weights)), weights))
    True
    """

    layout: ParameterLayout
    count: int
    units: tuple[HiddenUnits, ...]
    reason: str
    _functions: tuple[Function | None, ...]  # that occur, where layers name none
    _function_of: np.ndarray  # int64 (network,): which of them each network has

    @classmethod
    def of(
        cls,
        layout: ParameterLayout,
        layers: Sequence[Layer],
        *,
        functions: Sequence[Function | None],
        function_of: np.ndarray,
        reason: str = "",
    ) -> "SymmetryGroup":
        """Return the group of networks of these layers.

        Args:
            layout: of their weights.
            layers: in order; none where they are not known.
            functions: the activation functions that occur where a layer names none.
            function_of: which of them each network has, int64 (network,).
            reason: why factors cannot be drawn, if they cannot.
        """
        units = () if reason else tuple(filter(None, (_between(each, layers) for each in layout.symmetries)))
        return cls(layout, len(function_of), units, reason, tuple(functions), function_of)

    def part(self, rows: np.ndarray | slice) -> "SymmetryGroup":
        """Return the group of some of the networks."""
        function_of = self._function_of[rows]
        return replace(self, count=len(function_of), _function_of=function_of)

    def draw(
        self,
        *,
        seed: int,
        orders: bool = True,
        scales: tuple[float, float] | None = None,
        flips: bool = False,
        keys: Sequence[int] | np.ndarray | None = None,
    ) -> Member:
        """Draw an element for each network.

        Args:
            seed: of the draw.
            orders: whether hidden units are reordered.
            scales: from which to which number positive factors are drawn, uniformly, one a unit.
            flips: whether half of the signs change.
            keys: a number for each network, from which its draw follows besides `seed`; its place if not given.

        Raises:
            ZooError: factors are asked for, and how the networks compute is not known here.
        """
        if self.reason and (scales is not None or flips):
            raise ZooError(f"symmetries: factors and signs cannot be drawn: {self.reason}; expected orders alone")
        numbers = np.arange(self.count) if keys is None else np.asarray(keys)
        draws = [np.random.default_rng([seed, int(number)]) for number in numbers]
        index = np.broadcast_to(np.arange(self.layout.size), (self.count, self.layout.size))
        if orders:
            sizes = {symmetry.layer: symmetry.size for symmetry in self.layout.symmetries}
            index = np.stack([self._index(draw, sizes) for draw in draws]) if draws else index
        factor = np.ones((self.count, self.layout.size), np.float32)
        parts = self.layout.split(factor)
        for units in self.units if scales is not None or flips else ():
            of_units = np.ones((self.count, units.symmetry.size))
            for row, draw in enumerate(draws):
                size, function = units.symmetry.size, self._functions[self._function_of[row]]
                if scales is not None and units.allows_factors(function):
                    of_units[row] *= draw.uniform(*scales, size=size)
                if flips and units.allows_signs(function):
                    of_units[row] *= draw.choice((-1.0, 1.0), size=size)
            for name in units.scaled:
                parts[name] *= _along(of_units, parts[name].ndim, 1)
            parts[units.reader] /= _along(np.repeat(of_units, units.block, axis=1), parts[units.reader].ndim, 2)
        return Member(index, factor)

    def rows_with(self, functions: frozenset[Function]) -> np.ndarray:
        """Return whether some hidden units of each network lie before functions of a set alone, bool (network,).

        With HOMOGENEOUS it says which networks factors change, with ODD which ones signs change.
        """
        allows = HiddenUnits.allows_signs if functions is ODD else HiddenUnits.allows_factors
        able = [any(allows(units, function) for units in self.units) for function in self._functions]
        return np.array(able, dtype=bool)[self._function_of] if able else np.zeros(self.count, dtype=bool)

    def _index(self, draw: np.random.Generator, sizes: dict[str, int]) -> np.ndarray:
        return self.layout.permutation({layer: draw.permutation(size) for layer, size in sizes.items()})


def _along(values: np.ndarray, dimensions: int, axis: int) -> np.ndarray:
    """Return values (network, number) shaped to lie along one axis of tensors (network, ...), float32."""
    shape = [len(values), *[1] * (dimensions - 1)]
    shape[axis] = values.shape[1]
    return values.astype(np.float32).reshape(shape)


def _between(symmetry: Symmetry, layers: Sequence[Layer]) -> HiddenUnits | None:
    """Return what stands between hidden units and the layer that reads them; None where a layer there is unknown."""
    names = [layer.name for layer in layers]
    reads = [move for move in symmetry.moves if move.axis == 1]
    parts = any(move.start or move.rows or (move.axis == 0 and move.block > 1) for move in symmetry.moves)
    # Units that are added to others, read by several layers, a part of a layer's, or normalised position by
    # position are left to orders alone.
    if symmetry.layer not in names or len(reads) != 1 or parts:
        return None
    scaled: Layer = layers[names.index(symmetry.layer)]
    parameters = {move.parameter for move in symmetry.moves if move.axis == 0}
    known = {symmetry.layer}
    functions: list[Function | None] = []
    can_scale = can_flip = True
    for layer in layers[names.index(symmetry.layer) + 1 :]:
        if f"{layer.name}.weight" == reads[0].parameter:
            changed = tuple(name for name in (f"{scaled.name}.weight", f"{scaled.name}.bias") if name in parameters)
            moved = {name.rpartition(".")[0] for name in parameters}
            if not isinstance(scaled, Convolution | Linear | Normalization) or not changed or not moved <= known:
                return None
            return HiddenUnits(
                symmetry, changed, reads[0].parameter, reads[0].block, tuple(functions), can_scale, can_flip
            )
        known.add(layer.name)
        if isinstance(layer, Normalization):
            # It undoes whatever came before; without weights of its own, nothing behind it can be scaled.
            scaled, functions, can_scale, can_flip = layer, [], True, True
        elif isinstance(layer, Activate):
            functions.append(layer.function)
        elif isinstance(layer, Pooling | GlobalPooling):
            can_flip = can_flip and layer.kind == "average"
        elif not isinstance(layer, Flatten | Dropout):
            can_scale = can_flip = False
    return None
