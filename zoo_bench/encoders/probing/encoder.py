"""The encoder `probing`: it runs each network on learned inputs and reads what comes out.

Two networks that compute the same function have the same embedding, whatever their weights. The inputs come from a deep
linear generator, which keeps them close to one another (after ProbeGen, Kahana et al., ICLR 2025); how outputs are
squashed and all sizes are our own. `probing_small` has fewer inputs and steps, for CPUs.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from zoo_bench.encoders.function_codes import FUNCTIONS, rows_with_functions
from zoo_bench.encoders.training.loop import TrainingSettings
from zoo_bench.encoders.training.networks import dense, last_layer
from zoo_bench.encoders.training.supervised import Facts, SupervisedEncoder
from zoo_bench.protocol.views import TrainingView
from zoo_gen.architecture.layers import layers_from_json, layers_to_json
from zoo_gen.architecture.network import Network
from zoo_gen.errors import ZooError
from zoo_gen.zoo.forward import ForwardPass

PROBES = {"large": 128, "small": 32}
LATENT, WIDTH = 32, 256  # of what an input is generated from, and of the layers that read outputs
TRAINING = TrainingSettings(
    epochs=50,
    steps=10_000,
    batch_size=64,
    learning_rate=1e-3,
    weight_decay=1e-4,
    schedule="cosine",
    warm_up_steps=500,
    clip=10.0,
    bfloat16=False,
)
# About a minute on two cores, of networks as small as the zoos' here.
SMALL_TRAINING = replace(TRAINING, epochs=20, steps=800)


class ProbingNetwork(nn.Module):
    """Networks to what they compute for learned inputs, an embedding and a logit."""

    def __init__(self, network: Network, probes: int, *, outputs: int = 1) -> None:
        super().__init__()
        self.network, self.length = network, network.layout.size + 1
        pixels = math.prod(network.input_shape)
        self.latent = nn.Parameter(torch.randn(probes, LATENT))
        generator = nn.Linear(LATENT, WIDTH), nn.Linear(WIDTH, pixels)
        for layer in generator:
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)  # inputs of about unit variance
        self.generator = nn.Sequential(*generator)
        self.outputs = nn.Sequential(
            nn.LayerNorm(probes * network.n_outputs),
            nn.Linear(probes * network.n_outputs, WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, WIDTH),
            nn.ReLU(),
        )
        self.last = last_layer(WIDTH, outputs)

    def forward(self, plan: None, numbers: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Map networks to embeddings (network, width) and logits (network,).

        Args:
            plan: none is needed.
            numbers: of many networks (number,): the place of each one's function, then its weights.
            offsets: where each network begins (network,).
        """
        rows = dense(numbers, offsets, self.length)
        run = ForwardPass(self.network, FUNCTIONS, rows[:, 0].long().cpu().numpy()).run
        inputs = self.generator(self.latent).view(-1, *self.network.input_shape)
        values = run(rows[:, 1:], inputs).flatten(1)
        squashed = values.sign() * values.abs().log1p()  # a few exploded networks give huge outputs
        embeddings = self.outputs(squashed)
        return embeddings, self.last(embeddings).squeeze(1).float()


def small(*, probes: int = PROBES["small"], training: TrainingSettings = SMALL_TRAINING) -> SupervisedEncoder:
    """Return the encoder in its small size."""
    return probing(probes=probes, training=training)


def probing(*, probes: int = PROBES["large"], training: TrainingSettings = TRAINING) -> SupervisedEncoder:
    """Return the encoder; its embedding is the last hidden layer."""
    encoder = SupervisedEncoder(
        "probing",
        source=probing,
        training=training,
        settings={"probes": probes, "latent": LATENT, "width": WIDTH},
        facts=lambda networks: {},
        facts_of_views=_facts,
        build=lambda facts: ProbingNetwork(_network(facts), probes, outputs=facts.get("outputs", 1)),
        rows=rows_with_functions,
        fixed_length=True,
    )
    encoder.needs = ("forward",)
    return encoder


def _facts(views: Sequence[TrainingView]) -> Facts:
    """Return the layers of the networks, which all views share, and how many numbers are read of each.

    Raises:
        ZooError: the networks cannot be run, or are modules of somebody's own.
    """
    network = views[0].computing.forward_pass.network
    if network.own_module is not None:
        raise ZooError(
            f"probing: module {network.own_module.reference!r} has no layers that can be saved with an encoder; "
            "expected a zoo of layers"
        )
    shape = list(network.input_shape)
    return {"layers": layers_to_json(network.layers), "input_shape": shape, "numbers": network.layout.size + 1}


def _network(facts: Facts) -> Network:
    return Network(layers_from_json(facts["layers"]), tuple(facts["input_shape"]))
