"""SymmetricGraph: the graph of an architecture, with which units can be multiplied by factors and by -1.

That follows from the layers and from the activation function of each network, so it is a table over functions.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo_bench.encoders.function_codes import FUNCTIONS
from zoo_bench.encoders.graph_network.dense_graph import DenseGraph
from zoo_gen.architecture.graph_walk import KINDS
from zoo_gen.architecture.network import Network
from zoo_gen.architecture.symmetry_group import SymmetryGroup


@dataclass(frozen=True)
class SymmetricGraph:
    """The graph of one architecture on a device, and the factors of its units.

    Attributes:
        graph: nodes and edges.
        factors: float32 (function, node), 1 where a unit can be multiplied by any positive factor, else 0; functions
            are those of FUNCTIONS, of networks whose layers name none.
        signs: float32 (function, node), -1 where it can be multiplied by -1, else 1.
    """

    graph: DenseGraph
    factors: Tensor
    signs: Tensor

    @classmethod
    def of(cls, network: Network, device: torch.device) -> "SymmetricGraph":
        """Return the graph of an architecture.

        Raises:
            ZooError: its layers are not known, or hold one that has no form as a graph.
        """
        graph = DenseGraph.of(network, device)
        layers = dict(zip(graph.names, graph.layers, strict=True))
        group = SymmetryGroup.of(
            network.layout, network.layers, functions=FUNCTIONS, function_of=np.zeros(0, dtype=np.int64)
        )
        factors = torch.zeros((len(FUNCTIONS), graph.layers[-1][1]))
        signs = torch.ones((len(FUNCTIONS), graph.layers[-1][1]))
        # Numbers on edges from a constant may be statistics, which factors leave alone.
        constants = {block.of.target_layer for block in graph.blocks if _is_constant(graph, block.of.source_layer)}
        for units in group.units:
            if graph.names.index(units.symmetry.layer) in constants:
                continue
            for row, function in enumerate(FUNCTIONS):
                nodes = slice(*layers[units.symmetry.layer])
                factors[row, nodes] = float(units.allows_factors(function))
                signs[row, nodes] = -1.0 if units.allows_signs(function) else 1.0
        return cls(graph, factors.to(device), signs.to(device))


def _is_constant(graph: DenseGraph, layer: int) -> bool:
    return layer > 0 and graph.kinds[layer] == KINDS.index("input")
