"""The architectures of a mixed zoo as an axis of its manifest.

It is there even where the file does not say it, so that whoever asks for the axes need not know of mixed zoos.
"""

from collections.abc import Mapping
from typing import Any

from zoo_gen.architecture.mixed import ALL, Mixed
from zoo_gen.manifest.axes import Axes

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


def _is_mixed(architecture: Any) -> bool:
    return isinstance(architecture, Mapping) and architecture.get("name") == "mixed"


def without_axis(axes: Axes) -> Axes:
    """Return axes that say nothing of architectures."""
    random = axes.random
    if random is not None:
        random = random.model_copy(update={"draw": _others(random.draw)})
    return axes.model_copy(update={"product": _others(axes.product), "zip": _others(axes.zip), "random": random})


def _others(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name != AXIS}
