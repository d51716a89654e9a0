"""Candidates: the encoders to evaluate, chosen by names, groups, classes or objects, and checked before anything runs.

The module of an encoder of somebody else is imported in a process of its own: what it does there stays there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from zoo_bench.encoders import ENCODERS, GROUPS, encoder_names, make_encoder
from zoo_bench.encoders.settings import split_name
from zoo_bench.evaluation.candidate import AnyEncoder, Candidate, described, name_of
from zoo_gen.errors import ZooError


def candidate(encoder: AnyEncoder, *, name: str = "") -> Candidate:
    """Return an encoder as a candidate, made once to see that it can be.

    Args:
        encoder: a name as `make_encoder` takes it, a class that is called without arguments, or an object.
        name: under which results are stored; if none is given, the name itself, or package.module:Class.

    Raises:
        ZooError: the encoder cannot be made, or its settings are no plain data.
    """
    from zoo_bench.evaluation.processes.client import EncoderProcess  # which needs what `zoo-bench list` does not

    unchecked = Candidate.of(encoder, name=name)
    if not isinstance(encoder, str) or split_name(encoder)[0] in ENCODERS:
        return described(unchecked)
    if ":" not in encoder:
        make_encoder(encoder)  # says which names there are
    with EncoderProcess(unchecked) as process:
        return replace(unchecked, **process.describe())


def candidates(
    encoders: AnyEncoder | Sequence[AnyEncoder] | Mapping[str, AnyEncoder],
    *,
    protocol: str = "",
    targets: Sequence[str] = (),
) -> list[Candidate]:
    """Return one or several encoders as candidates, each once; names of groups stand for their members.

    Args:
        encoders: one, several, or a mapping from the names under which results are stored.
        protocol: of the benchmark, whose encoders alone are taken from groups.
        targets: of the benchmark, likewise.

    Raises:
        ZooError: as `candidate`, or two encoders have one name.
    """
    if isinstance(encoders, Mapping):
        return [candidate(encoder, name=name) for name, encoder in encoders.items()]
    several: list[Any] = list(encoders) if isinstance(encoders, list | tuple) else [encoders]
    chosen: dict[str, Candidate] = {}
    for encoder in several:
        is_name = isinstance(encoder, str)
        for member in encoder_names([encoder], protocol=protocol, targets=targets) if is_name else [encoder]:
            name = name_of(member)
            if name in chosen and chosen[name].encoder is not member and not isinstance(member, str):
                raise ZooError(f"two encoders are called {name!r}; expected a dictionary with a name for each")
            chosen.setdefault(name, candidate(member))
    return list(chosen.values())


def list_encoders() -> dict[str, tuple[str, ...]]:
    """Return the encoders that come with the package: name -> the groups that they belong to.

    >>> import zoo_bench
    >>> zoo_bench.list_encoders()["pca"]
    ('default', 'small')
    """
    return {name: tuple(group for group, members in GROUPS.items() if name in members) for name in ENCODERS}
