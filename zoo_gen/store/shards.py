"""The Parquet part of a shard: a row a model, what is known of it beforehand and what follows from its arrays."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_PART = re.compile(r"part-(\d+)\.parquet")

Arrays = Mapping[str, Any]  # name -> float32 (model, checkpoint, ...); ragged weights a list of (checkpoint, parameter)


def part_name(shard: int) -> str:
    """Return the name of the Parquet part of a shard."""
    return f"part-{shard:05d}.parquet"


def shards_of(names: Sequence[str]) -> list[int]:
    """Return the shards whose Parquet parts are among the names of files, in order; a copy by another name is none."""
    matches = ((name, _PART.fullmatch(name)) for name in names)
    return sorted(int(match[1]) for name, match in matches if match and part_name(int(match[1])) == name)


def remedy(shard: int) -> str:
    """Return what to do about a damaged shard, the end of an error."""
    return f"delete models/{part_name(shard)}, and the command that made the zoo makes the shard again"


def part_table(rows: pa.Table, arrays: Arrays) -> pa.Table:
    """Return the rows of a shard's models with the columns that follow from their arrays.

    Args:
        rows: what is known beforehand. The models of a published zoo may have only some of the checkpoints, which
            their column `checkpoints` lists, and have a metric `max_abs`; those of a trained one have all.
        arrays: every array of `Extent.arrays`, for these models.
    """
    finals = {name: values for name, values in arrays.items() if name != "weights" and values.ndim == 2}
    n_checkpoints = next(iter(finals.values())).shape[1]
    if "max_abs" in arrays:
        present = [np.array(row, dtype=np.int64) for row in rows["checkpoints"].to_pylist()]
        states = [_status(row[at], n_checkpoints) for row, at in zip(arrays["max_abs"], present, strict=True)]
        last = np.array([positions[-1] if len(positions) else -1 for positions in present])
    else:
        lasts = [block[-1] for block in arrays["weights"]]  # NaN stays from the failing checkpoint on
        states = ["diverged" if np.isnan(last).any() else "complete" for last in lasts]
        last = np.full(len(rows), n_checkpoints - 1)
    columns = {
        name: np.where(last >= 0, values[np.arange(len(last)), last], np.float32(np.nan))
        for name, values in finals.items()
    }
    if "train_accuracy" in columns and "test_accuracy" in columns:
        columns["generalization_gap"] = columns["train_accuracy"] - columns["test_accuracy"]
    table = rows.append_column("status", pa.array(states, pa.string()))
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values.astype(np.float32)))
    digests = [model_sha256(arrays, row) for row in range(len(rows))]
    return table.append_column("sha256", pa.array(digests, pa.string()))


def _status(max_abs: np.ndarray, n_checkpoints: int) -> str:
    """Return what became of a published model, from the largest weight of each checkpoint that it has."""
    if not np.isfinite(max_abs).all():
        return "diverged"
    return "complete" if len(max_abs) == n_checkpoints else "partial"


def with_one_nan(arrays: Arrays) -> Arrays:
    """Return arrays in which every NaN has the same bits.

    Zarr leaves out a chunk that holds NaN alone, whatever their signs are, and reads it as the NaN of numpy.
    """

    def replaced(values: np.ndarray) -> np.ndarray:
        undefined = np.isnan(values)
        return np.where(undefined, np.float32(np.nan), values) if undefined.any() else values

    return {
        name: [replaced(block) for block in values] if isinstance(values, list) else replaced(values)
        for name, values in arrays.items()
    }


def model_sha256(arrays: Arrays, model: int) -> str:
    """Return the SHA-256 (hex) of one model's float32 trajectory: its weights, then its metrics by name."""
    digest = hashlib.sha256()
    for name in sorted(arrays, key=lambda name: (name != "weights", name)):
        digest.update(np.ascontiguousarray(arrays[name][model], dtype="<f4").data)
    return digest.hexdigest()


def part_bytes(table: pa.Table, written_by: Mapping[str, Any]) -> bytes:
    """Return the Parquet file of a shard's rows; one version of pyarrow always gives the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({"zoo": json.dumps(written_by)}), sink, write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def written_by(part: pa.Table) -> dict[str, Any]:
    """Return what a part says of the manifest, device and versions that wrote it; nothing if it cannot be read."""
    try:
        facts = json.loads((part.schema.metadata or {}).get(b"zoo", b"{}"))
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
