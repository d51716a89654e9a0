"""From what a converter read to a zoo on disk: the same store, parts and digests as a trained one.

Shards are written side by side by a few threads, since copying, hashing and compressing release the interpreter. Each
holds one shard in memory, whatever the archive's size; what is committed is never written again.
"""

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from zoo_gen.errors import ZooError
from zoo_gen.files import location
from zoo_gen.files.location import Folder
from zoo_gen.published.plan import Plan
from zoo_gen.published.rounding import as_float32
from zoo_gen.store import EmptyZoo, Store
from zoo_gen.store.create import MANIFEST, described
from zoo_gen.store.side_files import side_files


class _Refused(ZooError):
    """What is wrong with the archive, and not with the folder or the store that the zoo is written to."""


def write(plan: Plan, folder: Folder, *, workers: int, progress: Callable[[int, int], None] | None) -> Store:
    """Write the shards that a zoo still lacks, and return the complete zoo.

    An interruption keeps what is complete, and so does a store that stays away; of an archive that is refused on the
    way nothing stays.

    Raises:
        ZooError: the folder holds something else, or a state is not what the archive's table says.
    """
    existed, begun = folder.exists(), (folder / MANIFEST).exists()
    store = Store.create(folder, _empty(plan))
    try:
        _write_shards(plan, store, workers=workers, progress=progress)
    except _Refused:
        if not begun:
            _remove(store.folder, itself=not existed)
        raise
    return store


def _remove(folder: Folder, *, itself: bool) -> None:
    """Remove the zoo of an archive that was refused; a folder that was there before stays, empty."""
    location.remove(folder)
    if not itself and isinstance(folder, Path):
        folder.mkdir()


def _write_shards(plan: Plan, store: Store, *, workers: int, progress: Callable[[int, int], None] | None) -> None:
    done = set(store.complete_shards())
    pending = [shard for shard in range(plan.extent.n_shards) if shard not in done]
    finished = plan.extent.n_models - sum(plan.extent.count(shard) for shard in pending)
    if progress:
        progress(finished, plan.extent.n_models)
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=workers) as pool:
        running: dict[Future[None], int] = {}
        queue = iter(pending)
        try:
            while True:
                for shard in queue:  # no more than there are workers, so that an error does not wait for the rest
                    running[pool.submit(_write_shard, plan, store, shard, stop)] = shard
                    if len(running) >= workers:
                        break
                if not running:
                    break
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    shard = running.pop(future)
                    future.result()
                    finished += plan.extent.count(shard)
                    if progress:
                        progress(finished, plan.extent.n_models)
        finally:
            stop.set()


def _empty(plan: Plan) -> EmptyZoo:
    """Return the planned zoo before its first shard."""
    reading, extent, manifest = plan.reading, plan.extent, plan.manifest
    wiring = None if manifest.ragged else reading.wirings[0]
    attributes = {
        **described(manifest, extent, None if wiring is None else wiring.layout),
        "row_elements": extent.row_elements,
        "versions": {name: version(name) for name in ("zoo-gen", "zarr", "numpy", "pyarrow")},
    }
    states = reading.states
    if states is not None:
        states = states.rename_columns(["model_id" if name == "model" else name for name in states.column_names])
    files = side_files(plan.architectures, plan.splits, states)
    return EmptyZoo(manifest, extent, attributes, files, None if wiring is None else wiring.permutation)


def _write_shard(plan: Plan, store: Store, shard: int, stop: threading.Event) -> None:
    """Read, order and write the models of one shard, then commit it."""
    models = range(plan.extent.n_models)[plan.extent.models(shard)]
    try:
        arrays = _arrays(plan, models, stop)
    except ZooError as error:
        raise _Refused(str(error)) from error
    if arrays is not None:
        store.write_shard(shard, arrays, rows=plan.table.slice(models.start, len(models)))


def _arrays(plan: Plan, models: range, stop: threading.Event) -> dict[str, Any] | None:
    """Return the arrays of models as a shard takes them; None if it is to stop."""
    reading = plan.reading
    blocks: list[np.ndarray] = []  # (checkpoint, parameter) a model, only the checkpoints that it has
    for model in models:
        if stop.is_set():
            return None
        wiring = reading.wirings[reading.wiring_of_model[model]]
        positions = np.flatnonzero(reading.present[model])
        vectors = reading.read(model, positions)
        run = plan.table["run"][model].as_py()
        if vectors.shape != (len(positions), wiring.layout.size):
            raise ZooError(
                f"{reading.name}: model {model} ({run}) has states of shape {vectors.shape}; "
                f"expected {(len(positions), wiring.layout.size)}"
            )
        narrow, is_rounded = as_float32(vectors, where=f"{reading.name}: model {model} ({run})")
        if is_rounded and reading.exact:
            raise ZooError(f"{reading.name}: model {model} ({run}) has float64 weights that are no float32 numbers")
        blocks.append(wiring.applied(narrow))
    present = reading.present[models.start : models.stop]
    max_abs = np.full(present.shape, np.nan, dtype=np.float32)
    for row, block in enumerate(blocks):
        if block.size:
            low, high = block.min(axis=1), block.max(axis=1)  # NaN where any is, without a copy of all
            max_abs[row, present[row]] = np.maximum(-low, high)
    arrays: dict[str, Any] = {name: values[models.start : models.stop] for name, values in reading.metrics.items()}
    arrays["max_abs"] = max_abs
    if plan.manifest.ragged:
        arrays["weights"] = blocks
    else:
        arrays["weights"] = np.full((*present.shape, plan.extent.n_parameters), np.nan, dtype=np.float32)
        for row, block in enumerate(blocks):
            arrays["weights"][row, present[row]] = block
    return arrays
