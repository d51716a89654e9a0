"""GraphNetwork: rounds of messages along the edges of graphs, in both directions, then means over nodes and edges.

After Kofinas et al. (ICLR 2024) and Lim et al. (ICLR 2024): weights are features of edges and biases of nodes, and both
are updated in each round. A message is an edge times what stands at its other end, as the networks themselves multiply.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo_bench.encoders.graph_network.codes import EDGE_CODES, KERNEL_CODES, NODE_CODES
from zoo_bench.encoders.graph_network.dense_graph import DenseGraph
from zoo_bench.encoders.training.networks import dense, last_layer
from zoo_gen.architecture.graph_walk import NODE_FEATURES

KERNEL_WIDTH = 64  # of the hidden layer that maps the code of a position in a kernel
POOLED = 5  # means that are read: over hidden and output nodes, and over edges of first, middle and last layers


@dataclass(frozen=True)
class Plan:
    """The architectures of a batch.

    Attributes:
        parts: each architecture's graph, and which networks of the batch are of it, int64 (network,).
        order: the place of each network of the batch among those of all parts, int64; None where there is one part.
    """

    parts: tuple[tuple[Any, Tensor], ...]  # DenseGraph, or what a module reads in its place
    order: Tensor | None


class Features(nn.Module):
    """What graphs begin with: states of nodes and edges, from weights and from codes of the architecture."""

    node_deviation: Tensor

    def __init__(self, width: int, *, node_deviation: Sequence[float], edge_deviation: float) -> None:
        super().__init__()
        self.register_buffer("node_deviation", torch.tensor(node_deviation), persistent=False)
        self.edge_deviation = edge_deviation
        features = 2 * len(NODE_FEATURES) + NODE_CODES
        self.nodes = nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width))
        self.kernels = nn.Sequential(nn.Linear(KERNEL_CODES, KERNEL_WIDTH), nn.ReLU(), nn.Linear(KERNEL_WIDTH, width))
        self.blocks = nn.Linear(EDGE_CODES, width)
        self.residual = nn.Parameter(torch.randn(width))

    def forward(self, graph: DenseGraph, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Map flat weights (network, parameter) to nodes (network, node, width) and edges (network, edge, width)."""
        values = graph.node_features(weights) / self.node_deviation
        codes = torch.cat([graph.node_mask, graph.node_codes], dim=1).expand(len(weights), -1, -1)
        nodes = self.nodes(torch.cat([values, codes], dim=2))
        kernels = [kernel / self.edge_deviation for kernel in graph.kernels(weights)]
        edges = graph.edges(kernels, self.kernels, self.residual)
        return nodes, edges + graph.along_blocks(self.blocks)


class Round(nn.Module):
    """One round: edges read both their ends, nodes read what both kinds of edge send."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.of_edge = nn.Linear(width, width)
        self.of_target, self.of_source = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.edge_norm, self.edge = nn.LayerNorm(width), nn.Linear(width, width)
        self.sent_on, self.sent_back = nn.Linear(width, width), nn.Linear(width, width)
        self.node_norm = nn.LayerNorm(3 * width)
        self.node = nn.Sequential(nn.Linear(3 * width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, graph: DenseGraph, nodes: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        """Return nodes (network, node, width) and edges (network, edge, width) after the round."""
        read = self.of_edge(edges) + graph.ends(self.of_target(nodes), self.of_source(nodes))
        edges = edges + self.edge(torch.relu(self.edge_norm(read)))
        incoming = graph.incoming(edges, self.sent_on(nodes))
        outgoing = graph.outgoing(edges, self.sent_back(nodes))
        nodes = nodes + self.node(self.node_norm(torch.cat([nodes, incoming, outgoing], dim=2)))
        return nodes, edges


class Head(nn.Module):
    """Pooled states of networks to embeddings and a logit."""

    def __init__(self, pooled: int, width: int, *, outputs: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.LayerNorm(pooled), nn.Linear(pooled, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        )
        self.last = last_layer(width, outputs)

    def forward(self, plan: Plan, pooled: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Map what was pooled (network, channel), a part of the plan each, to embeddings and logits (network,)."""
        joined = pooled[0] if plan.order is None else torch.cat(list(pooled)).index_select(0, plan.order)
        embeddings = self.layers(joined)
        return embeddings, self.last(embeddings).squeeze(1).float()


class GraphNetwork(nn.Module):
    """Networks as graphs to embeddings and a logit."""

    def __init__(
        self,
        width: int,
        rounds: int,
        head_width: int,
        *,
        node_deviation: Sequence[float],
        edge_deviation: float,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.features = Features(width, node_deviation=node_deviation, edge_deviation=edge_deviation)
        self.rounds = nn.ModuleList(Round(width) for _ in range(rounds))
        self.head = Head(POOLED * width, head_width, outputs=outputs)

    @torch.compiler.disable  # thousands of small operations: one CUDA graph of them is enough, compiling takes minutes
    def forward(self, plan: Plan, numbers: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Map numbers (number,) and offsets (network,) to embeddings (network, width) and logits (network,)."""
        pooled = [self.pool(graph, dense(numbers, offsets[rows], graph.size)) for graph, rows in plan.parts]
        return self.head(plan, pooled)

    def states(self, graph: DenseGraph, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Map flat weights (network, parameter) to the last states of nodes and edges."""
        nodes, edges = self.features(graph, weights)
        for each in self.rounds:
            nodes, edges = each(graph, nodes, edges)
        return nodes, edges

    def pool(self, graph: DenseGraph, weights: Tensor) -> Tensor:
        """Return the means of the last states (network, POOLED x width)."""
        nodes, edges = self.states(graph, weights)
        layers = graph.by_layer(nodes)
        hidden = torch.cat([nodes[:, :0], *graph.of_kind("hidden", layers)], dim=1)
        pairs = zip(graph.blocks, graph.by_block(edges), strict=True)
        weighted = [edge.flatten(1, 3) for block, edge in pairs if block.of.has_weight]
        middle = torch.cat([edges[:, :0], *weighted[1:-1]], dim=1)
        parts = [hidden, *graph.of_kind("output", layers), weighted[0], middle, weighted[-1]]
        return torch.cat([mean_over_units(part) for part in parts], dim=1)


def mean_over_units(states: Tensor) -> Tensor:
    """Return the mean (network, channel) of states (network, node or edge, channel); 0 of none."""
    return states.sum(dim=1) / max(states.shape[1], 1)
