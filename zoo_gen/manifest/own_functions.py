"""Losses, optimisers and schedules of the user's own: the digests of their sources, which a manifest keeps.

They are looked up where a manifest has none, so that a zoo is opened without their code. A reference names one of them,
"package.module:name", wherever a manifest names a loss, an optimiser or a schedule; plain dictionaries may hold the
function or class itself.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from zoo_gen.architecture import own_module
from zoo_gen.architecture.source_code import source_sha256
from zoo_gen.manifest.hyperparameters import OWN, is_own


def look_up(document: Any) -> Any:
    """Return a manifest as plain data with the digests of the functions and classes that it names.

    Raises:
        ZooError: one of them cannot be imported, or its source cannot be read.
    """
    if not isinstance(document, Mapping):
        return document
    document = _with_references(document)
    references = [value for name in OWN for value in _values(document, name) if is_own(value)]
    training = document.get("training")
    if not references or not isinstance(training, Mapping):
        return document
    known = training.get("source_sha256", {})
    if not isinstance(known, Mapping):
        return document
    digests = {each: source_sha256(own_module.resolve(each)) for each in references if each not in known}
    return {**document, "training": {**training, "source_sha256": {**known, **digests}}}


def functions_in(document: Mapping[str, Any]) -> list[Callable[..., Any]]:
    """Return the functions and classes that stand as objects in a manifest as plain data, not by reference."""
    return [value for name in OWN for value in _values(document, name) if callable(value)]


def _with_references(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a manifest whose functions and classes are named."""
    if not functions_in(document):
        return document

    def named(content: Any, what: str = "") -> Any:
        if callable(content) and what:
            return own_module.give(content, what=what)
        if isinstance(content, Mapping):
            return {key: named(value, key if key in OWN else what) for key, value in content.items()}
        if isinstance(content, list | tuple):
            return [named(value, what) for value in content]
        return content

    return {key: named(value) if key in ("training", "axes") else value for key, value in document.items()}


def _values(document: Mapping[str, Any], name: str) -> Iterator[Any]:
    """Yield all that a manifest says of a hyper-parameter, right or wrong."""
    axes = _table(document, "axes")
    yield _table(document, "training").get(name)
    for values in (
        _table(axes, "product").get(name),
        _table(axes, "zip").get(name),
        _table(_table(_table(axes, "random"), "draw"), name).get("choice"),
    ):
        yield from values if isinstance(values, list | tuple) else ()


def _table(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = content.get(name)
    return value if isinstance(value, Mapping) else {}
