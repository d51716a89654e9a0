"""Networks as graphs: a node a unit, an edge a pair of units whose values meet, features from weights and biases.

Nodes are channels, or numbers where there are no channels; all edges between two units are one, with the whole kernel
as its features, or, behind a flattened image, a number a position. So networks of one architecture share nodes and
edges, and differ in features alone (Kofinas et al., ICLR 2024; Lim et al., ICLR 2024). What each step of a sequence or
each pixel has of its own, as codes of position do, is an edge from a node that stands for the constant 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from zoo_gen.architecture.graph_walk import KINDS, EdgeBlock, GraphWalk
from zoo_gen.architecture.network import Network
from zoo_gen.errors import ZooError

if TYPE_CHECKING:
    from torch_geometric.data import Data


@dataclass(frozen=True)
class GraphStructure:
    """Nodes and edges that all networks of an architecture share, and where their features lie in the weights.

    Attributes:
        names: of each set of units, "input" first, then in the order in which they are made: "convolution1", of
            attention "attention1.query" and so on, "position_embedding1" of the node that stands for the constant 1.
        layer_of_node: int64 (node,), a place in `names`.
        place_of_node: int64 (node,), the number of the unit within its layer.
        kind_of_node: int64 (node,), a place in KINDS; a constant is an input.
        blocks: of edges, in the order of the edges.
        node_index: int64 (node, feature), the places in the weights of NODE_FEATURES; -1 where there is none.
    """

    names: tuple[str, ...]
    layer_of_node: np.ndarray
    place_of_node: np.ndarray
    kind_of_node: np.ndarray
    blocks: tuple[EdgeBlock, ...]
    node_index: np.ndarray

    @cached_property
    def edges(self) -> np.ndarray:
        """From which node to which each edge leads, int64 (2, edge)."""
        return np.concatenate([block.edges for block in self.blocks], axis=1)

    @cached_property
    def block_of_edge(self) -> np.ndarray:
        """The block of each edge, int64 (edge,)."""
        return np.repeat(np.arange(len(self.blocks)), [block.count for block in self.blocks])

    @cached_property
    def layer_of_edge(self) -> np.ndarray:
        """The layer that each edge leads to, int64 (edge,)."""
        return np.array([block.target_layer for block in self.blocks])[self.block_of_edge]

    @cached_property
    def has_weight(self) -> np.ndarray:
        """Whether an edge has numbers, bool (edge,); without any, values are added or multiplied as they are."""
        return np.array([block.has_weight for block in self.blocks])[self.block_of_edge]

    @cached_property
    def edge_index(self) -> np.ndarray:
        """The places in the weights of each edge's kernel, row by row, int64 (edge, feature); -1 where there is none.

        Edges of all blocks are filled up to the largest kernel.
        """
        width = max(1, *(block.index.shape[1] for block in self.blocks))
        parts = [np.pad(b.index, ((0, 0), (0, width - b.index.shape[1])), constant_values=-1) for b in self.blocks]
        return np.concatenate(parts)

    def features(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the features of nodes (network, node, feature) and edges (network, edge, feature); 0 for none.

        Args:
            weights: float32 (network, parameter).
        """
        filled = np.concatenate([weights, np.zeros((len(weights), 1), weights.dtype)], axis=1)
        return filled[:, self.node_index], filled[:, self.edge_index]


@dataclass(frozen=True)
class Graphs:
    """Networks of one architecture as graphs: a shared structure, and features of each."""

    structure: GraphStructure
    nodes: np.ndarray  # float32 (network, node, feature)
    edges: np.ndarray  # float32 (network, edge, feature)

    @classmethod
    def of(cls, network: Network, weights: np.ndarray) -> "Graphs":
        """Return networks (network, parameter) as graphs.

        Raises:
            ZooError: the network's layers are not known, or hold one that has no form as a graph.
        """
        structure = graph_structure(network)
        return cls(structure, *structure.features(weights))

    def __len__(self) -> int:
        return len(self.nodes)

    def to_pyg(self, number: int) -> "Data":
        """Return one network as PyTorch Geometric's Data: x, edge_index, edge_attr, layer, place, kind, has_weight.

        Raises:
            ZooError: PyTorch Geometric is not installed.
        """
        try:
            from torch_geometric.data import Data
        except ImportError:
            raise ZooError("graphs: torch_geometric is not installed; expected pip install torch_geometric") from None
        import torch

        shared = self.structure
        arrays = {
            "x": self.nodes[number],
            "edge_index": shared.edges,
            "edge_attr": self.edges[number],
            "layer": shared.layer_of_node,
            "place": shared.place_of_node,
            "kind": shared.kind_of_node,
            "has_weight": shared.has_weight,
        }
        return Data(**{name: torch.from_numpy(array.copy()) for name, array in arrays.items()})


def graph_structure(network: Network) -> GraphStructure:
    """Return the graph of an architecture.

    Raises:
        ZooError: its layers are not known, or hold one that has no form as a graph.

    >>> from zoo_gen.architecture.registry import CNNSmall, network
    >>> graph = graph_structure(network(CNNSmall(name="cnn_small"), (1, 28, 28), 10))
    >>> len(graph.layer_of_node), graph.edge_index.shape
    (49, (360, 25))
    """
    if not network.layers:
        raise ZooError(
            "graphs: how these networks are built is not known layer by layer; expected layers of zoo-gen, or tensors()"
        )
    walk = GraphWalk(network)
    counts = [len(units.index) for units in walk.units]
    return GraphStructure(
        names=tuple(units.name for units in walk.units),
        layer_of_node=np.repeat(np.arange(len(counts)), counts),
        place_of_node=np.concatenate([np.arange(count) for count in counts]),
        kind_of_node=np.repeat(_kinds(walk), counts),
        blocks=tuple(walk.blocks),
        node_index=np.concatenate([units.index for units in walk.units]),
    )


def _kinds(walk: GraphWalk) -> Sequence[int]:
    """Return the kind of each set of units."""
    kinds = [KINDS.index("input" if units.is_input else "hidden") for units in walk.units]
    kinds[walk.last] = KINDS.index("output")
    return kinds
