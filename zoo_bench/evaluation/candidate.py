"""Candidate: an encoder to evaluate, given by name, as a class or as an object, and how a fresh one is made.

An object is never fitted itself. Every fit gets a copy of it as it was given, so that nothing one cell learned is known
in the next.
"""

import copy
import hashlib
import json
import sys
from dataclasses import dataclass, replace
from typing import Any, Self

from zoo_bench.encoders import Encoder, encoder_digest, make_encoder
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.evaluation.failing import named
from zoo_bench.evaluation.interactive import interactive_digest, is_interactive, state_of
from zoo_gen.errors import ZooError

_NO_SETTINGS = ("config", "runtime")  # attributes of an encoder that do not count as its settings
AnyEncoder = str | type[Any] | Encoder


@dataclass(frozen=True, eq=False)
class Candidate:
    """An encoder to evaluate; worker processes get it whole."""

    name: str  # under which its results are stored
    encoder: AnyEncoder
    digest: str = ""  # of its settings and source, once they were checked
    torch: bool = False  # whether it needs torch
    neural: bool = False  # whether it trains on a device, which its attribute `runtime` names

    @classmethod
    def of(cls, encoder: AnyEncoder, *, name: str = "") -> Self:
        """Return an encoder that was not checked, under the name given or its own."""
        return cls(name or name_of(encoder), encoder)

    def fresh(self, runtime: Runtime | None = None) -> Encoder:
        """Return an encoder that has seen nothing yet.

        Raises:
            ZooError: it cannot be made or copied, or lacks a method of the protocol.
        """
        with named(self.name, "cannot be made", encoder=None if isinstance(self.encoder, str) else self.encoder):
            if isinstance(self.encoder, str):
                return make_encoder(self.encoder, runtime=runtime)
            encoder: Any = self.encoder() if isinstance(self.encoder, type) else copy.deepcopy(self.encoder)
            for method in ("fit", "encode", "config"):
                if not hasattr(encoder, method):
                    raise ZooError(f"has no {method!r}; expected fit, encode and config")
        if runtime is not None and hasattr(encoder, "runtime"):
            encoder.runtime = runtime
        return encoder


def described(unchecked: Candidate) -> Candidate:
    """Return a candidate with the digest of its settings and source, made once to see that it can be.

    Raises:
        ZooError: the encoder cannot be made, or its settings are no plain data.
    """
    encoder = unchecked.fresh()
    with named(unchecked.name, "cannot be used", encoder=encoder):
        config = plain_config(encoder)
        source = getattr(encoder, "source", type(encoder))
        if is_interactive(source):
            digest = interactive_digest(unchecked.name, config, source)
        else:
            digest = encoder_digest(unchecked.name, encoder)
    if not isinstance(unchecked.encoder, str) or ":" in unchecked.encoder:
        attributes = {key: value for key, value in getattr(encoder, "__dict__", {}).items() if key not in _NO_SETTINGS}
        if attributes:  # a setting that `config` forgets makes another encoder all the same
            digest = hashlib.sha256(json.dumps([digest, state_of(attributes)]).encode()).hexdigest()
    neural = hasattr(encoder, "runtime")
    return replace(unchecked, digest=digest, torch=neural or "torch" in sys.modules, neural=neural)


def plain_config(encoder: Encoder) -> dict[str, object]:
    """Return the settings of an encoder as JSON holds them.

    Raises:
        ZooError: they are no dictionary of plain data.
    """
    config = encoder.config
    if not isinstance(config, dict):
        raise ZooError(f"config is {config!r}; expected a dictionary of plain data")
    try:
        plain: dict[str, object] = json.loads(json.dumps(config, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ZooError(f"config: {error}; expected plain data: text, finite numbers, lists, dictionaries") from None
    return plain


def name_of(encoder: AnyEncoder) -> str:
    """Return the name that an encoder has by itself: a name as it is, or package.module:Class."""
    if isinstance(encoder, str):
        return encoder
    kind = encoder if isinstance(encoder, type) else type(encoder)
    return kind.__qualname__ if kind.__module__ == "__main__" else f"{kind.__module__}:{kind.__qualname__}"
