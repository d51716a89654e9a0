"""Tiny encoders of two steps, for tests that name an encoder on the command line."""

from dataclasses import replace

from zoo_bench.encoders.hyper_representation.configurations import SMALL
from zoo_bench.encoders.hyper_representation.encoder import HyperRepresentation


def hyper_representation():
    sizes = {"width": 16, "feedforward": 24, "latent": 8, "head_width": 8, "head_output": 6}
    return HyperRepresentation(configuration=replace(SMALL, epochs=1, steps=2, batch_size=16, **sizes))
