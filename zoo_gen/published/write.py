"""From what a converter read to a zoo on disk: the same store, parts and digests as a generated one.

Shards are written side by side by a few threads, since copying, hashing and compressing release the interpreter. Each
holds one shard in memory, whatever the archive's size; what is committed is never written again.
"""

import json
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import zarr

from zoo_gen import store
from zoo_gen.errors import ZooError
from zoo_gen.files import atomic
from zoo_gen.manifest import converted
from zoo_gen.manifest.converted import ARCHITECTURES, SPLITS, STATES
from zoo_gen.published.plan import Plan
from zoo_gen.published.toml import toml
from zoo_gen.store import checksums, shards


def write(plan: Plan, folder: Path, *, workers: int, progress: Callable[[int, int], None] | None) -> None:
    """Write the shards that a zoo still lacks.

    Raises:
        ZooError: the folder holds something else, or a state is not what the archive's table says.
    """
    _create(plan, folder)
    done = set(shards.complete_shards(folder))
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
        atomic.flush_below(making)
        if folder.exists():
            folder.rmdir()
        making.replace(folder)
        atomic.flush(folder.parent)
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
    (folder / ARCHITECTURES).write_text("".join(json.dumps(row) + "\n" for row in plan.architectures))
    if reading.states is not None:
        places = reading.states.column_names.index("model")
        names_of = ["model_id" if place == places else name for place, name in enumerate(reading.states.column_names)]
        pq.write_table(reading.states.rename_columns(names_of), folder / STATES, write_page_checksum=True)
    for name, table in plan.splits.items():
        pq.write_table(table, folder / SPLITS / f"{name}.parquet", write_page_checksum=True)
    checksums.write(folder)


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
    part = shards.converted_part_table(plan.table, models, arrays)
    origin = {"schema": store.SCHEMA, "manifest_digest": plan.manifest.digest, "pyarrow": version("pyarrow")}
    chunks = folder / "weights.zarr"
    for name, values in arrays.items():
        if name == "weights" and extent.row_elements is not None:
            flat = np.concatenate([block.reshape(-1) for block in blocks])
            zarr.open_array(chunks / name, mode="r+")[shard, : len(flat)] = flat
        else:
            shards.write_array(chunks / name, shard, slice(models.start, models.stop), values)
        if (chunks / name / "c" / str(shard)).exists():  # chunks that are empty throughout are not written
            atomic.flush_below(chunks / name / "c" / str(shard))
            atomic.flush(chunks / name / "c")
    atomic.replace(shards.part_path(folder, shard), shards.part_bytes(part, origin))


def _is_exact(vectors: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        narrow = vectors.astype(np.float32)
    return bool(((narrow == vectors) | np.isnan(vectors)).all())
