"""The architectures of a mixed zoo as an axis of its manifest, and the manifest of an ordinary zoo of each of them.

Whatever trains or counts a mixed zoo does it for these ordinary manifests, one after the other.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo_gen.architecture.mixed import ALL, Mixed
from zoo_gen.errors import unknown_name
from zoo_gen.manifest.axes import Axes

if TYPE_CHECKING:
    from zoo_gen.manifest.manifest import ZooManifest

AXIS = "architecture"  # the hyper-parameter, whose values are the names of architectures


def with_axis(document: Any) -> Any:
    """Return a manifest as plain data whose axes name the architectures of a mixed zoo.

    "all" stands for all of them, and where no axis says anything of architectures, every model is there in each.
    """
    if not isinstance(document, Mapping):
        return document
    architecture, axes = document.get("architecture"), document.get("axes")
    if isinstance(axes, Axes):
        axes = axes.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    if not isinstance(axes, Mapping) or not (isinstance(architecture, Mixed) or _is_mixed(architecture)):
        return document
    try:
        names = Mixed.model_validate(architecture).names
    except ValueError:
        return document  # what is wrong the manifest's own check says, with its place
    tables = {key: dict(value) if isinstance(value, Mapping) else value for key, value in axes.items()}
    random = tables.get("random")
    draws = dict(random["draw"]) if isinstance(random, dict) and isinstance(random.get("draw"), Mapping) else {}
    product, rows = tables.setdefault("product", {}), tables.get("zip", {})
    if not isinstance(product, dict) or not isinstance(rows, dict):
        return document
    if not any(AXIS in table for table in (product, rows, draws)):
        tables["product"] = {AXIS: names, **product}
    for table in (product, rows):
        if table.get(AXIS) == ALL:
            table[AXIS] = names
    if draws.get(AXIS) == {"choice": ALL}:
        tables["random"] = {**tables["random"], "draw": {**draws, AXIS: {"choice": names}}}
    return {**document, "axes": tables}


def check(manifest: "ZooManifest") -> None:
    """Refuse architectures that do not fit the data, and an axis of architectures that names others.

    Raises:
        ValueError: one does; the message begins with its place.
    """
    try:
        known = manifest.architectures
    except ValueError as error:
        raise ValueError(f"architecture.{error}") from None
    for name in manifest.values(AXIS) if manifest.ragged else ():
        if name not in known:
            raise ValueError(f"{manifest.place(AXIS)}: {unknown_name('architecture', str(name), known)}")
    try:
        _ = manifest.networks
    except ValueError as error:
        raise ValueError(f"architecture.{error}") from None


def _is_mixed(architecture: Any) -> bool:
    return isinstance(architecture, Mapping) and architecture.get("name") == "mixed"


def of_architecture(manifest: "ZooManifest", name: str) -> "ZooManifest":
    """Return the manifest of an ordinary zoo of one architecture of a zoo; its axes say no more of architectures.

    Args:
        manifest: of the zoo; that of an ordinary zoo is returned as it is.
        name: of the architecture.
    """
    if not manifest.ragged:
        return manifest
    axes = manifest.axes
    random = axes.random
    if random is not None:
        random = random.model_copy(update={"draw": _others(random.draw)})
    others = axes.model_copy(update={"product": _others(axes.product), "zip": _others(axes.zip), "random": random})
    return manifest.model_copy(update={"architecture": manifest.architectures[name], "axes": others})


def _others(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name != AXIS}


def sizes(manifest: "ZooManifest") -> np.ndarray:
    """Return the number of parameters of each model of a mixed zoo, int64 (model,)."""
    names = manifest.rows(slice(0, manifest.n_models))[AXIS].to_pylist()
    of_each = {name: network.layout.size for name, network in manifest.networks.items()}
    return np.array([of_each[name] for name in names], dtype=np.int64)
