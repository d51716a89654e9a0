"""Candidates: encoders to evaluate, given by name, as a class or as an object, and how a fresh one of each is made.

An object is never fitted itself. Every cell and seed gets a deep copy of it as it was given, so that nothing one cell
learned is known in the next.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from zoo_bench.encoders import ENCODERS, GROUPS, Encoder, encoder_digest, encoder_names, make_encoder
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.evaluation.failing import named
from zoo_bench.evaluation.interactive import interactive_digest, is_interactive
from zoo_gen.errors import ZooError

AnyEncoder = str | type[Any] | Encoder


@dataclass(frozen=True, eq=False)
class Candidate:
    """An encoder to evaluate; worker processes get it whole."""

    name: str  # under which its results are stored
    encoder: AnyEncoder
    digest: str = ""  # of its settings and source, once they were checked

    @classmethod
    def of(cls, encoder: AnyEncoder, *, name: str = "") -> Self:
        """Return an encoder that was not checked, under the name given or its own."""
        return cls(name or _name_of(encoder), encoder)

    def fresh(self, runtime: Runtime | None = None) -> Encoder:
        """Return an encoder that has seen nothing yet.

        Raises:
            ZooError: it cannot be made or copied, or lacks a method of the protocol.
        """
        if isinstance(self.encoder, str):
            return make_encoder(self.encoder, runtime=runtime)
        with named(self.name, "cannot be made or copied"):
            encoder: Any = self.encoder() if isinstance(self.encoder, type) else copy.deepcopy(self.encoder)
        for method in ("fit", "encode", "config"):
            if not hasattr(encoder, method):
                raise ZooError(f"encoder {self.name!r}: has no {method!r}; expected fit, encode and config")
        if runtime is not None and hasattr(encoder, "runtime"):
            encoder.runtime = runtime
        return encoder


def candidate(encoder: AnyEncoder, *, name: str = "") -> Candidate:
    """Return an encoder as a candidate, made once to see that it can be.

    Args:
        encoder: a name as `make_encoder` takes it, a class that is called without arguments, or an object.
        name: under which results are stored; if none is given, the name itself, or package.module:Class.

    Raises:
        ZooError: the encoder cannot be made, or its settings are no plain data.
    """
    unchecked = Candidate.of(encoder, name=name)
    return replace(unchecked, digest=checked_digest(unchecked))


def candidates(
    encoders: AnyEncoder | Sequence[AnyEncoder] | Mapping[str, AnyEncoder], *, protocol: str = ""
) -> list[Candidate]:
    """Return one or several encoders as candidates, each once; names of groups stand for their members.

    Args:
        encoders: one, several, or a mapping from the names under which results are stored.
        protocol: whose encoders alone are taken from groups.

    Raises:
        ZooError: as `candidate`, or two encoders have one name.
    """
    if isinstance(encoders, Mapping):
        return [candidate(encoder, name=name) for name, encoder in encoders.items()]
    several: list[Any] = list(encoders) if isinstance(encoders, list | tuple) else [encoders]
    chosen: dict[str, Candidate] = {}
    for encoder in several:
        for member in encoder_names([encoder], protocol=protocol) if isinstance(encoder, str) else [encoder]:
            name = _name_of(member)
            if name in chosen and chosen[name].encoder is not member and not isinstance(member, str):
                raise ZooError(f"two encoders are called {name!r}; expected a dictionary with a name for each")
            chosen.setdefault(name, candidate(member))
    return list(chosen.values())


def checked_digest(unchecked: Candidate) -> str:
    """Return the digest of an encoder's settings and source.

    Raises:
        ZooError: the encoder cannot be made, or its settings are no plain data.
    """
    with named(unchecked.name, "cannot be used"):
        encoder = unchecked.fresh()
        if not isinstance(encoder.config, dict):
            raise ZooError(
                f"encoder {unchecked.name!r}: config is {encoder.config!r}; expected a dictionary of plain data"
            )
        source = getattr(encoder, "source", type(encoder))
        if is_interactive(source):
            return interactive_digest(unchecked.name, encoder.config, source)
        return encoder_digest(unchecked.name, encoder)


def list_encoders() -> dict[str, tuple[str, ...]]:
    """Return the encoders that come with the package: name -> the groups that they belong to.

    >>> import zoo_bench
    >>> zoo_bench.list_encoders()["pca"]
    ('default', 'small')
    """
    return {name: tuple(group for group, members in GROUPS.items() if name in members) for name in ENCODERS}


def _name_of(encoder: AnyEncoder) -> str:
    if isinstance(encoder, str):
        return encoder
    kind = encoder if isinstance(encoder, type) else type(encoder)
    return kind.__qualname__ if kind.__module__ == "__main__" else f"{kind.__module__}:{kind.__qualname__}"
