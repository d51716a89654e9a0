"""ScaleGraphNetwork: states of units that their factors multiply, passed forward along the edges of a network's graph.

After Kalogeropoulos et al., Scale Equivariant Graph Metanetworks (NeurIPS 2024): an edge is multiplied by its target's
factor and divided by its source's, so edge times source has the factor of the target, and, in the bidirectional form,
inverse edge times target that of the source. Beside it a unit keeps what it noticed of its edges that no factor or
sign changes, such as their sizes: signs let a state add up only what cancels. A round goes from the inputs to the
outputs, layer by layer, as the networks do, so each reaches through any depth; in the bidirectional form it goes back.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo_bench.encoders.graph_network.codes import KERNEL_CODES, NODE_CODES
from zoo_bench.encoders.graph_network.dense_graph import DenseGraph
from zoo_bench.encoders.graph_network.network import KERNEL_WIDTH, Head, Plan, mean_over_units
from zoo_bench.encoders.scale_graph_network.free_factors import SymmetricGraph
from zoo_bench.encoders.scale_graph_network.layers import LEAST, MOST, Equivariant, Invariant
from zoo_bench.encoders.training.networks import dense
from zoo_gen.architecture.graph_walk import KINDS, NODE_FEATURES

POOLED = 4  # means that are read: over units of the first, of all and of the last hidden layers, and over outputs
EPSILON = 1e-5  # of batch normalisation

States = list[Tensor]  # of each layer (network, unit, channel)


class Pass(nn.Module):
    """One pass through the layers: forward, along the edges, or backward, against them along inverse edges."""

    def __init__(self, width: int, *, backward: bool = False) -> None:
        super().__init__()
        self.backward = backward
        self.source = nn.Linear(width, width, bias=False)
        self.target = nn.Linear(width, width, bias=False)
        self.of_edges, self.of_nodes = (nn.Linear(NODE_CODES, width) for _ in range(2))
        self.gate = Invariant(width, width)
        self.notice = nn.Linear(width, width)
        self.noticed_there, self.noticed_here = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.update = Equivariant(2 * width, width, around=0.0 if backward else 1.0)

    def forward(
        self,
        graph: DenseGraph,
        states: States,
        noticed: States,
        edges: Sequence[Tensor],
        factors: States,
        signs: States,
    ) -> tuple[States, States]:
        """Return the states after the pass, and what is noticed of them.

        Args:
            graph: of the networks.
            states: of each layer (network, unit, width), multiplied by factors.
            noticed: of each layer (network, unit, width), left alone by factors.
            edges: of each block (network, group, target, source, width); inverse ones of a pass backward.
            factors, signs: of each layer (network, unit, 1).
        """
        codes = graph.by_layer(graph.node_codes.unsqueeze(0))
        passed, seen = list(states), list(noticed)
        order = range(len(states))
        for layer in reversed(order) if self.backward else order:
            message, start, is_reached = torch.zeros_like(states[layer]), graph.layers[layer][0], False
            notice = torch.zeros_like(message)
            for block, edge in zip(graph.blocks, edges, strict=True):
                ends = ((block.of.target_layer, block.of.targets), (block.of.source_layer, block.of.sources))
                (to, reached), (origin, read) = reversed(ends) if self.backward else ends
                if to == layer:
                    target_slice = slice(*(node - start for node in reached))
                    source_slice = slice(*(node - graph.layers[origin][0] for node in read))
                    source = (passed[origin][:, source_slice], seen[origin][:, source_slice])
                    target = (states[layer], self.of_edges(codes[layer]), factors[layer], signs[layer])
                    sent, hidden = self._message(edge, *source, *(values[:, target_slice] for values in target))
                    message[:, target_slice] += sent
                    notice[:, target_slice] += hidden
                    is_reached = True
            if is_reached:
                both = torch.cat([states[layer], message.clamp(-MOST, MOST)], dim=2)
                seen[layer] = noticed[layer] + self.notice(notice)
                code = self.of_nodes(codes[layer]) + self.noticed_here(seen[layer])
                state = self.update(both, code, factors[layer], signs[layer])
                passed[layer] = (states[layer] + state).clamp(-MOST, MOST)
        return passed, seen

    def _message(
        self, edge: Tensor, source: Tensor, seen: Tensor, target: Tensor, code: Tensor, factor: Tensor, sign: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what a block sends to the units that it reaches, and what they notice, (network, unit, width)."""
        groups, targets, sources = edge.shape[1:4]
        if self.backward:
            edge, targets, sources = edge.transpose(2, 3), sources, targets
        sent = self.source(source).unflatten(1, (groups, 1, sources)) * edge
        seen = self.noticed_there(seen).unflatten(1, (groups, 1, sources))
        target, code, factor, sign = (
            values.unflatten(1, (groups, targets, 1)) for values in (target, code, factor, sign)
        )
        square = target.square().mean(dim=-1, keepdim=True)
        hidden = self.gate.hidden(sent, code + seen, factor, sign, shared=self.target(target), shared_square=square)
        gate = self.gate.output(hidden)
        # Forward, weights of either sign add up as in the networks themselves; inverse ones differ too much in size.
        message = (sent * gate).mean(dim=3) if self.backward else (sent * (1 + gate)).sum(dim=3) / sources**0.5
        return message.flatten(1, 2), hidden.mean(dim=3).flatten(1, 2)


