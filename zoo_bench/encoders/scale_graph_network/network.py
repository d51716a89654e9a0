"""ScaleGraphNetwork: states of units that their factors multiply, passed forward along the edges of a network's graph.

After Kalogeropoulos et al., Scale Equivariant Graph Metanetworks (NeurIPS 2024), in its forward form: an edge is
multiplied by its target's factor and divided by its source's, so edge times source has the factor of the target. A
round goes from the inputs to the outputs, layer by layer, as the networks do, so each reaches through any depth.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo_bench.encoders.graph_network.codes import KERNEL_CODES, NODE_CODES
from zoo_bench.encoders.graph_network.dense_graph import DenseGraph, EdgeBlock
from zoo_bench.encoders.graph_network.network import KERNEL_WIDTH, Head, Plan, mean_over_units
from zoo_bench.encoders.scale_graph_network.free_factors import SymmetricGraph
from zoo_bench.encoders.scale_graph_network.layers import MOST, Equivariant, Invariant
from zoo_bench.encoders.training.networks import dense
from zoo_gen.architecture.graphs import NODE_FEATURES

POOLED = 4  # means that are read: over units of the first, of all and of the last hidden layers, and over outputs
EPSILON = 1e-5  # of batch normalisation

States = list[Tensor]  # of each layer (network, unit, channel)


class Round(nn.Module):
    """One pass from the inputs to the outputs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.source = nn.Linear(width, width, bias=False)
        self.target = nn.Linear(width, width, bias=False)
        self.of_edges, self.of_nodes = (nn.Linear(NODE_CODES, width) for _ in range(2))
        self.gate = Invariant(width, width)
        self.update = Equivariant(2 * width, width)

    def forward(
        self, graph: DenseGraph, states: States, edges: Sequence[Tensor], factors: States, signs: States
    ) -> States:
        """Return the states after the round.

        Args:
            graph: of the networks.
            states: of each layer (network, unit, width).
            edges: of each block (network, target, source, width).
            factors, signs: of each layer (network, unit, 1).
        """
        sizes = [stop - start for start, stop in graph.layers]
        codes = [part.unsqueeze(0) for part in graph.node_codes.split(sizes)]
        passed = [states[0]]
        for layer in range(1, len(states)):
            message = torch.zeros_like(states[layer])
            for block, edge in zip(graph.blocks, edges, strict=True):
                if block.target_layer == layer:
                    ends = (states[layer], codes[layer], factors[layer], signs[layer])
                    message = message + self._message(block, edge, passed[block.source_layer], *ends)
            both = torch.cat([states[layer], message], dim=2)
            code = self.of_nodes(codes[layer])
            state = states[layer] + self.update(both, code, factors[layer], signs[layer])
            passed.append(state.clamp(-MOST, MOST))
        return passed

    def _message(
        self, block: EdgeBlock, edge: Tensor, source: Tensor, target: Tensor, code: Tensor, factor: Tensor, sign: Tensor
    ) -> Tensor:
        """Return what a block sends to the units of a layer, (network, unit, width)."""
        count, units = block.shape[0], target.shape[1]
        if block.is_residual:
            sent = self.source(source[:, :count]).unsqueeze(2) * edge
        else:
            sent = self.source(source).unsqueeze(1) * edge
        target, code, factor, sign = (
            values[:, :count].unsqueeze(2) for values in (target, self.of_edges(code), factor, sign)
        )
        square = target.square().sum(dim=3, keepdim=True)
        gate = self.gate(sent, code, factor, sign, shared=self.target(target), shared_square=square)
        message = (sent * gate).mean(dim=2)
        return message if count == units else nn.functional.pad(message, (0, 0, 0, units - count))


