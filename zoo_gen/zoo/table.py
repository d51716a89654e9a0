"""ModelTable: the table of models of a zoo, read from the Parquet parts of its complete shards when asked for.

Some columns, or the rows of one shard, are read alone: of a large zoo the whole table is most of what a reader holds.
"""

import hashlib
from functools import cached_property
from numbers import Integral

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zoo_gen.errors import ZooError, shown
from zoo_gen.files import git_lfs, location
from zoo_gen.files.remote import Remote
from zoo_gen.manifest import Split, StoredSplit
from zoo_gen.manifest.split import parts
from zoo_gen.store import Store, side_files
from zoo_gen.store.shards import remedy


def model_numbers(models: object, *, where: str) -> np.ndarray:
    """Return the numbers of models as int64 (model,); `where` begins the error.

    Raises:
        ZooError: they are no list of whole numbers; a mask would silently stand for models 0 and 1.
    """
    numbers = np.asarray(models)
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise ZooError(
            f"{where}: got models as {numbers.dtype} of shape {list(numbers.shape)}; expected a list of their numbers, "
            "such as numpy.flatnonzero(mask)"
        )
    return numbers.astype(np.int64)


def model_number(model: object, *, where: str) -> int:
    """Return the number of one model; `where` begins the error.

    Raises:
        ZooError: it is no whole number.
    """
    if not isinstance(model, Integral):
        raise ZooError(f"{where}: got {shown(model)} in place of a model; expected its number")
    return int(model)


