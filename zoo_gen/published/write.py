"""From what a converter read to a zoo on disk: the same store, parts and digests as a generated one.

Shards are written side by side by a few threads, since copying, hashing and compressing release the interpreter. Each
holds one shard in memory, whatever the archive's size; what is committed is never written again.
"""

import json
import logging
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from zoo_gen import commit, converted, durable, store, sums
from zoo_gen.converted import ARCHITECTURES, SPLITS, STATES, ConvertedManifest
from zoo_gen.errors import ZooError
from zoo_gen.grid import PARTS
from zoo_gen.layers import layers_to_json
from zoo_gen.published.reading import Reading, Wiring
from zoo_gen.published.toml import toml
from zoo_gen.store import Extent

log = logging.getLogger(__name__)

_SHARD_BYTES = 64 * 2**20  # two are in memory at once, each some three times over
_MOST_MODELS = 1024
_FEWEST_SHARDS = 4
_PLACES = pa.list_(pa.field("element", pa.int32()))  # as Parquet names it, so that it reads back as it was


@dataclass(frozen=True)
class Plan:
    """A conversion before its weights are read: what the zoo will be."""

    reading: Reading
    manifest: ConvertedManifest
    extent: Extent
    table: pa.Table  # the models as far as the archive describes them
    ids: tuple[str, ...]  # of the architectures, in the order of the reading's wirings


