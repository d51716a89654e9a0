"""Computing: what a view knows of how its rows' networks compute, for encoders that ask more than flat weights.

The layers are one architecture's, so they tell nothing of a row. The activation function of a row is a hyper-parameter:
an encoder may run a network that has it, and is not told it. Where it is what a benchmark asks for, nothing here holds
it, because whoever runs a network can find it out.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from zoo_gen.architecture.graphs import Graphs, GraphStructure, graph_structure
from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.architecture.network import Network
from zoo_gen.architecture.symmetry_group import SymmetryGroup
from zoo_gen.errors import ZooError
from zoo_gen.zoo import ForwardPass, ZooView

if TYPE_CHECKING:
    from torch import Tensor

ACTIVATION = "activation"  # the hyper-parameter that a forward pass knows
_INSTEAD = "expected an encoder of weights, tensors() or orders of hidden units"


@dataclass(frozen=True)
class Computing:
    """How the rows of a view compute.

    Attributes:
        network: the architecture; None where its layers are not known.
        reason: why the rows cannot be run; empty where they can.
    """

    network: Network | None = None
    reason: str = "this view was made of weights and their layout alone"
    _forward: ForwardPass | None = None  # of the rows

    @classmethod
    def of(cls, view: ZooView, *, hide_activation: bool = False) -> "Computing":
        """Return what is known of the rows of a view of a zoo, models outermost.

        Args:
            view: of models of one architecture.
            hide_activation: whether the activation function is what is asked for.
        """
        try:
            forward = view.forward_pass
        except ZooError as error:
            return cls(view.network, str(error))
        if hide_activation and len(forward.functions) > 1:
            asked = f"{ACTIVATION!r} is a target of this benchmark, and running the networks would tell it"
            return cls(forward.network, asked)
        rows = np.repeat(np.arange(len(view.models)), len(view.checkpoints))
        return cls(forward.network, "", forward.part(rows))

    def part(self, rows: np.ndarray | slice) -> "Computing":
        """Return what is known of some rows, in the order given."""
        return replace(self, _forward=self._forward and self._forward.part(rows))

    def followed_by(self, other: "Computing") -> "Computing":
        """Return what is known of these rows and then of others of the architecture."""
        if self._forward is None or other._forward is None:
            return replace(self, reason=self.reason or other.reason, _forward=None)
        return replace(self, _forward=self._forward.followed_by(other._forward))

    @property
    def forward_pass(self) -> ForwardPass:
        """The forward pass of the rows.

        Raises:
            ZooError: there is none, and why.
        """
        if self._forward is None:
            raise ZooError(f"forward: {self.reason}; {_INSTEAD}")
        return self._forward

    @property
    def structure(self) -> GraphStructure:
        """The nodes and edges of the architecture as a graph.

        Raises:
            ZooError: its layers are not known, or have no form as a graph.
        """
        if self.network is None:
            raise ZooError(f"graphs: {self.reason}; expected an encoder of weights or tensors()")
        return graph_structure(self.network)

    def symmetries(self, layout: ParameterLayout, count: int) -> SymmetryGroup:
        """Return the symmetries of so many rows; orders of hidden units alone where the rows cannot be run."""
        if self._forward is None:
            none = np.zeros(count, np.int64)
            return SymmetryGroup.of(layout, (), functions=(), function_of=none, reason=self.reason)
        forward = self._forward
        return SymmetryGroup.of(
            layout, forward.network.layers, functions=forward.functions, function_of=forward.function_of
        )

    def run(self, weights: np.ndarray, inputs: "Tensor", rows: np.ndarray | slice | None) -> "Tensor":
        """Return the outputs (row, input, output) of rows of weights (row, parameter).

        Raises:
            ZooError: the rows cannot be run, or the inputs have another shape.
        """
        import torch

        chosen = slice(None) if rows is None else rows
        numbers = torch.from_numpy(np.array(weights[chosen]))  # a copy: torch warns of memory that is read-only
        return self.forward_pass.part(chosen).run(numbers.to(inputs.device), inputs)

    def graphs(self, weights: np.ndarray) -> Graphs:
        """Return rows of weights (row, parameter) as graphs.

        Raises:
            ZooError: the layers are not known, or have no form as a graph.
        """
        return Graphs(self.structure, *self.structure.features(weights))
