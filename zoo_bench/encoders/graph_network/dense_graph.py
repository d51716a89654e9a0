"""DenseGraph: one architecture's graph as blocks of edges, so that messages need no list of edges.

Between two layers there is an edge for each pair of units, so a block of edges is a tensor (target, source): what an
edge reads of its ends is broadcast along it, and what a unit is sent is a mean along an axis. Kernels of any size
become the same number of channels: each position in a kernel has a code, and the numbers weight what codes are mapped
to.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo_bench.encoders.graph_network.codes import edge_code, kernel_codes, node_codes
from zoo_gen.architecture.graphs import GraphStructure, graph_structure
from zoo_gen.architecture.layers import Convolution, Linear
from zoo_gen.architecture.network import Network
from zoo_gen.architecture.shapes import shapes


@dataclass(frozen=True)
class EdgeBlock:
    """The edges from the units of one layer to those of another, or between the pairs that a residual sum joins.

    Attributes:
        target_layer, source_layer: whose units it joins.
        targets, sources: from which node to which; of a residual sum the first units of both layers.
        is_residual: whether each target has one source, its equal.
        index: int64 (edge x position,), where the numbers of the edges' kernels lie; none of a residual sum.
        codes: float32 (position, code), of the positions in a kernel.
        code: float32 (code,), of the block.
        gain: what brings the numbers to about one size: the root of how many a target reads.
    """

    target_layer: int
    source_layer: int
    targets: tuple[int, int]
    sources: tuple[int, int]
    is_residual: bool
    index: Tensor
    codes: Tensor
    code: Tensor
    gain: float

    @property
    def shape(self) -> tuple[int, int]:
        """Targets and sources, or pairs and 1."""
        sources = 1 if self.is_residual else self.sources[1] - self.sources[0]
        return self.targets[1] - self.targets[0], sources


@dataclass(frozen=True)
class DenseGraph:
    """The graph of one architecture on a device.

    Attributes:
        size: how many numbers a network has.
        layers: from which node to which the units of each layer are, the inputs first.
        blocks: of edges: those with weights, layer by layer, then residual sums.
        node_index: int64 (node x feature,), where the features of nodes lie; anywhere where there is none.
        node_mask: float32 (node, feature), 1 where there is a feature, else 0.
        node_codes: float32 (node, code), what the architecture says of each node.
    """

    size: int
    layers: tuple[tuple[int, int], ...]
    blocks: tuple[EdgeBlock, ...]
    node_index: Tensor
    node_mask: Tensor
    node_codes: Tensor

    @classmethod
    def of(cls, network: Network, device: torch.device) -> "DenseGraph":
        """Return the graph of an architecture.

        Raises:
            ZooError: its layers are not known, or hold one that has no form as a graph.
        """
        structure = graph_structure(network)
        counts = np.bincount(structure.layer_of_node)
        stops = np.cumsum(counts).tolist()
        layers = tuple(zip([0, *stops], stops, strict=False))
        kernels = _kernel_shapes(network)
        codes = node_codes(structure, [math.prod(kernel) for kernel in kernels])
        return cls(
            size=network.layout.size,
            layers=layers,
            blocks=tuple(_blocks(structure, layers, kernels, device)),
            node_index=torch.from_numpy(np.maximum(structure.node_index, 0).reshape(-1)).to(device),
            node_mask=torch.from_numpy((structure.node_index >= 0).astype(np.float32)).to(device),
            node_codes=torch.from_numpy(codes).to(device),
        )

    @property
    def n_edges(self) -> int:
        """How many edges there are."""
        return sum(math.prod(block.shape) for block in self.blocks)

    @property
    def elements(self) -> int:
        """How many nodes and edges there are."""
        return self.layers[-1][1] + self.n_edges

    def node_features(self, weights: Tensor) -> Tensor:
        """Return the features (network, node, feature) of flat weights (network, parameter); 0 where there is none."""
        return weights.index_select(1, self.node_index).unflatten(1, self.node_mask.shape) * self.node_mask

    def kernels(self, weights: Tensor) -> list[Tensor]:
        """Return the numbers (network, edge, position) of each block with weights, brought to about one size."""
        return [
            weights.index_select(1, block.index).unflatten(1, (-1, len(block.codes))) * block.gain
            for block in self.blocks
            if not block.is_residual
        ]

    def edges(self, kernels: Sequence[Tensor], maps: Callable[[Tensor], Tensor], residual: Tensor) -> Tensor:
        """Return kernels as channels, (network, edge, channel), linear in their numbers.

        Args:
            kernels: of each block with weights (network, edge, position).
            maps: what each position is multiplied with, from codes (position, code) to (position, channel).
            residual: what stands at an edge without a weight (channel,).
        """
        mapped = iter(kernels)
        parts = []
        for block in self.blocks:
            if block.is_residual:
                parts.append(residual.expand(len(kernels[0]), block.shape[0], len(residual)))
            else:
                parts.append(next(mapped) @ (maps(block.codes) / math.sqrt(len(block.codes))))
        return torch.cat(parts, dim=1)

    def along_blocks(self, maps: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what codes of blocks (code,) are mapped to (channel,), at each edge (edge, channel)."""
        mapped = maps(torch.stack([block.code for block in self.blocks]))
        parts = [one.expand(math.prod(block.shape), -1) for one, block in zip(mapped, self.blocks, strict=True)]
        return torch.cat(parts)

    def by_block(self, edges: Tensor) -> list[Tensor]:
        """Return edges (network, edge, channel) as blocks (network, target, source, channel)."""
        sizes = [math.prod(block.shape) for block in self.blocks]
        parts = edges.split(sizes, dim=1)
        return [part.unflatten(1, block.shape) for part, block in zip(parts, self.blocks, strict=True)]

    def at_targets(self, nodes: Tensor) -> list[Tensor]:
        """Return nodes (network, node, channel) at the targets of each block, (network, target, 1, channel)."""
        _, *layers = self._by_layer(nodes)
        residual = [nodes[:, slice(*block.targets)] for block in self.blocks[len(layers) :]]
        return [part.unsqueeze(2) for part in [*layers, *residual]]

    def at_sources(self, nodes: Tensor) -> list[Tensor]:
        """Return nodes at the sources of each block, (network, 1, source, channel) or (network, pair, 1, channel)."""
        *layers, _ = self._by_layer(nodes)
        residual = [nodes[:, slice(*block.sources)] for block in self.blocks[len(layers) :]]
        return [*(part.unsqueeze(1) for part in layers), *(part.unsqueeze(2) for part in residual)]

    def ends(self, targets: Tensor, sources: Tensor) -> Tensor:
        """Return the sum of what stands at both ends of each edge, (network, edge, channel).

        Args:
            targets: (network, node, channel), read where an edge leads to.
            sources: read where it begins.
        """
        pairs = zip(self.at_targets(targets), self.at_sources(sources), strict=True)
        return torch.cat([(target + source).flatten(1, 2) for target, source in pairs], dim=1)

    def incoming(self, edges: Tensor, nodes: Tensor) -> Tensor:
        """Return at each node the mean over its incoming edges of edge times source, (network, node, channel).

        A residual sum adds its own; nodes without incoming edges get 0.
        """
        pairs = zip(self.by_block(edges), self.at_sources(nodes), strict=True)
        means = [(edge * source).mean(dim=2) for edge, source in pairs]
        gathered = torch.cat([torch.zeros_like(self._by_layer(nodes)[0]), *means[: len(self.layers) - 1]], dim=1)
        for block, mean in zip(self.blocks[len(self.layers) - 1 :], means[len(self.layers) - 1 :], strict=True):
            gathered[:, slice(*block.targets)] += mean
        return gathered

    def outgoing(self, edges: Tensor, nodes: Tensor) -> Tensor:
        """Return at each node the mean over its outgoing edges of edge times target, as `incoming` does."""
        pairs = zip(self.blocks, self.by_block(edges), self.at_targets(nodes), strict=True)
        means = [(edge * target).mean(dim=2 if block.is_residual else 1) for block, edge, target in pairs]
        gathered = torch.cat([*means[: len(self.layers) - 1], torch.zeros_like(self._by_layer(nodes)[-1])], dim=1)
        for block, mean in zip(self.blocks[len(self.layers) - 1 :], means[len(self.layers) - 1 :], strict=True):
            gathered[:, slice(*block.sources)] += mean
        return gathered

    def _by_layer(self, nodes: Tensor) -> tuple[Tensor, ...]:
        return nodes.split([stop - start for start, stop in self.layers], dim=1)