def plan(reading: Reading, source_model: np.ndarray, *, name: str, description: str, facts: Mapping[str, Any]) -> Plan:
    """Return what the zoo of a reading will be.

    Args:
        reading: what the converter found, selected.
        source_model: int64 (model,), the number of each model in the whole zoo.
        name: of the zoo.
        description: one line for people.
        facts: the manifest's `format` and `origin`, without the digest of the table.
    """
    sizes = np.array([wiring.layout.size for wiring in reading.wirings], dtype=np.int64)
    of_model = sizes[reading.wiring_of_model]
    is_ragged = len(reading.wirings) > 1
    ids = tuple(_architecture_id(wiring) for wiring in reading.wirings)
    counts = reading.kept.sum(axis=1)
    mean_bytes = float((counts * of_model).mean()) * 4
    fitting = max(1, min(_MOST_MODELS, int(_SHARD_BYTES // max(mean_bytes, 1))))
    per_shard = min(reading.n_models, fitting, max(1, -(-reading.n_models // _FEWEST_SHARDS)))
    table = _table(reading, source_model, ids, of_model, per_shard)
    metrics = (*reading.metrics, "max_abs")
    origin = {**facts["origin"], "table_sha256": converted.table_sha256(table)}
    splits = {split: _split_table(found.models, found.parts) for split, found in reading.splits.items()}
    manifest = ConvertedManifest.model_validate(
        {
            "kind": "converted",
            "name": name,
            "description": description,
            "format": facts["format"],
            "architecture": {"name": reading.architecture or "unnamed"},
            "models": reading.n_models,
            "parameters": int(of_model.max()),
            "architectures": len(reading.wirings),
            "permutation_sha256": converted.permutations_sha256([w.permutation for w in reading.wirings]),
            "epochs": tuple(reading.epochs.tolist()),
            "epoch_means": reading.epoch_means,
            "metrics": metrics,
            "varying": reading.varying,
            "classes": reading.classes,
            "data": reading.data,
            "recomputable": reading.recomputable,
            "default_split": next(iter(splits), None),
            "splits": {
                split: {
                    "sha256": converted.split_table_sha256(found),
                    **{part: int((reading.splits[split].parts == part).sum()) for part in PARTS},
                    "how": reading.splits[split].how,
                }
                for split, found in splits.items()
            },
            "notes": reading.notes,
            "origin": origin,
        }
    )
    row = int(max(_row_sizes(counts * of_model, per_shard))) if is_ragged else None
    shape = (reading.n_models, len(reading.epochs), int(of_model.max()))
    extent = Extent(*shape, tuple((metric, 1) for metric in metrics), per_shard, row)
    return Plan(reading, manifest, extent, table, ids)


def write(plan: Plan, folder: Path, *, workers: int, progress: Callable[[int, int], None] | None) -> None:
    """Write the shards that a zoo still lacks.

    Raises:
        ZooError: the folder holds something else, or a state is not what the archive's table says.
    """
    _create(plan, folder)
    done = set(commit.complete_shards(folder))
    pending = [shard for shard in range(plan.extent.n_shards) if shard not in done]
    finished = plan.extent.n_models - sum(_count(plan, shard) for shard in pending)
    if progress:
        progress(finished, plan.extent.n_models)
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=workers) as pool:
        running: dict[Future[None], int] = {}
        queue = iter(pending)
        try:
            while True:
                for shard in queue:  # no more than there are workers, so that an error does not wait for the rest
                    running[pool.submit(_shard, plan, folder, shard, stop)] = shard
                    if len(running) >= workers:
                        break
                if not running:
                    break
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    shard = running.pop(future)
                    future.result()
                    finished += _count(plan, shard)
                    if progress:
                        progress(finished, plan.extent.n_models)
        finally:
            stop.set()


def _count(plan: Plan, shard: int) -> int:
    models = plan.extent.models(shard)
    return int(models.stop - models.start)


def _create(plan: Plan, folder: Path) -> None:
    """Make the empty zoo, or find it already there."""
    kept = folder / "manifest.toml"
    if kept.exists():
        found = converted.read_any(kept)
        if found.digest != plan.manifest.digest:
            raise ZooError(
                f"{folder}: holds the zoo {found.name!r} of another archive, selection or version (digest "
                f"{found.digest[:12]}, expected {plan.manifest.digest[:12]}); choose another folder"
            )
        store.attributes(folder)
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ZooError(f"{folder}: exists and is not a zoo; expected a new or empty folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{folder.name}.making.", dir=folder.parent))
    try:
        making.chmod(0o755)
        _fill(plan, making)
        durable.flush_below(making)
        if folder.exists():
            folder.rmdir()
        making.replace(folder)
        durable.flush(folder.parent)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _fill(plan: Plan, folder: Path) -> None:
    reading, extent, manifest = plan.reading, plan.extent, plan.manifest
    (folder / "models").mkdir()
    (folder / SPLITS).mkdir()
    (folder / "manifest.toml").write_text(toml(manifest.model_dump(mode="json", exclude_none=True)))
    names = ("zoo-gen", "zarr", "numpy", "pyarrow")
    is_ragged = manifest.ragged
    attributes = {
        "schema": store.SCHEMA,
        "name": manifest.name,
        "manifest_digest": manifest.digest,
        "architecture": manifest.architecture.model_dump(mode="json"),
        "layout": None if is_ragged else reading.wirings[0].layout.to_json(),
        "checkpoint_epochs": list(manifest.epochs),
        "models_per_shard": extent.models_per_shard,
        "n_models": extent.n_models,
        "row_elements": extent.row_elements,
        "versions": {name: version(name) for name in names},
    }
    store.make_arrays(folder, extent, attributes)
    if not is_ragged:
        index = reading.wirings[0].permutation.astype(np.int32)
        group = zarr.open_group(folder / "weights.zarr", mode="r+")
        array = group.create_array(
            "permutation", shape=index.shape, dtype="int32", chunks=index.shape, dimension_names=("parameter",)
        )
        array[:] = index
    rows = [_architecture(*pair) for pair in zip(plan.ids, reading.wirings, strict=True)]
    (folder / ARCHITECTURES).write_text("".join(json.dumps(row) + "\n" for row in rows))
    if reading.states is not None:
        places = reading.states.column_names.index("model")
        names_of = ["model_id" if place == places else name for place, name in enumerate(reading.states.column_names)]
        pq.write_table(reading.states.rename_columns(names_of), folder / STATES, write_page_checksum=True)
    for name, found in reading.splits.items():
        table = _split_table(found.models, found.parts)
        pq.write_table(table, folder / SPLITS / f"{name}.parquet", write_page_checksum=True)
    sums.write(folder)


def _shard(plan: Plan, folder: Path, shard: int, stop: threading.Event) -> None:
    """Read, order and write the models of one shard, then commit it."""
    reading, extent = plan.reading, plan.extent
    models = range(*extent.models(shard).indices(extent.n_models))
    blocks: list[np.ndarray] = []  # (checkpoint, parameter) a model, its kept checkpoints only
    for model in models:
        if stop.is_set():
            return
        wiring = reading.wirings[reading.wiring_of_model[model]]
        places = np.flatnonzero(reading.kept[model])
        vectors = reading.read(model, places)
        if vectors.shape != (len(places), wiring.layout.size):
            raise ZooError(
                f"{reading.name}: model {model} ({plan.table['run'][model].as_py()}) has states of shape "
                f"{vectors.shape}; expected {(len(places), wiring.layout.size)}"
            )
        if vectors.dtype == np.float64 and reading.exact and not _is_exact(vectors):
            run = plan.table["run"][model].as_py()
            raise ZooError(f"{reading.name}: model {model} ({run}) has float64 weights that are no float32 numbers")
        blocks.append(wiring.applied(vectors))
    max_abs = np.full((len(models), extent.n_checkpoints), np.nan, dtype=np.float32)
    for position, (model, block) in enumerate(zip(models, blocks, strict=True)):
        if block.size:
            low, high = block.min(axis=1), block.max(axis=1)  # NaN where any is, without a copy of all
            max_abs[position, reading.kept[model]] = np.maximum(-low, high)
    arrays: dict[str, Any] = {name: values[models.start : models.stop] for name, values in reading.metrics.items()}
    arrays["max_abs"] = max_abs
    if extent.row_elements is None:
        weights = np.full((len(models), extent.n_checkpoints, extent.n_parameters), np.nan, dtype=np.float32)
        for position, (model, block) in enumerate(zip(models, blocks, strict=True)):
            weights[position, reading.kept[model]] = block
        arrays["weights"] = weights
    else:
        arrays["weights"] = blocks
    part = part_table(plan.table, models, arrays)
    origin = {"schema": store.SCHEMA, "manifest_digest": plan.manifest.digest, "pyarrow": version("pyarrow")}
    chunks = folder / "weights.zarr"
    for name, values in arrays.items():
        if name == "weights" and extent.row_elements is not None:
            flat = np.concatenate([block.reshape(-1) for block in blocks])
            zarr.open_array(chunks / name, mode="r+")[shard, : len(flat)] = flat
        else:
            commit.write_array(chunks / name, shard, slice(models.start, models.stop), values)
        if (chunks / name / "c" / str(shard)).exists():  # chunks that are empty throughout are not written
            durable.flush_below(chunks / name / "c" / str(shard))
            durable.flush(chunks / name / "c")
    durable.replace(commit.part_path(folder, shard), commit.part_bytes(part, origin))


def part_table(table: pa.Table, models: range, arrays: Mapping[str, Any]) -> pa.Table:
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
    digests = [commit.model_sha256(arrays, row) for row in range(len(part))]
    return part.append_column("sha256", pa.array(digests, pa.string()))


def _status(max_abs: np.ndarray, kept: np.ndarray, n_checkpoints: int) -> str:
    if not np.isfinite(max_abs[kept]).all():
        return "diverged"
    return "complete" if len(kept) == n_checkpoints else "partial"


def _is_exact(vectors: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        narrow = vectors.astype(np.float32)
    return bool(((narrow == vectors) | np.isnan(vectors)).all())


def _table(
    reading: Reading, source_model: np.ndarray, ids: tuple[str, ...], of_model: np.ndarray, per_shard: int
) -> pa.Table:
    """Return the descriptive table: model_id, source_model, run, hyper-parameters, split, checkpoints, architecture."""
    columns: dict[str, Any] = {
        "model_id": pa.array(np.arange(reading.n_models)),
        "source_model": pa.array(source_model.astype(np.int64)),
        **{name: reading.models[name].combine_chunks() for name in reading.models.column_names},
    }
    parts: list[str | None] = [None] * reading.n_models
    for found in list(reading.splits.values())[:1]:
        for model, part in zip(found.models.tolist(), found.parts.tolist(), strict=True):
            parts[model] = part
    columns["split"] = pa.array(parts, pa.string())
    columns["checkpoints"] = pa.array([np.flatnonzero(row) for row in reading.kept], _PLACES)
    if len(reading.wirings) > 1:
        counts = reading.kept.sum(axis=1) * of_model
        starts = np.concatenate([np.cumsum(row) - row for row in _rows(counts, per_shard)])
        columns["architecture"] = pa.array([ids[place] for place in reading.wiring_of_model], pa.string())
        columns["n_parameters"] = pa.array(of_model)
        columns["weights_start"] = pa.array(starts.astype(np.int64))
    return pa.table(columns)


def _rows(counts: np.ndarray, per_shard: int) -> list[np.ndarray]:
    return [counts[start : start + per_shard] for start in range(0, len(counts), per_shard)]


def _row_sizes(counts: np.ndarray, per_shard: int) -> list[int]:
    return [int(row.sum()) for row in _rows(counts, per_shard)]


def _split_table(models: np.ndarray, parts: np.ndarray) -> pa.Table:
    return pa.table({"model_id": pa.array(models.astype(np.int64)), "part": pa.array(parts.tolist(), pa.string())})


def _architecture(id_: str, wiring: Wiring) -> dict[str, Any]:
    sources = [
        {
            "name": source.name,
            "start": source.start,
            "shape": list(source.shape),
            "axes": list(source.axes),
            "parameter": source.parameter,
        }
        for source in wiring.sources
    ]
    return {
        "id": id_,
        "layers": None if wiring.layers is None else layers_to_json(wiring.layers),
        "input_shape": None if wiring.input_shape is None else list(wiring.input_shape),
        "layout": wiring.layout.to_json(),
        "sources": sources,
    }


def _architecture_id(wiring: Wiring) -> str:
    """Return a short name of an architecture that depends on nothing but what it is."""
    content = {key: value for key, value in _architecture("", wiring).items() if key != "id"}
    return converted.text_sha256(json.dumps(content))[:16]
