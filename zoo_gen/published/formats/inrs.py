"""Implicit representations as published, a .pth a network: what DWSNets and NFN files have in common.

The two publications' networks have the same shapes and are different functions: DWSNets add 0.5 to the output, NFN do
not. Labels that were put into the state_dict beside the weights are taken out of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from zoo_gen.errors import ZooError
from zoo_gen.published.archives.archive import Archive
from zoo_gen.published.archives.pickles import Reader, array_of, is_tensor
from zoo_gen.published.formats import images, networks, states, tables
from zoo_gen.published.reading import Reading, Request
from zoo_gen.published.splits import SplitTable

BESIDE = ("label", "coef", "x", "y")  # what files hold beside weights
STATE = 1  # the one state of each network, after its fit


@dataclass(frozen=True)
class File:
    """One network: its member, and what its path says of it."""

    member: str
    run: str
    facts: dict[str, Any]


def read(
    archive: Archive,
    request: Request,
    files: Sequence[File],
    *,
    format: str,
    shift: float,
    splits: dict[str, SplitTable],
    notes: tuple[str, ...],
) -> Reading:
    """Return the networks of some files."""
    if not files:
        raise ZooError(f"{archive.path}: holds no networks in the layout of {format}")
    reader = Reader(scratch=request.scratch, format=format)
    stored = states.States(
        archive, request, partial(states.read_state, archive, reader, without=BESIDE, account=request.account)
    )
    architectures = states.Architectures()
    wiring_of_model = np.zeros(len(files), dtype=np.int64)
    rows: list[dict[str, Any]] = []
    for model, file in enumerate(files):
        where = archive.where(file.member)
        tree = reader.member(archive, file.member)
        shapes = stored.shapes(
            file.member, states.tensors_of(tree, where=where, without=BESIDE, account=request.account)
        )
        layers = networks.siren(shapes, shift=shift) or (None, None)
        key = states.signature(shapes)
        wiring_of_model[model] = architectures.number(key, partial(states.wiring_of, shapes, *layers))
        rows.append({**file.facts, **_beside(tree, where=where)})
    wirings = architectures.wirings

    columns = tables.columns_of(rows)
    dataset = images.dataset_of(request.data or archive.path.name)
    return Reading(
        name=archive.path.name.split(".")[0],
        wirings=tuple(wirings),
        wiring_of_model=wiring_of_model,
        models=pa.table({"run": pa.array([file.run for file in files]), **columns}),
        epochs=np.array([STATE], dtype=np.int32),
        present=np.ones((len(files), 1), dtype=bool),
        metrics={},
        read=lambda model, _: stored.vectors([files[model].member], wirings[wiring_of_model[model]]),
        splits=splits,
        varying=tuple(name for name in ("label",) if name in columns),
        data=images.of_fields(dataset),
        epoch_means="state",
        architecture="siren" if wirings[0].network else "unnamed",
        notes=notes,
    )


def _beside(tree: Any, *, where: str) -> dict[str, Any]:
    """Return the numbers that a file holds beside its weights, but for the points of the curve it was fitted to."""
    facts: dict[str, Any] = {}
    for key in ("label", "coef"):
        if not isinstance(tree, dict) or key not in tree:
            continue
        value = (
            array_of(tree[key], where=where).reshape(-1) if is_tensor(tree[key]) else np.array([tree[key]]).reshape(-1)
        )
        if key == "label":
            facts["label"] = int(value[0]) if value.size == 1 else str(value.tolist())
        else:
            facts |= {f"coef_{index}": float(number) for index, number in enumerate(value)}
    return facts
