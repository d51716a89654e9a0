"""Networks as graphs: a node a unit, an edge a pair of units whose values meet, features from weights and biases.

Nodes are channels, or numbers where there are no channels; all edges between two units of neighbouring layers are one,
with the whole kernel as its features, or, behind a flattened image, a number a position. So networks of one
architecture share nodes and edges, and differ in features alone (Kofinas et al., ICLR 2024; Lim et al., ICLR 2024).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoo_gen.architecture.layers import Branch, Convolution, Flatten, Linear, Normalization, Residual, Rows
from zoo_gen.architecture.network import Network
from zoo_gen.errors import ZooError

if TYPE_CHECKING:
    from torch_geometric.data import Data

NODE_FEATURES = ("bias", "weight", "norm_bias", "running_mean", "running_var")  # the last four: of normalisation
KINDS = ("input", "hidden", "output")
_INSTEAD = "expected an encoder of weights, or tensors()"


@dataclass(frozen=True)
class GraphStructure:
    """Nodes and edges that all networks of an architecture share, and where their features lie in the weights.

    Attributes:
        layer_of_node: int64 (node,), 0 for inputs, then each convolution or linear layer counted from 1.
        place_of_node: int64 (node,), the number of the unit within its layer.
        kind_of_node: int64 (node,), a place in KINDS.
        edges: int64 (2, edge), from and to; they point forward.
        layer_of_edge: int64 (edge,), the layer that the edge leads to.
        is_residual: bool (edge,), whether an earlier output is added, which has no weight.
        node_index: int64 (node, feature), the places in the weights of NODE_FEATURES; -1 where there is none.
        edge_index: int64 (edge, feature), the places in the weights of a kernel, row by row; -1 where there is none.
    """

    layer_of_node: np.ndarray
    place_of_node: np.ndarray
    kind_of_node: np.ndarray
    edges: np.ndarray
    layer_of_edge: np.ndarray
    is_residual: np.ndarray
    node_index: np.ndarray
    edge_index: np.ndarray

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
        """Return one network as PyTorch Geometric's Data: x, edge_index, edge_attr, layer, place, kind, residual.

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
            "residual": shared.is_residual,
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
    if len(network.input_shape) == 2 or any(isinstance(layer, Rows) for layer in network.layers):
        raise ZooError(f"graphs: networks of sequences have no form as a graph yet; {_INSTEAD}")
    places = network.layout.split(np.arange(network.layout.size))
    inputs = network.input_shape[0]
    nodes = [_Nodes(0, np.full((inputs, len(NODE_FEATURES)), -1))]
    edges: list[tuple[np.ndarray, np.ndarray, int, bool]] = []  # (2, edge), places (edge, feature), layer, residual
    current, positions_first = 0, False
    source_nodes: dict[str, int] = {}  # of each layer, whose units it gives
    for layer in network.layers:
        if isinstance(layer, Flatten):
            positions_first = positions_first or layer.channels_last
            if current == 0 and len(network.input_shape) == 3:  # every pixel of an input is a unit of its own
                pixels = int(np.prod(network.input_shape))
                nodes[0], positions_first = _Nodes(0, np.full((pixels, len(NODE_FEATURES)), -1)), False
        elif isinstance(layer, Branch) or (isinstance(layer, Convolution) and layer.groups > 1):
            raise ZooError(f"graphs: layer {layer.name} has no form as a graph yet; {_INSTEAD}")
        elif isinstance(layer, Convolution | Linear):
            edges.append(_weighted(places[f"{layer.name}.weight"], nodes, current, positions_first))
            index = np.full((layer.outputs, len(NODE_FEATURES)), -1)
            if layer.bias:
                index[:, 0] = places[f"{layer.name}.bias"]
            nodes.append(_Nodes(nodes[-1].stop, index))
            current, positions_first = len(nodes) - 1, False
        elif isinstance(layer, Normalization):
            if current == 0 or nodes[current].count != layer.features:
                raise ZooError(f"graphs: layer {layer.name} does not normalise units of a layer; {_INSTEAD}")
            for feature, role in enumerate(("weight", "bias", "running_mean", "running_var"), start=1):
                if f"{layer.name}.{role}" in places:  # running statistics may lie beside the weights
                    nodes[current].index[:, feature] = places[f"{layer.name}.{role}"]
        elif isinstance(layer, Residual):
            if layer.source not in source_nodes:
                raise ZooError(f"graphs: layer {layer.name} adds the network's inputs; {_INSTEAD}")
            source, target = nodes[source_nodes[layer.source]], nodes[current]
            channels = np.arange(min(layer.channels or target.count, source.count, target.count))
            pairs = np.stack([source.start + channels, target.start + channels])
            edges.append((pairs, np.full((len(channels), 1), -1), current, True))
        elif any(name.startswith(f"{layer.name}.") for name in places):
            raise ZooError(f"graphs: layer {layer.name} has no form as a graph yet; {_INSTEAD}")
        source_nodes[layer.name] = current
    return _joined(nodes, edges, last=current)


@dataclass(frozen=True)
class _Nodes:
    """The units of one layer among all nodes."""

    start: int
    index: np.ndarray  # int64 (unit, feature)

    @property
    def count(self) -> int:
        return len(self.index)

    @property
    def stop(self) -> int:
        return self.start + self.count


def _weighted(
    weight: np.ndarray, nodes: Sequence[_Nodes], current: int, positions_first: bool
) -> tuple[np.ndarray, np.ndarray, int, bool]:
    """Return the edges of one layer: pairs of nodes, and where their numbers lie.

    Args:
        weight: places in the flat weights (output, input, ...).
        nodes: of all layers up to now.
        current: which of them the layer reads.
        positions_first: whether a flattened image lies position by position.
    """
    source, outputs = nodes[current], len(weight)
    flat = weight.reshape(outputs, -1)
    if positions_first:
        numbers = flat.reshape(outputs, -1, source.count).transpose(0, 2, 1)
    else:
        numbers = flat.reshape(outputs, source.count, -1)
    start = nodes[-1].stop
    to, origin = np.meshgrid(np.arange(outputs) + start, np.arange(source.count) + source.start, indexing="ij")
    return np.stack([origin.reshape(-1), to.reshape(-1)]), numbers.reshape(to.size, -1), len(nodes), False


def _joined(
    nodes: Sequence[_Nodes], edges: Sequence[tuple[np.ndarray, np.ndarray, int, bool]], *, last: int
) -> GraphStructure:
    """Return all parts as one graph; features that an edge lacks are -1."""
    width = max(places.shape[1] for _, places, _, _ in edges)
    padded = [np.pad(places, ((0, 0), (0, width - places.shape[1])), constant_values=-1) for _, places, _, _ in edges]
    counts = [part.count for part in nodes]
    kinds = [0 if number == 0 else 2 if number == last else 1 for number in range(len(nodes))]
    lengths = [pairs.shape[1] for pairs, _, _, _ in edges]
    return GraphStructure(
        layer_of_node=np.repeat(np.arange(len(nodes)), counts),
        place_of_node=np.concatenate([np.arange(count) for count in counts]),
        kind_of_node=np.repeat(kinds, counts),
        edges=np.concatenate([pairs for pairs, _, _, _ in edges], axis=1),
        layer_of_edge=np.repeat([layer for _, _, layer, _ in edges], lengths),
        is_residual=np.repeat([residual for _, _, _, residual in edges], lengths),
        node_index=np.concatenate([part.index for part in nodes]),
        edge_index=np.concatenate(padded),
    )
