"""Equivalent: other weights that compute the same function as those of a model, in whose place a view shows them.

What is drawn follows from the model's id alone, so that all checkpoints of a model, and every reader, have the same.
"""

from dataclasses import dataclass

import numpy as np

from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.architecture.network import Network
from zoo_gen.architecture.symmetry_group import SymmetryGroup
from zoo_gen.architecture.widening import split_units, widened
from zoo_gen.errors import ZooError
from zoo_gen.zoo.forward import ForwardPass

_ROWS = 256  # at once, as orders take twice the memory of weights


@dataclass(frozen=True)
class Equivalent:
    """What changes of a model's weights, while its function stays.

    Attributes:
        orders: whether hidden units are reordered.
        scales: from which to which number positive factors of hidden units are drawn, uniformly; None for none.
        flips: whether half of the hidden units change their sign.
        splits: whether every hidden unit is split in two.
        seed: of what is drawn.
    """

    orders: bool = False
    scales: tuple[float, float] | None = None
    flips: bool = False
    splits: bool = False
    seed: int = 0

    def network(self, network: Network) -> Network:
        """Return the architecture of the changed models."""
        return widened(network) if self.splits else network

    def weights(
        self, weights: np.ndarray, models: np.ndarray, *, layout: ParameterLayout, forward: ForwardPass | None
    ) -> np.ndarray:
        """Return the changed weights, float32 (model, checkpoint, parameter).

        Args:
            weights: float32 (model, checkpoint, parameter).
            models: int64 (model,) their ids.
            layout: where each parameter lies.
            forward: what the models compute; None where nobody knows, and only orders can change.

        Raises:
            ZooError: what is asked for needs layers that nobody knows, or units are not read by one layer alone.
        """
        count = weights.shape[1]
        rows = weights.reshape(len(models) * count, weights.shape[2])
        keys = np.repeat(models, count)
        if self.splits:
            if forward is None:
                raise ZooError("widening: how these models compute is not known; expected known layers")
            changed = split_units(forward.network, rows, seed=self.seed, keys=keys)
        else:
            group = symmetries_of(layout, forward, len(models)).part(np.repeat(np.arange(len(models)), count))
            changed = np.empty_like(rows)
            for start in range(0, len(rows), _ROWS):
                some = slice(start, start + _ROWS)
                member = group.part(some).draw(
                    seed=self.seed, orders=self.orders, scales=self.scales, flips=self.flips, keys=keys[some]
                )
                changed[some] = member.apply(rows[some])
        return changed.reshape(len(models), count, -1)


def symmetries_of(layout: ParameterLayout, forward: ForwardPass | None, count: int) -> SymmetryGroup:
    """Return the symmetries of so many models; orders of hidden units alone where their layers are not known."""
    if forward is None:
        none = np.zeros(count, np.int64)
        return SymmetryGroup.of(layout, (), functions=(), function_of=none, reason="their layers are not known")
    layers = forward.network.layers
    return SymmetryGroup.of(layout, layers, functions=forward.functions, function_of=forward.function_of)
