"""The encoder `graph_network`: networks as graphs, read by messages between neighbouring units.

Kofinas et al., Graph Neural Networks for Learning Equivariant Representations of Neural Networks, and Lim et al., Graph
Metanetworks (both ICLR 2024), built from the papers. It reads any architectures that have a form as a graph, several in
one fit, and is not told activation functions. `graph_network_small` is narrower and takes fewer steps, for CPUs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo_bench.encoders.graph_network.dense_graph import DenseGraph
from zoo_bench.encoders.graph_network.network import GraphNetwork, Plan
from zoo_bench.encoders.training.loop import TrainingSettings
from zoo_bench.encoders.training.networks import Networks, dense
from zoo_bench.encoders.training.supervised import Facts, Plans, SupervisedEncoder
from zoo_bench.protocol.views import TrainingView, WeightsView
from zoo_gen.architecture.network import Network
from zoo_gen.errors import ZooError


@dataclass(frozen=True)
class Settings:
    """What determines the network."""

    width: int = 64  # of the states of nodes and edges
    rounds: int = 4
    head_width: int = 256  # of the layers that read the means; the last is the embedding


SMALL = Settings(width=24, rounds=3, head_width=64)
TRAINING = TrainingSettings(
    epochs=100,
    steps=6400,
    batch_size=32,
    learning_rate=1e-3,
    weight_decay=1e-4,
    schedule="cosine",
    warm_up_steps=1000,
    clip=10.0,
    bfloat16=False,
    graph=True,
)
# About a minute on two cores: of larger networks fewer steps.
SMALL_TRAINING = replace(
    TRAINING, epochs=20, steps=1000, most_numbers=12_000_000, batch_size=16, learning_rate=2e-3, threads=1
)
_LEAST_DEVIATION = 1e-6  # of a feature that is 0 in all training networks


def graph_network(settings: Settings = Settings(), *, training: TrainingSettings = TRAINING) -> SupervisedEncoder:
    """Return the encoder; its embedding is the last hidden layer.

    Args:
        settings: of the network.
        training: how.
    """
    encoder = SupervisedEncoder(
        "graph_network",
        source=graph_network,
        training=training,
        settings={"width": settings.width, "rounds": settings.rounds, "head_width": settings.head_width},
        facts=graph_facts,
        build=lambda facts: _network(settings, facts),
        plans=plans,
        architecture=lambda view: architecture_of("graph_network", view),
    )
    encoder.needs = ("graphs",)
    return encoder


def small(settings: Settings = SMALL, *, training: TrainingSettings = SMALL_TRAINING) -> SupervisedEncoder:
    """Return the encoder in its small size."""
    return graph_network(settings, training=training)


def architecture_of(name: str, view: TrainingView | WeightsView) -> Network:
    """Return the architecture of a view's rows.

    Raises:
        ZooError: the encoder `name` cannot read it as a graph.
    """
    try:
        view.computing.structure  # noqa: B018  (which says what has no form as a graph)
    except ZooError as error:
        raise ZooError(f"{name}: {error}") from None
    assert view.computing.network is not None
    return view.computing.network


def graph_facts(networks: Networks, *, skipped: int = 0) -> Facts:
    """Return the sizes of weights and of the features of nodes: the median over networks of root mean squares.

    Args:
        networks: of training.
        skipped: numbers of each network that stand in front of its weights.
    """
    edges: list[Tensor] = []
    nodes: list[Tensor] = []
    elements: list[np.ndarray] = []
    for place, network in enumerate(networks.layouts):
        chosen = np.flatnonzero(networks.layout_of == place)
        graph = DenseGraph.of(network, networks.offsets.device)
        offsets = networks.part(chosen).offsets + skipped
        for some in offsets.split(256):
            weights = dense(networks.numbers, some, graph.size)
            squares = torch.cat([kernel.square().flatten(1) for kernel in graph.kernels(weights)], dim=1)
            edges.append(squares.mean(dim=1).sqrt())
            present = graph.node_mask.sum(dim=0).clamp_min(1)
            nodes.append((graph.node_features(weights).square().sum(dim=1) / present).sqrt())
        elements.append(np.full(len(chosen), graph.elements))
    return {
        "edge_deviation": max(float(torch.cat(edges).median()), _LEAST_DEVIATION),
        "node_deviation": [max(float(one), _LEAST_DEVIATION) for one in torch.cat(nodes).median(dim=0).values],
        "elements": float(np.concatenate(elements).mean()),
    }


def plans(
    facts: Facts,
    networks: Sequence[Network],
    device: torch.device,
    *,
    make: Callable[[Network, torch.device], Any] = DenseGraph.of,
) -> Plans:
    """Return what makes the plan of a batch from the architecture of each of its networks.

    Args:
        facts: of the training networks.
        networks: the architectures.
        device: of the plan.
        make: what makes an architecture's graph.
    """
    graphs = [make(network, device) for network in dict.fromkeys(networks)]
    last: dict[bytes, Plan] = {}  # the plan of the last batch

    def plan(layout_of: np.ndarray) -> Plan:
        key = layout_of.tobytes()
        if key not in last:
            last.clear()  # training on one architecture asks for one plan only
            present = np.unique(layout_of)
            rows = [np.flatnonzero(layout_of == place) for place in present]
            parts = tuple(
                (graphs[place], torch.from_numpy(some).to(device)) for place, some in zip(present, rows, strict=True)
            )
            order = torch.from_numpy(np.argsort(np.concatenate(rows))).to(device) if len(parts) > 1 else None
            last[key] = Plan(parts, order)
        return last[key]

    return plan


def _network(settings: Settings, facts: dict[str, Any]) -> GraphNetwork:
    return GraphNetwork(
        settings.width,
        settings.rounds,
        settings.head_width,
        node_deviation=facts["node_deviation"],
        edge_deviation=facts["edge_deviation"],
        outputs=facts.get("outputs", 1),
    )
