"""Encoders of a few steps, for tests that name an encoder on the command line."""

from dataclasses import replace

from zoo_bench.encoders.hyper_representation.configurations import SMALL
from zoo_bench.encoders.hyper_representation.encoder import HyperRepresentation


def hyper_representation():
    return HyperRepresentation(configuration=replace(SMALL, epochs=2, steps=6))