class ScaleGraphNetwork(nn.Module):
    """Networks as graphs, each behind the place of its activation function, to embeddings and a logit."""

    def __init__(self, width: int, rounds: int, head_width: int, *, bias_size: float, edge_deviation: float) -> None:
        super().__init__()
        self.bias_size, self.edge_deviation = bias_size, edge_deviation
        self.inputs = nn.Sequential(nn.Linear(NODE_CODES, width), nn.SiLU(), nn.Linear(width, width))
        self.biases = nn.Linear(1, width, bias=False)
        self.kernels = nn.Sequential(nn.Linear(KERNEL_CODES, KERNEL_WIDTH), nn.SiLU(), nn.Linear(KERNEL_WIDTH, width))
        self.residual = nn.Parameter(torch.randn(width))
        self.rounds = nn.ModuleList(Round(width) for _ in range(rounds))
        self.of_read = nn.Linear(NODE_CODES, width)
        self.read = Invariant(width, width)
        self.head = Head(POOLED * width, head_width)

    def forward(self, plan: Plan, numbers: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Map numbers (number,) and offsets (network,) to embeddings (network, width) and logits (network,)."""
        pooled = [self.pool(graph, dense(numbers, offsets[rows], graph.graph.size + 1)) for graph, rows in plan.parts]
        return self.head(plan, pooled)

    def states(self, symmetric: SymmetricGraph, rows: Tensor) -> tuple[States, States, States]:
        """Map rows (network, 1 + parameter) to the last states of each layer, and its factors and signs."""
        graph, functions, weights = symmetric.graph, rows[:, 0].long(), rows[:, 1:]
        sizes = [stop - start for start, stop in graph.layers]
        factors, signs = (
            list(table[functions].to(weights.dtype).unsqueeze(2).split(sizes, dim=1))
            for table in (symmetric.factors, symmetric.signs)
        )
        biases, gains = _folded(graph, weights)
        edges = [part * gain.unsqueeze(2) for part, gain in zip(self._edges(graph, weights), gains, strict=True)]
        first = self.inputs(graph.node_codes[: sizes[0]]).expand(len(rows), -1, -1)
        states = [first, *(self.biases(bias / self.bias_size) for bias in biases.split(sizes, dim=1)[1:])]
        states = [state.clamp(-MOST, MOST) for state in states]
        for each in self.rounds:
            states = each(graph, states, edges, factors, signs)
        return states, factors, signs

    def pool(self, symmetric: SymmetricGraph, rows: Tensor) -> Tensor:
        """Return the means of what is read of the last states (network, POOLED x width)."""
        states, factors, signs = self.states(symmetric, rows)
        code = self.of_read(symmetric.graph.node_codes).unsqueeze(0)
        joined = (torch.cat(parts, dim=1) for parts in (states, factors, signs))
        state, factor, sign = joined
        layers = self.read(state, code, factor, sign).split([part.shape[1] for part in states], dim=1)
        hidden = [layers[0][:, :0], *layers[1:-1]]
        parts = [hidden[min(1, len(hidden) - 1)], torch.cat(hidden, dim=1), hidden[-1], layers[-1]]
        return torch.cat([mean_over_units(part) for part in parts], dim=1)

    def _edges(self, graph: DenseGraph, weights: Tensor) -> list[Tensor]:
        kernels = [(kernel / self.edge_deviation).clamp(-MOST, MOST) for kernel in graph.kernels(weights)]
        return graph.by_block(graph.edges(kernels, self.kernels, self.residual))


def _folded(graph: DenseGraph, weights: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return biases (network, node, 1), and what incoming edges are multiplied with (network, target, 1) by block.

    Batch normalisation with known statistics is a factor and a bias of what it normalises. In this form a unit's
    factor multiplies bias and edges, whether it stands in the layer or in the normalisation.
    """
    features = dict(zip(NODE_FEATURES, graph.node_features(weights).unbind(dim=2), strict=True))
    present = dict(zip(NODE_FEATURES, graph.node_mask.unbind(dim=1), strict=True))
    weight = features["weight"] + (1 - present["weight"])
    has_variance = present["running_var"]
    variance = features["running_var"].clamp_min(0) + EPSILON
    factor = weight * (has_variance / variance.sqrt() + (1 - has_variance))
    bias = (features["bias"] - features["running_mean"]) * factor + features["norm_bias"]
    gains = [
        torch.ones_like(factor[:, slice(*block.targets)]) if block.is_residual else factor[:, slice(*block.targets)]
        for block in graph.blocks
    ]
    return bias.unsqueeze(2), [gain.unsqueeze(2) for gain in gains]
