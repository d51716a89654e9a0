"""The files that not every zoo has: architectures of a mixed or converted one, published checkpoints, named splits."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zoo_gen.architecture.layers import layers_from_json, layers_to_json
from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.architecture.network import Network
from zoo_gen.errors import ZooError, unknown_name
from zoo_gen.files.location import Folder
from zoo_gen.manifest.converted import SplitFacts

ARCHITECTURES, STATES = "architectures.json", "states.parquet"


def split_path(name: str) -> str:
    """Return where a named split table lies in a zoo."""
    return f"splits/{name}.parquet"


def side_files(
    architectures: Sequence[Mapping[str, Any]], splits: Mapping[str, pa.Table], states: pa.Table | None
) -> dict[str, bytes]:
    """Return the files of a mixed or converted zoo, path -> content.

    Args:
        architectures: as plain data, in the order of their first model; see `Architecture`.
        splits: name -> model_id and part, in the published order.
        states: the checkpoints as published, a row each.
    """
    contents = {ARCHITECTURES: "".join(json.dumps(row) + "\n" for row in architectures).encode()}
    tables = {STATES: states, **{split_path(name): table for name, table in splits.items()}}
    for path, table in tables.items():
        if table is not None:
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink, write_page_checksum=True)
            contents[path] = sink.getvalue().to_pybytes()
    return contents


def architecture_row(name: str, network: Network) -> dict[str, Any]:
    """Return what a zoo that is trained here keeps of an architecture, as plain data."""
    layers = None if network.own_module is not None else layers_to_json(network.layers)
    input_shape = list(network.input_shape)
    content = {"layers": layers, "input_shape": input_shape, "layout": network.layout.to_json(), "sources": []}
    return {"id": name, **content}


@dataclass(frozen=True)
class Architecture:
    """One architecture of a mixed or converted zoo."""

    id: str
    layout: ParameterLayout
    network: Network | None  # None where the forward pass is not known
    # The tensors of the source vector of a converted zoo: name, start, shape, axes, parameter.
    sources: tuple[dict[str, Any], ...] = ()

    @property
    def permutation(self) -> np.ndarray:
        """The index (parameter,) that puts a source vector in the stored order."""
        index = np.zeros(self.layout.size, dtype=np.int64)
        targets = {parameter.name: parameter for parameter in self.layout.parameters}
        for row in self.sources:
            target = targets[row["parameter"]]
            numbers = np.arange(row["start"], row["start"] + int(np.prod(row["shape"], dtype=np.int64)))
            index[target.start : target.stop] = numbers.reshape(row["shape"]).transpose(row["axes"]).reshape(-1)
        return index


def read_architectures(folder: Folder) -> dict[str, Architecture]:
    """Return the architectures of a converted zoo by their id.

    Raises:
        ZooError: the file is missing or damaged.
    """
    path = folder / ARCHITECTURES
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {
            row["id"]: Architecture(
                row["id"],
                ParameterLayout.from_json(row["layout"]),
                None if row["layers"] is None else Network(layers_from_json(row["layers"]), tuple(row["input_shape"])),
                tuple(row["sources"]),
            )
            for row in rows
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ZooError(f"{path}: cannot be read as the architectures of a zoo ({error!r})") from None


def read_split(folder: Folder, splits: Mapping[str, SplitFacts], name: str) -> pa.Table:
    """Return a named split table (model_id, part), rows in the published order.

    Args:
        folder: the zoo.
        splits: what its manifest says of all of them.
        name: which.

    Raises:
        ZooError: there is none of that name, or it is damaged.
    """
    if name not in splits:
        raise ZooError(f"{folder}: {unknown_name('split table', name, splits)}")
    path = folder / split_path(name)
    try:
        table = pq.read_table(io.BytesIO(path.read_bytes()))
        sha256 = split_table_sha256(table)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise ZooError(f"{path}: cannot be read as a split table ({error})") from None
    if sha256 != splits[name].sha256:
        raise ZooError(f"{path}: is not the split that the zoo was converted with (digests differ)")
    return table


def read_states(folder: Folder) -> pa.Table:
    """Return the table of checkpoints as published.

    Raises:
        ZooError: there is none, or it is damaged.
    """
    path = folder / STATES
    if not path.exists():
        raise ZooError(f"{folder}: has no {STATES}; only zoos converted from a table of checkpoints have it")
    try:
        return pq.read_table(io.BytesIO(path.read_bytes()))
    except (OSError, pa.ArrowException) as error:
        raise ZooError(f"{path}: cannot be read as a table of checkpoints ({error})") from None


def split_table_sha256(table: pa.Table) -> str:
    """Return the SHA-256 (hex) of a split table: a line "model_id,part" a row, in its order."""
    columns = (table["model_id"].to_pylist(), table["part"].to_pylist())
    return text_sha256("".join(f"{m},{p}\n" for m, p in zip(*columns, strict=True)))


def text_sha256(text: str) -> str:
    """Return the SHA-256 (hex) of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def table_sha256(table: pa.Table) -> str:
    """Return the SHA-256 (hex) of the columns and cells of a table, floats by their exact values."""
    digest = hashlib.sha256(json.dumps([table.column_names, [str(kind) for kind in table.schema.types]]).encode())
    for start in range(0, len(table), 4096):
        for column in table.slice(start, 4096).columns:
            digest.update(repr(column.to_pylist()).encode())
    return digest.hexdigest()


def permutations_sha256(permutations: list[np.ndarray]) -> str:
    """Return the SHA-256 (hex) of the permutations of all architectures, in their order."""
    digest = hashlib.sha256()
    for index in permutations:
        digest.update(np.ascontiguousarray(index, dtype="<i8").tobytes())
    return digest.hexdigest()