class ModelTable:
    """The rows of a zoo's models: model_id, split, hyper-parameters, status, final metrics and sha256."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last_part: tuple[int, pa.Table] = (-1, pa.table({}))  # the part that was read alone last
        self._columns = pa.table({})  # the columns that were loaded together

    @cached_property
    def shards(self) -> list[int]:
        """The shards that were complete when the table was first asked for."""
        return self._store.complete_shards()

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

    @property
    def _reads_all(self) -> bool:
        """Whether a column is taken from the whole table: a part at a URL is one request, whatever is read of it."""
        return self._is_read or isinstance(self._store.folder, Remote)

    def load(self, names: list[str]) -> None:
        """Read some columns in one pass over the parts and keep them, so that no later question reads them again.

        Raises:
            ZooError: a Parquet part cannot be read.
        """
        if not self._reads_all:
            self._columns = self._read(names)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column; on disk no other is read, unless the whole table was.

        Raises:
            ZooError: there is no such column, or a Parquet part cannot be read.
        """
        if self._reads_all:
            table = self.whole
        else:
            table = self._columns if name in self._columns.column_names else self._read([name])
        if name not in table.column_names:
            raise ZooError(f"{self._store.folder}: its table of models has no column {name!r}")
        return table[name]

    def row(self, model: int) -> int:
        """Return the row of a model in the whole table.

        Raises:
            ZooError: the model is not there.
        """
        if model not in self._row_of_model:
            total = self._store.extent.n_models
            state = "is not complete yet" if 0 <= model < total else f"does not exist; the zoo has 0 to {total - 1}"
            raise ZooError(f"{self._store.manifest.name}: model {model} {state}")
        return self._row_of_model[model]

    @cached_property
    def _row_of_model(self) -> dict[int, int]:
        return {model: row for row, model in enumerate(self.whole["model_id"].to_pylist())}

    def rows(self, models: slice) -> pa.Table:
        """Return the rows of neighbouring models of one shard; of that shard alone, unless the whole table was read.

        Raises:
            ZooError: they are not there, or their Parquet part cannot be read.
        """
        extent = self._store.extent
        shard = models.start // extent.models_per_shard
        if self._is_read or not 0 <= models.start < extent.n_models:
            return self.whole.slice(self.row(models.start), models.stop - models.start)
        if self._last_part[0] != shard:
            path = self._store.part_path(shard)
            if not path.exists():
                raise ZooError(f"{self._store.manifest.name}: model {models.start} is not complete yet")
            self._last_part = (shard, self._part(shard, path.read_bytes()))
        start = models.start - extent.models(shard).start
        return self._last_part[1].slice(start, models.stop - models.start)

    @cached_property
    def revision(self) -> str:
        """SHA-256 of the models' own digests, one after the other; empty where no model is there."""
        if not self.shards:
            return ""
        digest = hashlib.sha256()
        for part in self.column("sha256").chunks:
            digest.update("".join(part.to_pylist()).encode())
        return digest.hexdigest()

    def with_split(self, split: Split | StoredSplit) -> "ModelTable":
        """Return this table under another split by model: a table of the zoo, or one drawn as a manifest's is.

        Raises:
            ZooError: seeds are to stay together, and there is no column of them; there is no such split table.
        """
        other = ModelTable(self._store)
        chosen = self._stored(split) if isinstance(split, StoredSplit) else self._drawn(split)
        other.whole = self.whole.set_column(self.whole.column_names.index("split"), "split", chosen)
        return other

    def _stored(self, split: StoredSplit) -> pa.Array:
        """Return the part (model,) of each model in a split table of the zoo; null where the table leaves it out."""
        splits = self._store.manifest.splits
        table = side_files.read_split(self._store.folder, splits, split.name_among(splits))
        part_of = dict(zip(table["model_id"].to_pylist(), table["part"].to_pylist(), strict=True))
        return pa.array([part_of.get(model) for model in self.whole["model_id"].to_pylist()], pa.string())

    def _drawn(self, split: Split) -> pa.Array:
        """Return the part (model,) of each model under a split that is drawn."""
        manifest = self._store.manifest
        asked = dict.fromkeys((*manifest.varying, "seed", "image"))
        names = [name for name in asked if name in self.whole.column_names]
        needed = "image" if split.by_image_part else split.group_by
        if needed in ("seed", "image") and needed not in self.whole.column_names:
            raise ZooError(f'{manifest.name}: has no column {needed!r}; expected group_by = "configuration" or "model"')
        columns = {name: self.whole[name].to_numpy(zero_copy_only=False) for name in names}
        image_parts = () if manifest.data is None else manifest.data.fitted_images
        return parts(split, columns, len(self.whole), image_parts=image_parts)

    def _read(self, names: list[str] | None = None) -> pa.Table:
        """Read all Parquet parts, or some columns of them beside model_id."""
        contents = location.read_all([self._store.part_path(shard) for shard in self.shards])
        try:
            tables = [self._part(shard, content, names) for shard, content in zip(self.shards, contents, strict=True)]
        except OSError as error:
            raise ZooError(f"{error.filename}: cannot be read as a Parquet part ({error.strerror})") from None
        if not tables:
            columns = ["model_id", "split", *self._store.manifest.varying, "status", "sha256"]
            kinds = {"model_id": pa.int64(), "split": pa.string(), "status": pa.string(), "sha256": pa.string()}
            return pa.schema([(name, kinds.get(name, pa.null())) for name in columns]).empty_table()
        for shard, table in zip(self.shards, tables, strict=True):
            if table.schema != tables[0].schema:
                raise ZooError(f"{self._store.part_path(shard)}: has other columns than the first part")
        return pa.concat_tables(tables)

    def _part(self, shard: int, content: bytes, names: list[str] | None = None) -> pa.Table:
        """Read the Parquet part of a shard, or some columns beside its models; checked to hold its models."""
        path = self._store.part_path(shard)
        git_lfs.check(content, where=path)
        columns = sorted({"model_id", *names}) if names is not None else None
        try:
            part = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read(columns)
            ids = part["model_id"].to_numpy()
        except (OSError, KeyError, pa.ArrowException) as error:
            raise ZooError(f"{path}: cannot be read as a Parquet part ({error}); {remedy(shard)}") from None
        models = self._store.extent.models(shard)
        if not len(ids) or not np.array_equal(ids, np.arange(models.start, models.stop)):
            raise ZooError(f"{path}: does not hold the models of shard {shard}; {remedy(shard)}")
        return part.replace_schema_metadata()
