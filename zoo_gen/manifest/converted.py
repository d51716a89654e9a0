"""ConvertedManifest: what a zoo says of itself that was not trained here but converted from a published archive.

It takes the place of a ZooManifest. Where that one derives the table of models from axes, this one names what the
archive had and holds digests of it, so that the manifest's own digest still names the whole zoo.
"""

import hashlib
import io
import json
import tomllib
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, Strict

from zoo_gen.architecture.layers import Layer, layers_from_json
from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.errors import ZooError, unknown_name
from zoo_gen.files import schema
from zoo_gen.files.location import Folder
from zoo_gen.files.schema import Count, Schema
from zoo_gen.image_data import DataSource
from zoo_gen.manifest import ZooManifest

ARCHITECTURES, STATES, SPLITS = "architectures.json", "states.parquet", "splits"
Whole = Annotated[int, Strict(), Field(ge=0)]


class Named(Schema):
    """The architecture by its name: one of our registry, or what the publication calls it."""

    name: str


class SplitFacts(Schema):
    """A named split table: its digest, the number of models of each part, and the procedure that made it."""

    sha256: str
    train: Whole
    validation: Whole
    test: Whole
    how: str = ""


class Origin(Schema):
    """Where a converted zoo came from: the archive, which part of it was taken, and who published it."""

    archive: str
    members: Count
    listing_sha256: str  # of the names and sizes of all its members
    table_sha256: str  # of the table of models as it was read
    models: str = "all"
    epochs: str = "all"
    provenance: dict[str, str] = Field(default_factory=dict)


class ConvertedManifest(Schema):
    """Everything that names a converted zoo."""

    kind: Literal["converted"]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=100)
    description: str = ""
    format: str
    architecture: Named
    models: Count
    parameters: Count  # of a model; of the largest where models differ
    architectures: Count = 1
    permutation_sha256: str  # of how the source's order became ours, over all architectures
    epochs: tuple[int, ...]
    epoch_means: str = "epoch"
    metrics: tuple[str, ...]
    varying: tuple[str, ...] = ()
    classes: Count | None = None
    data: DataSource | None = None
    recomputable: bool = True  # whether weights and test images alone give the metrics again
    default_split: str | None = None
    splits: dict[str, SplitFacts] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    origin: Origin

    @property
    def ragged(self) -> bool:
        """Whether models differ in architecture, so that weights are stored one after the other."""
        return self.architectures > 1

    @property
    def n_classes(self) -> int | None:
        """The number of classes, where there are classes and it is known."""
        return self.classes

    @property
    def data_name(self) -> str:
        """What the models were trained on."""
        return "unknown" if self.data is None else str(getattr(self.data, "dataset", self.data.source))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything but the description and the provenance."""
        content = self.model_copy(
            update={"description": "", "origin": self.origin.model_copy(update={"provenance": {}})}
        )
        return schema.digest(content, exclude={"description"})


Manifest = ZooManifest | ConvertedManifest


def read_any(path: Folder) -> Manifest:
    """Read the manifest of a zoo, generated or converted.

    Raises:
        ZooError: the file is missing or wrong; the message names the place.
    """
    text = schema.read_text(path)  # once: it may lie at a URL
    try:
        kind = tomllib.loads(text).get("kind")
    except (ValueError, RecursionError):
        kind = None  # the parser below says what is wrong
    if kind == "converted":
        return schema.parse_toml(text, ConvertedManifest, where=str(path))
    return schema.parse_toml(text, ZooManifest, where=str(path))


@dataclass(frozen=True)
class Architecture:
    """One architecture of a converted zoo."""

    id: str
    layout: ParameterLayout
    layers: tuple[Layer, ...] | None  # None where the forward pass is not known
    input_shape: tuple[int, ...] | None
    sources: tuple[dict[str, Any], ...]  # the tensors of the source vector: name, start, shape, axes, parameter


def read_architectures(folder: Folder) -> dict[str, Architecture]:
    """Return the architectures of a converted zoo by their id.

    Raises:
        ZooError: the file is missing or damaged.
    """
    path = folder / ARCHITECTURES
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return {
            row["id"]: Architecture(
                row["id"],
                ParameterLayout.from_json(row["layout"]),
                None if row["layers"] is None else layers_from_json(row["layers"]),
                None if row["input_shape"] is None else tuple(row["input_shape"]),
                tuple(row["sources"]),
            )
            for row in rows
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ZooError(f"{path}: cannot be read as the architectures of a zoo ({error!r})") from None


def split_table(folder: Folder, manifest: Manifest, name: str) -> pa.Table:
    """Return a named split table (model_id, part), rows in the published order.

    Raises:
        ZooError: there is none of that name, or it is damaged.
    """
    facts = manifest.splits if isinstance(manifest, ConvertedManifest) else {}
    if name not in facts:
        raise ZooError(f"{folder}: {unknown_name('split table', name, facts)}")
    path = folder / SPLITS / f"{name}.parquet"
    try:
        table = pq.read_table(io.BytesIO(path.read_bytes()))
        found = split_table_sha256(table)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise ZooError(f"{path}: cannot be read as a split table ({error})") from None
    if found != facts[name].sha256:
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


def no_models() -> pa.Table:
    """Return the table of a zoo of which no shard is complete yet."""
    columns = {"model_id": pa.int64(), "split": pa.string(), "status": pa.string(), "sha256": pa.string()}
    return pa.schema(columns.items()).empty_table()


def split_table_sha256(table: pa.Table) -> str:
    """Return the SHA-256 (hex) of a split table: a line "model_id,part" a row, in its order."""
    columns = (table["model_id"].to_pylist(), table["part"].to_pylist())
    return text_sha256("".join(f"{m},{p}\n" for m, p in zip(*columns, strict=True)))


def text_sha256(text: str) -> str:
    """Return the SHA-256 (hex) of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def table_sha256(table: pa.Table) -> str:
    """Return the SHA-256 (hex) of the columns and cells of a table, floats by their exact values."""
    found = hashlib.sha256(json.dumps([table.column_names, [str(kind) for kind in table.schema.types]]).encode())
    for start in range(0, len(table), 4096):
        for column in table.slice(start, 4096).columns:
            found.update(repr(column.to_pylist()).encode())
    return found.hexdigest()


def permutations_sha256(permutations: list[np.ndarray]) -> str:
    """Return the SHA-256 (hex) of the permutations of all architectures, in their order."""
    found = hashlib.sha256()
    for index in permutations:
        found.update(np.ascontiguousarray(index, dtype="<i8").tobytes())
    return found.hexdigest()
