"""DenseGraph: one architecture's graph as blocks of edges, so that messages need no list of edges.

Within a group of units there is an edge for each pair, so a block of edges is a tensor (group, target, source): what an
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
from torch.nn.functional import pad

from zoo_bench.encoders.graph_network.codes import KERNEL_CODES, edge_code, kernel_codes, node_codes, numbers_read
from zoo_gen.architecture.graph_walk import KINDS, EdgeBlock
from zoo_gen.architecture.graphs import graph_structure
from zoo_gen.architecture.network import Network


@dataclass(frozen=True)
class DenseBlock:
    """A block of edges on a device.

    Attributes:
        of: what it joins.
        index: int64 (edge x position,), where the numbers of the edges' kernels lie; none of edges without a weight.
        codes: float32 (position, code), of the positions in a kernel.
        code: float32 (code,), of the block.
        gain: what brings the numbers to about one size: the root of how many a target reads.
    """

    of: EdgeBlock
    index: Tensor
    codes: Tensor
    code: Tensor
    gain: float

    @classmethod
    def from_edges(cls, block: EdgeBlock, last: int, device: torch.device) -> "DenseBlock":
        """Return a block of edges of a graph whose last layer is `last`."""
        codes = kernel_codes(*block.kernel) if block.has_weight else np.empty((0, KERNEL_CODES), np.float32)
        code = edge_code(block.target_layer, last, has_weight=block.has_weight)
        return cls(
            block,
            index=torch.from_numpy(block.index.reshape(-1)).to(device),
            codes=torch.from_numpy(codes).to(device),
            code=torch.from_numpy(code).to(device),
            gain=math.sqrt(numbers_read(block)),
        )


@dataclass(frozen=True)
class DenseGraph:
    """The graph of one architecture on a device.

    Attributes:
        size: how many numbers a network has.
        names: of the layers of units.
        layers: from which node to which the units of each layer are, the inputs first.
        kinds: of each layer, a place in KINDS.
        blocks: of edges.
        node_index: int64 (node x feature,), where the features of nodes lie; anywhere where there is none.
        node_mask: float32 (node, feature), 1 where there is a feature, else 0.
        node_codes: float32 (node, code), what the architecture says of each node.
    """

    size: int
    names: tuple[str, ...]
    layers: tuple[tuple[int, int], ...]
    kinds: tuple[int, ...]
    blocks: tuple[DenseBlock, ...]
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
        stops = np.cumsum(np.bincount(structure.layer_of_node)).tolist()
        last = len(structure.names) - 1
        return cls(
            size=network.layout.size,
            names=structure.names,
            layers=tuple(zip([0, *stops], stops, strict=False)),
            kinds=tuple(structure.kind_of_node[stop - 1] for stop in stops),
            blocks=tuple(DenseBlock.from_edges(block, last, device) for block in structure.blocks),
            node_index=torch.from_numpy(np.maximum(structure.node_index, 0).reshape(-1)).to(device),
            node_mask=torch.from_numpy((structure.node_index >= 0).astype(np.float32)).to(device),
            node_codes=torch.from_numpy(node_codes(structure)).to(device),
        )

    @property
    def n_edges(self) -> int:
        """How many edges there are."""
        return sum(block.of.count for block in self.blocks)

    @property
    def elements(self) -> int:
        """How many nodes and edges there are."""
        return self.layers[-1][1] + self.n_edges

    def of_kind(self, kind: str, parts: Sequence[Tensor]) -> list[Tensor]:
        """Return the parts, one a layer, of the layers of a kind."""
        return [part for part, index in zip(parts, self.kinds, strict=True) if index == KINDS.index(kind)]

    def node_features(self, weights: Tensor) -> Tensor:
        """Return the features (network, node, feature) of flat weights (network, parameter); 0 where there is none."""
        return weights.index_select(1, self.node_index).unflatten(1, self.node_mask.shape) * self.node_mask

    def kernels(self, weights: Tensor) -> list[Tensor]:
        """Return the numbers (network, edge, position) of each block with weights, brought to about one size."""
        return [
            weights.index_select(1, block.index).unflatten(1, (-1, len(block.codes))) * block.gain
            for block in self.blocks
            if block.of.has_weight
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
            if block.of.has_weight:
                parts.append(next(mapped) @ (maps(block.codes) / math.sqrt(len(block.codes))))
            else:
                parts.append(residual.expand(len(kernels[0]), block.of.count, len(residual)))
        return torch.cat(parts, dim=1)

    def along_blocks(self, maps: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what codes of blocks (code,) are mapped to (channel,), at each edge (edge, channel)."""
        mapped = maps(torch.stack([block.code for block in self.blocks]))
        parts = [one.expand(block.of.count, -1) for one, block in zip(mapped, self.blocks, strict=True)]
        return torch.cat(parts)

    def by_block(self, edges: Tensor) -> list[Tensor]:
        """Return edges (network, edge, channel) as blocks (network, group, target, source, channel)."""
        parts = edges.split([block.of.count for block in self.blocks], dim=1)
        return [part.unflatten(1, block.of.shape) for part, block in zip(parts, self.blocks, strict=True)]

    def by_layer(self, nodes: Tensor) -> list[Tensor]:
        """Return nodes (network, node, channel) layer by layer."""
        return list(nodes.split([stop - start for start, stop in self.layers], dim=1))

    def at_targets(self, nodes: Tensor) -> list[Tensor]:
        """Return nodes at the targets of each block, (network, group, target, 1, channel)."""
        layers = self.by_layer(nodes)
        groups = ((block.of.target_layer, block.of.shape[:2]) for block in self.blocks)
        return [layers[layer][:, : math.prod(shape)].unflatten(1, (*shape, 1)) for layer, shape in groups]

    def at_sources(self, nodes: Tensor) -> list[Tensor]:
        """Return nodes at the sources of each block, (network, group, 1, source, channel)."""
        layers = self.by_layer(nodes)
        groups = ((block.of.source_layer, block.of.shape[::2]) for block in self.blocks)
        return [layers[layer][:, : math.prod(shape)].unflatten(1, (shape[0], 1, shape[1])) for layer, shape in groups]

    def ends(self, targets: Tensor, sources: Tensor) -> Tensor:
        """Return the sum of what stands at both ends of each edge, (network, edge, channel).

        Args:
            targets: (network, node, channel), read where an edge leads to.
            sources: read where it begins.
        """
        pairs = zip(self.at_targets(targets), self.at_sources(sources), strict=True)
        return torch.cat([(target + source).flatten(1, 3) for target, source in pairs], dim=1)

    def incoming(self, edges: Tensor, nodes: Tensor) -> Tensor:
        """Return at each node the mean over its incoming edges of edge times source, (network, node, channel).

        Blocks of edges that lead to one node are added; nodes without incoming edges get 0.
        """
        pairs = zip(self.by_block(edges), self.at_sources(nodes), strict=True)
        means = [(edge * source).mean(dim=3).flatten(1, 2) for edge, source in pairs]
        return self._gathered(nodes, means, [block.of.target_layer for block in self.blocks])

    def outgoing(self, edges: Tensor, nodes: Tensor) -> Tensor:
        """Return at each node the mean over its outgoing edges of edge times target, as `incoming` does."""
        pairs = zip(self.by_block(edges), self.at_targets(nodes), strict=True)
        means = [(edge * target).mean(dim=2).flatten(1, 2) for edge, target in pairs]
        return self._gathered(nodes, means, [block.of.source_layer for block in self.blocks])

    def _gathered(self, nodes: Tensor, means: Sequence[Tensor], layers: Sequence[int]) -> Tensor:
        """Return the sum of means (network, unit, channel) at the first units of layers, (network, node, channel)."""
        sums: dict[int, Tensor] = {}
        for layer, mean in zip(layers, means, strict=True):
            start, stop = self.layers[layer]
            padded = mean if mean.shape[1] == stop - start else pad(mean, (0, 0, 0, stop - start - mean.shape[1]))
            sums[layer] = sums[layer] + padded if layer in sums else padded
        none = self.by_layer(torch.zeros_like(nodes))
        return torch.cat([sums.get(layer, none[layer]) for layer in range(len(self.layers))], dim=1)
