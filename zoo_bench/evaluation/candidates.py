"""Candidates: the encoders to evaluate, chosen by names, groups, classes or objects, and checked before anything runs.

The module of an encoder of somebody else is imported in a process of its own: what it does there stays there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo_bench.encoders import ENCODERS, GROUPS, encoder_names, make_encoder
from zoo_bench.encoders.settings import split_name
from zoo_bench.evaluation.candidate import AnyEncoder, Candidate, described, name_of
from zoo_bench.results import result_path
from zoo_gen.errors import ZooError

_LONGEST_NAME = 200  # of a folder of results; file systems take 255 bytes, and tables of tunings add some


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
        ZooError: as `candidate`; there is none; or two encoders have one name, or names that cannot be stored apart.
    """
    if isinstance(encoders, Mapping):
        check_chosen(list(encoders), list(encoders), protocol=protocol)
        _check_names(list(encoders))
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
    check_chosen(list(chosen), several, protocol=protocol)
    return list(chosen.values())


def check_chosen(names: Sequence[str], chosen: Sequence[Any], *, protocol: str) -> None:
    """Refuse that no encoder is evaluated: none was given, or the groups that were have none for the benchmark."""
    if not chosen:
        raise ZooError("no encoder is given; expected one or several")
    if not names:
        groups = ", ".join(chosen)
        raise ZooError(f"no encoder of {groups} suits the protocol {protocol} and its targets; expected others: small")


def _check_names(names: Sequence[Any]) -> None:
    """Refuse names under which no results can be stored, each in a folder of its own."""
    folders: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str) or not name.isprintable() or not name.strip(". "):
            raise ZooError(f"an encoder is called {name!r}; expected a name of letters, digits and signs")
        folder = result_path(Path(), benchmark="", encoder=name, seed=0).parent.name
        if len(folder) > _LONGEST_NAME:
            raise ZooError(f"an encoder's name has {len(folder)} letters; expected {_LONGEST_NAME} at most: {name}")
        if folder in folders:
            raise ZooError(f"the encoders {folders[folder]!r} and {name!r} would share the folder {folder}; rename one")
        folders[folder] = name


def list_encoders() -> dict[str, tuple[str, ...]]:
    """Return the encoders that come with the package: name -> the groups that they belong to.

    >>> import zoo_bench
    >>> zoo_bench.list_encoders()["pca"]
    ('default', 'small')
    """
    return {name: tuple(group for group, members in GROUPS.items() if name in members) for name in ENCODERS}