class ScaleGraphNetwork(nn.Module):
    """Networks as graphs, each behind the place of its activation function, to embeddings and a logit."""

    def __init__(
        self,
        width: int,
        rounds: int,
        head_width: int,
        *,
        bias_size: float,
        edge_deviation: float,
        bidirectional: bool = False,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.bias_size, self.edge_deviation = bias_size, edge_deviation
        self.inputs = nn.Sequential(nn.Linear(NODE_CODES, width), nn.SiLU(), nn.Linear(width, width))
        self.biases = nn.Linear(1, width, bias=False)
        self.kernels = nn.Sequential(nn.Linear(KERNEL_CODES, KERNEL_WIDTH), nn.SiLU(), nn.Linear(KERNEL_WIDTH, width))
        self.residual = nn.Parameter(torch.randn(width))
        self.rounds = nn.ModuleList(Pass(width) for _ in range(rounds))
        self.rounds_back = nn.ModuleList(Pass(width, backward=True) for _ in range(rounds if bidirectional else 0))
        self.of_read = nn.Linear(NODE_CODES, width)
        self.of_noticed = nn.Linear(width, width, bias=False)
        self.read = Invariant(width, width)
        # What is pooled differs little from network to network, beside what codes give them all.
        self.standard = nn.BatchNorm1d(POOLED * width, affine=False)
        self.head = Head(POOLED * width, head_width, outputs=outputs)

    @torch.compiler.disable  # thousands of small operations: one CUDA graph of them is enough, compiling takes minutes
    def forward(self, plan: Plan, numbers: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Map numbers (number,) and offsets (network,) to embeddings (network, width) and logits (network,)."""
        pooled = [self.pool(graph, dense(numbers, offsets[rows], graph.graph.size + 1)) for graph, rows in plan.parts]
        joined = torch.cat(pooled)
        # Of one network alone in a batch there is no deviation.
        standard = self.standard(joined) if len(joined) > 1 or not self.training else joined
        return self.head(plan, standard.split([len(part) for part in pooled]))

    def states(self, symmetric: SymmetricGraph, rows: Tensor) -> tuple[States, States, States, States]:
        """Map rows (network, 1 + parameter) to the last states of each layer, what is noticed, factors and signs."""
        graph, functions, weights = symmetric.graph, rows[:, 0].long(), rows[:, 1:]
        factors, signs = (
            graph.by_layer(table[functions].to(weights.dtype).unsqueeze(2))
            for table in (symmetric.factors, symmetric.signs)
        )
        biases, gains = _folded(graph, weights)
        edges = [part * gain for part, gain in zip(self._edges(graph, weights), gains, strict=True)]
        inverse = [_inverse(edge) for edge in edges] if len(self.rounds_back) else []
        codes = graph.by_layer(graph.node_codes.unsqueeze(0))
        states = [
            self.inputs(code).expand(len(rows), -1, -1) if kind == KINDS.index("input") else self.biases(bias)
            for kind, code, bias in zip(graph.kinds, codes, graph.by_layer(biases / self.bias_size), strict=True)
        ]
        states = [state.clamp(-MOST, MOST) for state in states]
        noticed = [torch.zeros_like(state) for state in states]
        for number, each in enumerate(self.rounds):
            states, noticed = each(graph, states, noticed, edges, factors, signs)
            if inverse:
                states, noticed = self.rounds_back[number](graph, states, noticed, inverse, factors, signs)
        return states, noticed, factors, signs

    def pool(self, symmetric: SymmetricGraph, rows: Tensor) -> Tensor:
        """Return the means of what is read of the last states (network, POOLED x width)."""
        state, seen, factor, sign = (torch.cat(parts, dim=1) for parts in self.states(symmetric, rows))
        code = self.of_read(symmetric.graph.node_codes) + self.of_noticed(seen)
        layers = symmetric.graph.by_layer(self.read(state, code, factor, sign))
        (outputs,) = symmetric.graph.of_kind("output", layers)
        hidden = symmetric.graph.of_kind("hidden", layers) or [outputs[:, :0]]
        parts = [hidden[0], torch.cat(hidden, dim=1), hidden[-1], outputs]
        return torch.cat([mean_over_units(part) for part in parts], dim=1)

    def _edges(self, graph: DenseGraph, weights: Tensor) -> list[Tensor]:
        kernels = [(kernel / self.edge_deviation).clamp(-MOST, MOST) for kernel in graph.kernels(weights)]
        return graph.by_block(graph.edges(kernels, self.kernels, self.residual))


def _inverse(edges: Tensor) -> Tensor:
    """Return what factors and signs change the other way round, of edges (..., channel): edge / |edge|^2.

    Of a kernel of one number w it is 1 / w times a learned direction, as in the paper.
    """
    square = edges.square().sum(dim=-1, keepdim=True)
    present = square > LEAST**2
    return (edges * (present / torch.where(present, square, 1.0))).clamp(-MOST, MOST)


def _folded(graph: DenseGraph, weights: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return biases (network, node, 1), and what edges are multiplied with, (network, group, target, 1, 1) a block.

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
        factor[:, slice(*block.of.targets)].unflatten(1, (*block.of.shape[:2], 1, 1))
        if block.of.has_weight
        else torch.ones_like(factor[:, :1, None, None, None])
        for block in graph.blocks
    ]
    return bias.unsqueeze(2), gains
