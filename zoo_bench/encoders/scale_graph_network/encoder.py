"""The encoder `scale_graph_network`: a graph network whose embeddings do not change with factors of hidden units.

Kalogeropoulos et al., Scale Equivariant Graph Metanetworks (NeurIPS 2024; ScaleGMN), built from the paper: positive
factors where a network's function is homogeneous (ReLU), signs where it is odd (tanh, sine). It reads each network's
function to know which, and several architectures in one fit. `scale_graph_network_small` is narrower and takes fewer
steps, for CPUs.
"""

from dataclasses import asdict, dataclass
from functools import partial

from zoo_bench.encoders.function_codes import rows_with_functions
from zoo_bench.encoders.graph_network.encoder import SMALL_TRAINING, TRAINING, architecture_of, graph_facts, plans
from zoo_bench.encoders.scale_graph_network.free_factors import SymmetricGraph
from zoo_bench.encoders.scale_graph_network.network import ScaleGraphNetwork
from zoo_bench.encoders.training.loop import TrainingSettings
from zoo_bench.encoders.training.supervised import Facts, SupervisedEncoder

NAME = "scale_graph_network"


@dataclass(frozen=True)
class Settings:
    """What determines the network."""

    width: int = 64  # of the states of units
    rounds: int = 3  # a round passes through all layers
    head_width: int = 256  # of the layers that read the means; the last is the embedding
    bidirectional: bool = False  # whether a round goes back to the inputs too, along inverse edges


LARGE = Settings()
SMALL = Settings(width=24, rounds=2, head_width=64)


def scale_graph_network(settings: Settings = LARGE, *, training: TrainingSettings = TRAINING) -> SupervisedEncoder:
    """Return the encoder; its embedding is the last hidden layer.

    Args:
        settings: of the network.
        training: how.
    """
    encoder = SupervisedEncoder(
        NAME,
        source=scale_graph_network,
        training=training,
        settings=asdict(settings),
        facts=partial(graph_facts, skipped=1),
        build=lambda facts: _network(settings, facts),
        plans=partial(plans, make=SymmetricGraph.of),
        architecture=lambda view: architecture_of(NAME, view),
        rows=rows_with_functions,
    )
    encoder.needs = ("graphs", "forward")
    return encoder


def small(settings: Settings = SMALL, *, training: TrainingSettings = SMALL_TRAINING) -> SupervisedEncoder:
    """Return the encoder in its small size."""
    return scale_graph_network(settings, training=training)


def _network(settings: Settings, facts: Facts) -> ScaleGraphNetwork:
    return ScaleGraphNetwork(
        settings.width,
        settings.rounds,
        settings.head_width,
        bias_size=facts["node_deviation"][0],
        edge_deviation=facts["edge_deviation"],
        bidirectional=settings.bidirectional,
        outputs=facts.get("outputs", 1),
    )
