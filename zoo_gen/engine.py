"""Running a manifest: its pending shards, spread over worker processes by joblib.

A task is a folder and a shard number; arrays never travel, each worker writes its own shard. The same call again does
only what is missing. This is the one file that imports joblib.
"""

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
from tqdm import tqdm

from zoo_gen import card, store
from zoo_gen.errors import ZooError
from zoo_gen.image_data import load_image_data
from zoo_gen.manifest import read_manifest

_TRACKER = "multiprocessing.resource_tracker"


@dataclass(frozen=True)
class Summary:
    """What a run did."""

    trained_models: int
    trained_shards: int
    n_shards: int
    diverged_models: int
    seconds: float


def run(manifest_path: Path, folder: Path, *, workers: int | None = None) -> Summary:
    """Train the shards of a zoo that are not complete yet and write them to `folder`.

    Args:
        manifest_path: the manifest.
        folder: where the zoo is, or will be.
        workers: processes, each on one core; all cores if not given. The zoo's bytes do not depend on it.

    Raises:
        ZooError: the manifest or the folder does not fit, or the disk has no room.
    """
    began = time.monotonic()
    manifest = read_manifest(manifest_path)
    extent = store.Extent.of(manifest)
    _check_room(folder, extent, done=store.complete_shards(folder) if (folder / "models").is_dir() else [])
    data_sha256 = load_image_data(manifest.data).sha256()
    store.create(folder, manifest_path, data_sha256=data_sha256, device="cpu")
    complete = set(store.complete_shards(folder)).intersection(range(extent.n_shards))
    pending = [shard for shard in range(extent.n_shards) if shard not in complete]
    done = sum(_length(extent.models(shard)) for shard in complete)
    trained = diverged = 0
    processes = count_processes(workers, len(pending))
    tasks = (joblib.delayed(train_shard)(folder, shard) for shard in pending)
    with _ended_by_this_process_alone():
        results = joblib.Parallel(n_jobs=processes, return_as="generator_unordered")(tasks)
    with tqdm(total=extent.n_models, initial=done, desc=manifest.name, unit="model", disable=None) as bar:
        try:
            for result in results:
                trained += result["models"]
                diverged += result["diverged"]
                bar.update(result["models"])
        except BrokenProcessPool:
            raise ZooError(
                f"{folder}: a worker was killed, as happens without enough memory; expected less with fewer "
                "--workers; what is complete is kept, the same command resumes"
            ) from None
    if pending or not (folder / "README.md").exists():
        card.write(folder)
    return Summary(trained, len(pending), extent.n_shards, diverged, time.monotonic() - began)


@contextmanager
def _ended_by_this_process_alone() -> Iterator[None]:
    """Let processes that are started inside inherit what makes an interruption quiet.

    Ctrl-C and the end of a terminal reach the workers too, where they would print a traceback each: workers ignore
    them and are killed by us. The semaphores of a killed worker are cleaned up by Python's tracker, which need not
    warn of them.
    """
    # Only the main thread may set handlers.
    numbers = (signal.SIGINT, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ()
    kept, warnings = [signal.getsignal(number) for number in numbers], os.environ.get("PYTHONWARNINGS")
    try:
        os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [warnings, "ignore::UserWarning:" + _TRACKER]))
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        yield
    finally:
        for number, handler in zip(numbers, kept, strict=True):
            signal.signal(number, handler)
        del os.environ["PYTHONWARNINGS"]
        if warnings is not None:
            os.environ["PYTHONWARNINGS"] = warnings


def count_processes(workers: int | None, n_shards: int) -> int:
    """Return how many processes share so many shards: the workers asked for, or all cores."""
    return max(1, min(workers or joblib.cpu_count(), n_shards))


def train_shard(folder: Path, shard: int) -> dict[str, Any]:
    """Train one shard of the zoo in `folder` on one core and write it; return how many models it has and lost."""
    from zoo_gen.population.train import single_threaded, train

    manifest = read_manifest(folder / "manifest.toml")
    models = store.Extent.of(manifest).models(shard)
    if shard in store.complete_shards(folder):  # by another run that began at the same time
        return {"models": _length(models), "diverged": 0}
    table = store.grid.table_of_models(manifest).slice(models.start, _length(models))
    with single_threaded():
        trajectories = train(
            manifest.architecture,
            load_image_data(manifest.data),
            table,
            epochs=manifest.training.epochs,
            batch_size=manifest.training.batch_size,
            checkpoint_epochs=manifest.checkpoint_epochs,
        )
    store.write_shard(folder, manifest, shard, trajectories.arrays(), diverged=trajectories.diverged, device="cpu")
    return {"models": _length(models), "diverged": int(trajectories.diverged.sum())}


def _length(models: slice) -> int:
    return models.stop - models.start


def _check_room(folder: Path, extent: store.Extent, *, done: list[int]) -> None:
    """Refuse a run whose shards may not fit on the disk, before any time is spent."""
    pending = extent.n_models - sum(_length(extent.models(shard)) for shard in done if shard < extent.n_shards)
    needed = pending * extent.bytes_per_model
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise ZooError(
            f"{folder}: the disk has no room; {pending} models need {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free"
        )