def _blocks(
    structure: GraphStructure,
    layers: Sequence[tuple[int, int]],
    kernels: Sequence[tuple[int, int]],
    device: torch.device,
) -> list[EdgeBlock]:
    """Return the blocks of edges of a structure, whose edges lie layer by layer, the targets of each first."""
    blocks = []
    last = len(layers) - 1
    for layer in range(1, last + 1):
        chosen = np.flatnonzero((structure.layer_of_edge == layer) & ~structure.is_residual)
        height, width = kernels[layer - 1]
        index = structure.edge_index[chosen, : height * width]
        blocks.append(
            EdgeBlock(
                target_layer=layer,
                source_layer=layer - 1,
                targets=layers[layer],
                sources=layers[layer - 1],
                is_residual=False,
                index=torch.from_numpy(index.reshape(-1)).to(device),
                codes=torch.from_numpy(kernel_codes(height, width)).to(device),
                code=torch.from_numpy(edge_code(layer, last)).to(device),
                gain=math.sqrt((layers[layer - 1][1] - layers[layer - 1][0]) * height * width),
            )
        )
    residual = np.flatnonzero(structure.is_residual)
    pairs = structure.edges[:, residual]
    joined = structure.layer_of_node[pairs]  # (2, edge): which layers
    ends = np.flatnonzero((np.diff(pairs, axis=1) != 1).any(axis=0) | (np.diff(joined, axis=1) != 0).any(axis=0)) + 1
    for part in np.split(np.arange(len(residual)), ends) if len(residual) else []:
        (source, target), count = pairs[:, part[0]].tolist(), len(part)
        source_layer, target_layer = joined[:, part[0]].tolist()
        none = torch.empty(0, device=device)
        blocks.append(
            EdgeBlock(
                target_layer=target_layer,
                source_layer=source_layer,
                targets=(target, target + count),
                sources=(source, source + count),
                is_residual=True,
                index=none.long(),
                codes=none,
                code=torch.from_numpy(edge_code(0, last)).to(device),
                gain=1.0,
            )
        )
    return blocks


def _kernel_shapes(network: Network) -> list[tuple[int, int]]:
    """Return the height and width of what lies on an edge, for each layer with weights; 1 and 1 for a number."""
    kernels: list[tuple[int, int]] = []
    image: tuple[int, int] | None = None  # what positions a unit has, where an image of units was flattened
    shape, is_input = network.input_shape, True
    for layer, after in zip(network.layers, shapes(network.layers, network.input_shape), strict=True):
        if isinstance(layer, Convolution):
            kernels.append(layer.kernels)
            is_input = False
        elif isinstance(layer, Linear):
            kernels.append(image or (1, 1))
            image, is_input = None, False
        elif len(shape) == 3 and len(after) == 1:
            flattened = math.prod(shape) == after[0] and not is_input
            image = (shape[1], shape[2]) if flattened else None
        shape = after
    return kernels
