"""What an encoder is, and the encoders that come with the package.

An encoder is any object with the methods below; there is no base class. It turns weights into embeddings that are
then scored by probes. It is fitted on training views and may select on validation views; it never sees test views
before `encode`. Neural encoders import torch, so they are named here and imported when they are made.
"""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from zoo_bench.encoders.runtime import Runtime
from zoo_bench.encoders.statistics import PCA, Weights, WeightStatistics
from zoo_gen.errors import ZooError, unknown_name
from zoo_gen.zoo import ZooView


class Encoder(Protocol):
    """Weights to embeddings.

    One that trains a network has beside: `runtime`, which `make_encoder` sets; `save(folder)` and `load(folder)`,
    which write and read the fitted encoder.
    """

    @property
    def config(self) -> dict[str, Any]:
        """The settings that determine what it does, as plain data."""

    def fit(self, train: Sequence[ZooView], validation: Sequence[ZooView], *, seed: int) -> Self:
        """Learn from the training views, selecting on the validation views only; all randomness comes from `seed`."""

    def encode(self, view: ZooView) -> np.ndarray:
        """Return one embedding a checkpoint, float (model x checkpoint, dimension), models outermost."""


@dataclass(frozen=True)
class Lazy:
    """An encoder in a module that is imported when the encoder is made.

    Attributes:
        module: the module's full name.
        maker: a function or class in it.
        variant: what the maker is called with, if anything.
    """

    module: str
    maker: str
    variant: str | None = None

    def __call__(self) -> Encoder:
        """Return a fresh encoder."""
        maker = getattr(importlib.import_module(self.module), self.maker)
        return maker() if self.variant is None else maker(self.variant)


ENCODERS: dict[str, Callable[[], Encoder]] = {
    "weights": Weights,
    "weight_statistics": lambda: WeightStatistics(biases=True),
    "weight_statistics_without_biases": lambda: WeightStatistics(biases=False),
    "pca": PCA,
}


def make_encoder(name: str, *, runtime: Runtime | None = None) -> Encoder:
    """Return a fresh encoder: one of ENCODERS by name, or `package.module:Class`, called without arguments.

    An encoder with an attribute `runtime` gets the one given, if any.

    Raises:
        ZooError: there is no such encoder, or it lacks a method of the protocol.
    """
    encoder = ENCODERS[name]() if name in ENCODERS else _foreign_encoder(name)
    if runtime is not None and hasattr(encoder, "runtime"):
        encoder.runtime = runtime
    return encoder


def _foreign_encoder(name: str) -> Encoder:
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
    """Return the SHA-256 (hex) of an encoder's name, settings and source: it changes when the encoder does."""
    content = json.dumps([name, encoder.config, source_digest(type(encoder))], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def source_digest(encoder: type) -> str:
    """Return the SHA-256 (hex) of all source files that determine an encoder.

    They are the file of its class and every module that it imports, directly or through others, from its own
    top-level package; and `zoo_gen.layout`, from which tokens and permutations come.
    """
    found: dict[str, Path] = {}
    waiting = [encoder.__module__]
    while waiting:
        name = waiting.pop()
        source = inspect.getsourcefile(importlib.import_module(name)) if name not in found else None
        if source is not None:
            found[name] = Path(source)
            own = encoder.__module__.partition(".")[0]
            waiting += [other for other in _imported(name, found[name]) if other.partition(".")[0] == own]
            waiting += ["zoo_gen.layout"] if "zoo_gen.layout" in _imported(name, found[name]) else []
    lines = [f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for name, path in sorted(found.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _imported(module: str, path: Path) -> set[str]:
    """Return the full names of the modules that a file imports, read from its source."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            members = {f"{origin}.{alias.name}" for alias in node.names}
            modules = {member for member in members if member in sys.modules}
            found |= modules or {origin}
    return found
