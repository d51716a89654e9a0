"""Manifests made from rows of the table of models: several zoos as one, or some models of one as a zoo of their own.

The axes of the manifests that the rows come from are kept where they give exactly these models, so that the zoo is the
one that somebody would have written at once; other sets of models are listed model by model, as rows of `zip`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from zoo_gen.errors import ZooError
from zoo_gen.manifest.axes import Axes
from zoo_gen.manifest.hyperparameters import HYPERPARAMETERS, OF_SCHEDULES, Value
from zoo_gen.manifest.manifest import ZooManifest
from zoo_gen.manifest.training import Training

Key = tuple[object, ...]


def keys_of(rows: pa.Table) -> list[Key]:
    """Return all that determines each model beside what its zoo shares: its hyper-parameters, a tuple a model.

    A table has no column where no model of its zoo uses a hyper-parameter, or all have the default.
    """
    schedules = rows["schedule"].to_pylist()
    columns = []
    for name in HYPERPARAMETERS:
        users = OF_SCHEDULES.get(name)
        default = None if users else Training.model_fields[name].default
        values = rows[name].to_pylist() if name in rows.column_names else [default] * len(rows)
        if users:
            values = [value if schedule in users else None for value, schedule in zip(values, schedules, strict=True)]
        columns.append(values)
    return list(zip(*columns, strict=True))


def with_models(manifests: Sequence[ZooManifest], rows: pa.Table, *, name: str) -> ZooManifest:
    """Return the manifest of a zoo of some models.

    Args:
        manifests: of the zoos that the models are from; they differ in name, description, axes, storage and the
            hyper-parameters of their [training] at most. What is no axis is taken from the first.
        rows: of the models, as `ZooManifest.rows` gives them, each once.
        name: of the new zoo.

    Raises:
        ZooError: the name is not valid, or there are no models.
    """
    keys = keys_of(rows)
    if not keys:
        raise ZooError(f"{name}: would have no models; expected at least one")
    for axes in _candidates(manifests, rows):
        candidate = _with_axes(manifests[0], axes, rows, name=name)
        # Counted first: the product of many values may be huge, and its table is not wanted then.
        if candidate.n_models == len(keys) and set(keys_of(candidate.rows(slice(0, len(keys))))) == set(keys):
            return candidate
    listed = {column: rows[column].to_pylist() for column in _varying(manifests, rows)}
    return _with_axes(manifests[0], {"zip": listed}, rows, name=name)


def _candidates(manifests: Sequence[ZooManifest], rows: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield axes that may give exactly these models: those of one of the manifests, then products of all values."""
    plain = [_plain(manifest.axes) for manifest in manifests]
    yield from plain
    first, *others = plain
    beside = {key: value for key, value in first.items() if key != "product"}  # zip and random, equal in all
    if all({key: value for key, value in other.items() if key != "product"} == beside for other in others):
        inside = [*beside.get("zip", {}), *beside.get("random", {}).get("draw", {})]
        names = [each for each in _varying(manifests, rows) if each not in inside]
        if all(manifest.values(each) for manifest in manifests for each in names):
            yield {**beside, "product": {each: _values(manifests, rows, each) for each in names}}


def _varying(manifests: Sequence[ZooManifest], rows: pa.Table) -> list[str]:
    """Return the hyper-parameters that are an axis, or differ; those that are constants of each manifest come first."""
    axes = list(dict.fromkeys(name for manifest in manifests for name in manifest.axes.names))
    constants = [
        name
        for name in rows.column_names
        if name in HYPERPARAMETERS and name not in axes and len(rows[name].unique()) > 1 and _is_given(manifests, name)
    ]
    return [*constants, *axes]


def _is_given(manifests: Sequence[ZooManifest], name: str) -> bool:
    """Say whether a manifest names a hyper-parameter; the momentum of an optimiser has a default for each."""
    return any(manifest.values(name) for manifest in manifests)


def _values(manifests: Sequence[ZooManifest], rows: pa.Table, name: str) -> list[Value]:
    """Return the values of an axis among some models: as the manifests order them, and where all rise, rising."""
    present = set(rows[name].to_pylist())
    lists = [list(manifest.values(name)) for manifest in manifests]
    values = [value for value in dict.fromkeys(value for each in lists for value in each) if value in present]
    rise = all(not isinstance(value, str) for value in values) and all(each == sorted(each) for each in lists)
    return sorted(values) if rise else values


def _plain(axes: Axes) -> dict[str, Any]:
    return axes.model_dump(mode="json", exclude_unset=True, exclude_none=True)


def _with_axes(manifest: ZooManifest, axes: Mapping[str, Any], rows: pa.Table, *, name: str) -> ZooManifest:
    """Return a manifest with other axes and another name; what was an axis and is none any more is a constant."""
    content = manifest.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    for part in ("data", "architecture"):  # with their defaults, which tell apart what they may hold
        content[part] = getattr(manifest, part).model_dump(mode="json", exclude_none=True)
    names = Axes.model_validate(axes).names
    training = {key: value for key, value in content["training"].items() if key not in names}
    training |= {key: rows[key][0].as_py() for key in manifest.axes.names if key not in names}
    return ZooManifest.model_validate({**content, "training": training, "name": name, "axes": axes})
