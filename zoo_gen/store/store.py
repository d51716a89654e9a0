"""Store: an opened zoo, on disk or at a URL, that shards are written to and read from.

A shard is written as whole chunks of its own, then committed by its Parquet part, written last and renamed into
place. Nothing else decides what is complete, and workers need no lock because no two share a shard.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from zoo_gen.errors import ZooError, argument, unknown_name
from zoo_gen.files import atomic, git_lfs, location
from zoo_gen.files.location import Folder
from zoo_gen.files.remote import Remote
from zoo_gen.manifest import Manifest, read_any
from zoo_gen.manifest.difference import differences
from zoo_gen.store import arrays, create, create_remote, image_labels, places, shards
from zoo_gen.store.create import MANIFEST, SCHEMA, EmptyZoo
from zoo_gen.store.extent import Extent
from zoo_gen.store.lost_chunks import WithoutLostChunks, had_values
from zoo_gen.store.shards import Arrays
from zoo_gen.store.unfinished import begun_shards

# The attributes that readers need.
_NEEDED = ("manifest_digest", "layout", "checkpoint_epochs", "models_per_shard", "versions")
_MOST_KEYS = 4  # of two manifests that differ, in an error
_version = cache(version)  # which is looked up in files each time


@dataclass(frozen=True)
class Store:
    """An opened zoo: its folder, manifest and attributes are read once and handed on from here."""

    given: Folder  # its folder as the caller wrote it
    absolute: Folder
    manifest: Manifest
    attributes: Mapping[str, Any]  # what it says of itself: schema, layout, versions, ...

    @property
    def folder(self) -> Folder:
        """Its folder: as the caller wrote it, absolute once the process stands in another folder than then."""
        try:
            return self.given if self.given.absolute() == self.absolute else self.absolute
        except FileNotFoundError:  # the current folder is gone
            return self.absolute

    @classmethod
    def open(cls, folder: Folder, *, manifest: Manifest | None = None) -> "Store":
        """Open the zoo in a folder; `manifest` is its manifest, if it has been read already.

        Raises:
            ZooError: the folder holds no zoo that this version reads; the message says what was found.
        """
        attributes = _attributes(folder)
        manifest = manifest or read_any(folder / MANIFEST)
        if attributes["manifest_digest"] != manifest.digest:
            raise ZooError(f"{folder}: {MANIFEST} is not the manifest that made this store (digests differ)")
        return cls(folder, folder.absolute(), manifest, attributes)

    @classmethod
    def create(cls, folder: Folder, empty: EmptyZoo) -> "Store":
        """Make an empty zoo, or find it already there, begun or complete.

        Raises:
            ZooError: the folder holds something else, or another manifest's zoo; nothing in it is changed.
        """
        if isinstance(folder, Path):
            folder = folder.resolve()
        if not (folder / MANIFEST).exists():
            if isinstance(folder, Remote):
                create_remote.create(folder, empty)
            elif create.create(folder, empty):
                return cls(folder, folder, empty.manifest, empty.attributes)
        return cls._begun(folder, empty)

    @staticmethod
    def check_place(folder: Folder) -> None:
        """Refuse a folder in which `create` makes no zoo, whichever it is, before it is known which.

        Raises:
            ZooError: it holds something else, or nothing can be written there.
        """
        if isinstance(folder, Remote):
            create_remote.check_place(folder)
        elif not (folder / MANIFEST).exists():
            create.check_new(folder)

    @classmethod
    def begun(cls, folder: Folder, empty: EmptyZoo) -> "Store | None":
        """Return the zoo that is there already, begun or complete; None where `create` would make it.

        Raises:
            ZooError: as `create`.
        """
        if (folder / MANIFEST).exists():
            return cls._begun(folder, empty)
        if isinstance(folder, Remote):
            create_remote.check_new(folder, empty.files())
        else:
            create.check_new(folder)
        return None

    @classmethod
    def _begun(cls, folder: Folder, empty: EmptyZoo) -> "Store":
        manifest = read_any(folder / MANIFEST)
        if manifest.digest != empty.manifest.digest:
            digests = f"digest {manifest.digest[:12]}, expected {empty.manifest.digest[:12]}"
            if empty.manifest.origin is not None:
                raise ZooError(
                    f"{folder}: holds the zoo {manifest.name!r} of another archive, selection or version ({digests}); "
                    "choose another folder"
                )
            keys = ", ".join([one.key for one in differences(manifest, empty.manifest)][:_MOST_KEYS])
            raise ZooError(
                f"{folder}: holds the zoo {manifest.name!r} of another manifest ({digests}), which differs in {keys}; "
                f"choose another folder, or {argument('grow', True)} to keep the models that both have"
            )
        return cls.open(folder, manifest=manifest)

    @cached_property
    def extent(self) -> Extent:
        """How large the zoo is, and how it is cut into shards."""
        rows = self.attributes.get("row_elements")
        return Extent.of(
            self.manifest,
            models_per_shard=int(self.attributes["models_per_shard"]),
            row_elements=None if rows is None else int(rows),
        )

    @cached_property
    def _group(self) -> zarr.Group:
        return arrays.open_group(self.absolute)  # arrays that were handed out stay open when the process moves

    @cached_property
    def _group_of_readers(self) -> zarr.Group:
        return arrays.open_group(self.absolute, partial(WithoutLostChunks, check=self._check_chunk))

    @cached_property
    def _never_written(self) -> set[str]:
        """The paths of chunks of complete shards that hold NaN alone."""
        return set()

    def _check_chunk(self, path: str) -> None:
        """Refuse that a chunk which is not there is read as NaN, as those of shards that are not complete are.

        Raises:
            ZooError: its shard is complete, and it had values.
        """
        name, _, numbers = path.partition("/c/")
        index = tuple(map(int, numbers.split("/")))
        if name not in self.extent.arrays() or path in self._never_written:
            return
        try:
            part = pq.read_table(pa.BufferReader(self.part_path(index[0]).read_bytes()))
        except (OSError, pa.ArrowException):  # which reading the table says
            return
        if not had_values(self.extent, name, index, part):
            self._never_written.add(path)
        elif not (self.absolute / "weights.zarr" / path).exists():  # else it was written while we looked
            raise ZooError(f"{self.folder}/weights.zarr/{path}: is missing; {shards.remedy(index[0])}")

    def array(self, name: str, *, lost_as_nan: bool = False) -> zarr.Array:
        """Return an array for reading.

        Args:
            name: of the array.
            lost_as_nan: whether values whose file is lost are read as NaN, for those who compare with digests; else
                reading them raises a ZooError.

        Raises:
            ZooError: it is not there, is damaged, or is not an array.
        """
        try:
            array = (self._group if lost_as_nan else self._group_of_readers)[name]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, KeyError) and name not in self.extent.arrays():
                raise ZooError(f"{self.folder}: {unknown_name('array', name, self.extent.arrays())}") from None
            raise ZooError(f"{self.folder}/weights.zarr/{name}: cannot be read as a Zarr array ({error!r})") from None
        if not isinstance(array, zarr.Array):
            raise ZooError(f"{self.folder}/weights.zarr/{name}: is not an array")
        return array

    def complete_shards(self) -> list[int]:
        """Return the numbers of the shards whose Parquet part is there, in order; a part beyond the last is none."""
        return self.shards_on_disk()[0]

    def shards_on_disk(self) -> tuple[list[int], frozenset[int]]:
        """Return the numbers of the complete shards, in order, and of those whose training was saved half-way."""
        parts = map(shards.part_name, range(self.extent.n_shards))
        names = location.names(self.folder / "models", known=parts)
        complete = [shard for shard in shards.shards_of(names) if shard < self.extent.n_shards]
        return complete, begun_shards(names)

    def part_path(self, shard: int) -> Folder:
        """Return where the Parquet part of a shard is."""
        return self.folder / "models" / shards.part_name(shard)

    def is_complete(self, shard: int) -> bool:
        """Return whether the Parquet part of a shard is there."""
        return self.part_path(shard).exists()

    def uncommit(self, shard: int) -> None:
        """Remove the Parquet part of a shard: the next run makes the shard again."""
        self.part_path(shard).unlink(missing_ok=True)
        atomic.flush(self.folder / "models")

    def write_shard(
        self,
        shard: int,
        values: Arrays,
        *,
        rows: pa.Table | None = None,
        device: str | None = None,
        torch: str | None = None,
    ) -> None:
        """Write the arrays of one shard, then its Parquet part.

        Runs that are at the same shard at the same time write the same bytes, each file whole; nothing that another
        may have committed is removed.

        Args:
            shard: its number.
            values: name -> float32 (model, checkpoint, ...), for every array of `Extent.arrays`; ragged weights a list
                of (checkpoint, parameter).
            rows: what is known of its models beforehand, where the manifest does not determine it.
            device: the kind of device that trained them.
            torch: the version that trained them; the one that is installed, if not given.
        """
        models, part = self.extent.models(shard), self.part_path(shard)
        values = shards.with_one_nan(values)
        table = shards.part_table(self._known_rows(shard) if rows is None else rows, values)
        facts = {"schema": SCHEMA, "manifest_digest": self.manifest.digest}
        if device is not None:
            facts |= {"device": device, "torch": torch or _version("torch")}
        facts["pyarrow"] = _version("pyarrow")
        try:
            for name, array in values.items():
                selection: Any = models
                if name == "weights" and self.manifest.ragged:
                    array = np.concatenate([block.reshape(-1) for block in array])  # noqa: PLW2901
                    selection = (shard, slice(0, len(array)))
                path = self.folder / "weights.zarr" / name
                arrays.write(path, shard, selection, array)
                atomic.flush_below(path / "c" / str(shard))
                atomic.flush(path / "c")
            # Only now that the arrays would survive the power's loss may the part say so; else a complete shard could
            # lack its arrays. Everything of the shard costs about a dozen flushes.
            atomic.replace(part, shards.part_bytes(table, facts))
        except OSError as error:
            if not part.exists():  # else another run has committed the same bytes, and cleared away what we had begun
                error.filename = error.filename or str(self.folder)  # a full disk does not say where it is
                raise
        atomic.tidy_chunks(self.folder, str(shard))

    def rows(self, shard: int) -> pa.Table | None:
        """Return what is known of the models of a shard beforehand; of a converted zoo the archive alone knows it."""
        models, sizes = self.extent.models(shard), self.manifest.sizes
        rows = self.manifest.rows(models)
        if rows is None:
            return None
        rows = image_labels.with_classes(rows, self.attributes, where=f"{self.folder}/weights.zarr")
        if sizes is None:
            return rows
        return places.with_places(rows, sizes=sizes[models], n_checkpoints=self.extent.n_checkpoints)

    def _known_rows(self, shard: int) -> pa.Table:
        if (rows := self.rows(shard)) is None:
            raise ValueError("the rows of a converted zoo's models are known to its archive alone")
        return rows

    def read_shard(self, shard: int, rows: pa.Table) -> dict[str, Any]:
        """Return the arrays of a shard as they are on disk, NaN where they are lost; `rows` describe its models.

        Raises:
            ZooError: an array cannot be read.
        """
        models, values = self.extent.models(shard), dict[str, Any]()
        for name in self.extent.arrays():
            array = self.array(name, lost_as_nan=True)
            try:
                if name != "weights" or not self.manifest.ragged:
                    values[name] = np.asarray(array[models])
                    continue
                flat = np.asarray(array[shard])
            except (OSError, ValueError, RuntimeError) as error:
                raise ZooError(f"weights.zarr/{name}: cannot be read ({error})") from None
            sizes = [len(positions) for positions in rows["checkpoints"].to_pylist()]
            shapes = zip(rows["weights_start"].to_pylist(), sizes, rows["n_parameters"].to_pylist(), strict=True)
            values[name] = [flat[start : start + n * width].reshape(n, width) for start, n, width in shapes]
        return values


def _check_no_pointers(folder: Path) -> None:
    """Refuse a zoo that was cloned without Git LFS, by its metadata, its first part and its first chunk."""
    git_lfs.check_file(folder / MANIFEST)
    git_lfs.check_file(folder / "weights.zarr" / "zarr.json")
    git_lfs.check_file(folder / "models" / shards.part_name(0))
    for path in (folder / "weights.zarr" / "weights" / "c" / "0").rglob("*"):
        if path.is_file():
            git_lfs.check_file(path)
            break


def _attributes(folder: Folder) -> dict[str, Any]:
    # At a URL a folder is there with its first file.
    expected = (MANIFEST, "weights.zarr/zarr.json", *(["models"] if isinstance(folder, Path) else []))
    missing = [name for name in expected if not (folder / name).exists()]
    if missing:
        if not folder.is_dir():
            raise ZooError(f"{folder}: no such folder; expected a zoo")
        raise ZooError(f"{folder}: is not a zoo; it has no {missing[0]}")
    if isinstance(folder, Path):
        _check_no_pointers(folder)
    try:
        attributes = dict(arrays.open_group(folder).attrs)
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:  # as the file is damaged
        raise ZooError(f"{folder}/weights.zarr: cannot be read as a Zarr group ({error})") from None
    if attributes.get("schema") != SCHEMA:
        raise ZooError(f"{folder}: has schema {attributes.get('schema')!r}; this version reads schema {SCHEMA}")
    lacking = [name for name in _NEEDED if name not in attributes]
    if lacking:
        raise ZooError(
            f"{folder}/weights.zarr/zarr.json: has no attribute {lacking[0]!r}; expected {', '.join(_NEEDED)}"
        )
    return attributes
