"""What training adds to a zoo: write a shard, commit it by its Parquet part, know which are complete.

A shard is written as whole chunks of its own, then committed by its Parquet part, written last and renamed into
place. Nothing else decides what is done, and workers need no lock because no two share a shard.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from zoo_gen.files import atomic, location
from zoo_gen.files.location import Folder
from zoo_gen.manifest import ZooManifest, grid
from zoo_gen.store import SCHEMA, attributes, extent_of

_PIPELINE = "zarr.core.codec_pipeline.BatchedCodecPipeline"  # zarr's default
_PART = re.compile(r"part-(\d+)\.parquet")


def complete_shards(folder: Folder) -> list[int]:
    """Return the numbers of the shards whose Parquet part is there, in order."""
    found = (_PART.fullmatch(name) for name in location.names(folder / "models"))
    return sorted(int(match[1]) for match in found if match)


def write_shard(
    folder: Folder,
    manifest: ZooManifest,
    shard: int,
    arrays: Mapping[str, np.ndarray],
    *,
    diverged: np.ndarray,
    device: str,
) -> None:
    """Write the arrays of one shard, then its Parquet part.

    Runs that are at the same shard at the same time write the same bytes, each file whole; nothing that another may
    have committed is removed.

    Args:
        folder: the zoo.
        manifest: its manifest.
        shard: the number of the shard.
        arrays: name -> float32 (model, checkpoint, ...), for every array of `Extent.arrays`.
        diverged: bool (model,).
        device: the kind of device that trained it.
    """
    part = part_path(folder, shard)
    models = extent_of(manifest, attributes(folder)).models(shard)
    table = part_table(manifest, models, arrays, diverged=diverged)
    versions = {name: _version(name) for name in ("torch", "pyarrow")}
    origin = {"schema": SCHEMA, "manifest_digest": manifest.digest, "device": device, **versions}
    try:
        for name, values in arrays.items():
            write_array(folder / "weights.zarr" / name, shard, models, values)
            chunks = folder / "weights.zarr" / name / "c"
            atomic.flush_below(chunks / str(shard))
            atomic.flush(chunks)
        # Only now that the arrays would survive the power's loss may the part say so; else a complete shard could lack
        # its arrays. Everything of the shard costs about a dozen flushes.
        atomic.replace(part, part_bytes(table, origin))
    except OSError as error:
        if not part.exists():  # else another run has committed the same bytes, and cleared away what we had begun
            error.filename = error.filename or str(folder)  # a full disk does not say where it is
            raise
    atomic.tidy_part(part)
    atomic.tidy_chunks(folder, str(shard))


_version = cache(version)  # which is looked up in files each time


def write_array(path: Folder, shard: int, models: slice, values: np.ndarray) -> None:
    """Write the values of one shard (model, checkpoint, ...) into the array at `path`."""
    # Whoever reads through zarrs, whose compressor may give other bytes, writes as everybody does.
    with zarr.config.set({"codec_pipeline.path": _PIPELINE}):
        array = zarr.open_array(location.arrays(path, read_only=False), mode="r+", zarr_format=3)
    values = np.ascontiguousarray(values, dtype=np.float32)
    try:
        array[models] = values
    except (ValueError, RuntimeError):
        # A shard that the array's end cuts off is read before it is written, and what was there may be damaged.
        location.remove(path / "c" / str(shard))
        array[models] = values


def part_path(folder: Folder, shard: int) -> Folder:
    """Return where the Parquet part of a shard is."""
    return folder / "models" / _part_name(shard)


def _part_name(shard: int) -> str:
    return f"part-{shard:05d}.parquet"


def part_table(
    manifest: ZooManifest, models: slice, arrays: Mapping[str, np.ndarray], *, diverged: np.ndarray
) -> pa.Table:
    """Return the rows of a shard's models: what the grid gives, and what training added. Arguments as `write_shard`."""
    table = grid.table_of_models(manifest).slice(models.start, models.stop - models.start)
    for name, column in _outcome(arrays, diverged).items():
        table = table.append_column(name, column)
    return table


def converted_part_table(table: pa.Table, models: range, arrays: Mapping[str, Any]) -> pa.Table:
    """Return the rows of some models: what the archive says of them, and what follows from their arrays.

    Args:
        table: the descriptive table of all models.
        models: which.
        arrays: name -> float32 (model, checkpoint); `weights` also a list of a block (checkpoint, parameter) a model.
    """
    part = table.slice(models.start, len(models))
    kept = [np.array(row, dtype=np.int64) for row in part["checkpoints"].to_pylist()]
    n_checkpoints = arrays["max_abs"].shape[1]
    states = [_status(arrays["max_abs"][row], places, n_checkpoints) for row, places in enumerate(kept)]
    last = np.array([places[-1] if len(places) else -1 for places in kept])
    final = {
        name: np.where(last >= 0, values[np.arange(len(last)), last], np.float32(np.nan))
        for name, values in arrays.items()
        if name != "weights"
    }
    if "train_accuracy" in final and "test_accuracy" in final:
        final["generalization_gap"] = final["train_accuracy"] - final["test_accuracy"]
    part = part.append_column("status", pa.array(states, pa.string()))
    for name, values in final.items():
        part = part.append_column(name, pa.array(values.astype(np.float32)))
    digests = [model_sha256(arrays, row) for row in range(len(part))]
    return part.append_column("sha256", pa.array(digests, pa.string()))


def _status(max_abs: np.ndarray, kept: np.ndarray, n_checkpoints: int) -> str:
    if not np.isfinite(max_abs[kept]).all():
        return "diverged"
    return "complete" if len(kept) == n_checkpoints else "partial"


def part_bytes(table: pa.Table, origin: Mapping[str, Any]) -> bytes:
    """Return the Parquet file of a shard's rows; one version of pyarrow always gives the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({"zoo": json.dumps(origin)}), sink, write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def model_sha256(arrays: Mapping[str, np.ndarray], model: int) -> str:
    """Return the SHA-256 (hex) of one model's float32 trajectory: its weights, then its metrics by name."""
    found = hashlib.sha256()
    for name in sorted(arrays, key=lambda name: (name != "weights", name)):
        found.update(np.ascontiguousarray(arrays[name][model], dtype="<f4").data)
    return found.hexdigest()


def _outcome(arrays: Mapping[str, np.ndarray], diverged: np.ndarray) -> dict[str, pa.Array]:
    """Return the columns that training adds to the table of models."""
    final = {name: values[:, -1] for name, values in arrays.items() if name != "weights" and values.ndim == 2}
    if "test_accuracy" in final:
        final["generalization_gap"] = final["train_accuracy"] - final["test_accuracy"]
    return {
        "status": pa.array(np.where(diverged, "diverged", "complete")),
        **{name: pa.array(values) for name, values in final.items()},
        "sha256": pa.array([model_sha256(arrays, model) for model in range(len(diverged))]),
    }


def uncommit(folder: Folder, shard: int) -> None:
    """Take the Parquet part of a shard away: the next run makes the shard anew."""
    part_path(folder, shard).unlink(missing_ok=True)
    atomic.flush(folder / "models")


def remedy(shard: int) -> str:
    """Return what to do about a damaged shard, the end of an error."""
    return f"delete models/{_part_name(shard)}, and zoo-gen run makes the shard anew"
