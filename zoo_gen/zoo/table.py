"""ModelTable: the table of models of a zoo, read from the Parquet parts of its complete shards when asked for.

One column, or the rows of one shard, are read alone: of a large zoo the whole table is most of what a reader holds.
"""

import hashlib
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zoo_gen.errors import ZooError
from zoo_gen.files import location
from zoo_gen.files.location import Folder, Remote
from zoo_gen.manifest import Split, converted, grid
from zoo_gen.manifest.converted import Manifest
from zoo_gen.store import Extent
from zoo_gen.store import shards as commit


class ModelTable:
    """The rows of a zoo's models: model_id, split, hyper-parameters, status, final metrics and sha256.

    Args:
        path: the zoo's folder.
        manifest: its manifest.
        extent: how it is cut into shards.
    """

    def __init__(self, path: Folder, manifest: Manifest, extent: Extent) -> None:
        self._path, self._manifest, self._extent = path, manifest, extent
        self._kept: tuple[int, pa.Table] = (-1, pa.table({}))  # the part that was read alone last

    @cached_property
    def whole(self) -> pa.Table:
        """All rows and columns.

        Raises:
            ZooError: a Parquet part cannot be read.
        """
        return self._read()

    @property
    def _is_read(self) -> bool:
        return "whole" in self.__dict__

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column; on disk no other is read, unless the whole table was.

        Raises:
            ZooError: there is no such column, or a Parquet part cannot be read.
        """
        table = self.whole if self._is_read or isinstance(self._path, Remote) else self._read(only=name)
        if name not in table.column_names:
            raise ZooError(f"{self._path}: its table of models has no column {name!r}")
        return table[name]

    def row(self, model: int) -> int:
        """Return the row of a model in the whole table.

        Raises:
            ZooError: the model is not there.
        """
        if model not in self._row_of_model:
            total = self._extent.n_models
            state = "is not complete yet" if 0 <= model < total else f"does not exist; the zoo has 0 to {total - 1}"
            raise ZooError(f"{self._manifest.name}: model {model} {state}")
        return self._row_of_model[model]

    @cached_property
    def _row_of_model(self) -> dict[int, int]:
        return {model_id: row for row, model_id in enumerate(self.whole["model_id"].to_pylist())}

    def rows(self, models: slice) -> pa.Table:
        """Return the rows of neighbouring models of one shard; only its part of the table is read.

        Raises:
            ZooError: they are not there, or their Parquet part cannot be read.
        """
        shard = models.start // self._extent.models_per_shard
        if self._is_read or not 0 <= models.start < self._extent.n_models:
            return self.whole.slice(self.row(models.start), models.stop - models.start)
        if self._kept[0] != shard:
            path = commit.part_path(self._path, shard)
            if not path.exists():
                raise ZooError(f"{self._manifest.name}: model {models.start} is not complete yet")
            self._kept = (shard, self._part(shard, path.read_bytes()))
        start = models.start - self._extent.models(shard).start
        return self._kept[1].slice(start, models.stop - models.start)

    @cached_property
    def revision(self) -> str:
        """SHA-256 of the models' own digests, one after the other; empty where no model is there."""
        if not commit.complete_shards(self._path):
            return ""
        found = hashlib.sha256()
        for part in self.column("sha256").chunks:
            found.update("".join(part.to_pylist()).encode())
        return found.hexdigest()

    def with_split(self, split: Split) -> "ModelTable":
        """Return this table under another split by model, drawn as a manifest's is.

        Raises:
            ZooError: seeds are to stay together, and there is no column of them.
        """
        names = [name for name in dict.fromkeys((*self._manifest.varying, "seed")) if name in self.whole.column_names]
        if split.group_by == "seed" and "seed" not in names:
            raise ZooError(
                f'{self._manifest.name}: has no column \'seed\'; expected group_by = "configuration" or "model"'
            )
        columns = {name: self.whole[name].to_numpy(zero_copy_only=False) for name in names}
        drawn = grid.parts(split, columns, len(self.whole))
        other = ModelTable(self._path, self._manifest, self._extent)
        other.whole = self.whole.set_column(self.whole.column_names.index("split"), "split", drawn)
        return other

    def _read(self, *, only: str | None = None) -> pa.Table:
        """Read all Parquet parts, or one column of them beside model_id."""
        shards = commit.complete_shards(self._path)
        contents = location.read_all([commit.part_path(self._path, shard) for shard in shards])
        try:
            parts = [self._part(shard, content, only=only) for shard, content in zip(shards, contents, strict=True)]
        except OSError as error:
            raise ZooError(f"{error.filename}: cannot be read as a Parquet part ({error.strerror})") from None
        if not parts:
            if isinstance(self._manifest, converted.ConvertedManifest):
                return converted.no_models()
            return grid.table_of_models(self._manifest).slice(0, 0)
        for shard, part in zip(shards, parts, strict=True):
            if part.schema != parts[0].schema:
                raise ZooError(f"{commit.part_path(self._path, shard)}: has other columns than the first part")
        return pa.concat_tables(parts)

    def _part(self, shard: int, content: bytes, *, only: str | None = None) -> pa.Table:
        """Read the Parquet part of a shard, or one column beside its models; checked to hold its models."""
        path = commit.part_path(self._path, shard)
        columns = sorted({"model_id", only}) if only else None
        try:
            part = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read(columns)
            found = part["model_id"].to_numpy()
        except (OSError, KeyError, pa.ArrowException) as error:
            raise ZooError(f"{path}: cannot be read as a Parquet part ({error}); {commit.remedy(shard)}") from None
        models = self._extent.models(shard)
        if not len(found) or not np.array_equal(found, np.arange(models.start, models.stop)):
            raise ZooError(f"{path}: does not hold the models of shard {shard}; {commit.remedy(shard)}")
        return part.replace_schema_metadata()
