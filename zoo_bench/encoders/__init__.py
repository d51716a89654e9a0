"""What an encoder is, and the encoders that come with the package.

An encoder is any object with the methods below; there is no base class. It turns weights into embeddings that are
then scored by probes. It is fitted on training views and may select on validation views; it never sees test views
before `encode`.
"""

import hashlib
import importlib
import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from zoo_bench.encoders.statistics import PCA, Weights, WeightStatistics
from zoo_gen.errors import ZooError, unknown_name
from zoo_gen.zoo import ZooView


class Encoder(Protocol):
    """Weights to embeddings."""

    @property
    def config(self) -> dict[str, Any]:
        """The settings that determine what it does, as plain data."""

    def fit(self, train: Sequence[ZooView], validation: Sequence[ZooView], *, seed: int) -> Self:
        """Learn from the training views, selecting on the validation views only; all randomness comes from `seed`."""

    def encode(self, view: ZooView) -> np.ndarray:
        """Return one embedding a checkpoint, float (model x checkpoint, dimension), models outermost."""


ENCODERS: dict[str, Callable[[], Encoder]] = {
    "weights": Weights,
    "weight_statistics": lambda: WeightStatistics(biases=True),
    "weight_statistics_without_biases": lambda: WeightStatistics(biases=False),
    "pca": PCA,
}


def make_encoder(name: str) -> Encoder:
    """Return a fresh encoder: one of ENCODERS by name, or `package.module:Class`, called without arguments.

    Raises:
        ZooError: there is no such encoder, or it lacks a method of the protocol.
    """
    if name in ENCODERS:
        return ENCODERS[name]()
    if ":" not in name:
        raise ZooError(unknown_name("encoder", name, ENCODERS) + ", or package.module:Class")
    module_name, _, class_name = name.partition(":")
    try:
        encoder = getattr(importlib.import_module(module_name), class_name)()
    except (ImportError, AttributeError, TypeError) as error:
        raise ZooError(f"encoder {name!r}: cannot be made ({error}); expected package.module:Class") from None
    for method in ("fit", "encode", "config"):
        if not hasattr(encoder, method):
            raise ZooError(f"encoder {name!r}: has no {method!r}; expected fit, encode and config")
    return encoder


def encoder_digest(name: str, encoder: Encoder) -> str:
    """Return the SHA-256 (hex) of an encoder's name, settings and source file: it changes when the encoder does."""
    source = inspect.getsourcefile(type(encoder))
    code = hashlib.sha256(Path(source).read_bytes()).hexdigest() if source else ""
    content = json.dumps([name, encoder.config, code], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
