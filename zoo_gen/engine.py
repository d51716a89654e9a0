"""Running a manifest: its pending shards, spread over worker processes by joblib.

A task is a folder and a shard number; arrays never travel, each worker writes its own shard. The same call again does
only what is missing. This is the one file that imports joblib.
"""

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import joblib
import pyarrow as pa
from tqdm import tqdm

from zoo_gen import card, store
from zoo_gen.errors import ZooError
from zoo_gen.image_data import load_image_data
from zoo_gen.manifest import ZooManifest, read_manifest

if TYPE_CHECKING:
    from zoo_gen.population.population import Regime

MODELS_ON_A_GPU = 1024

_TRACKER = "multiprocessing.resource_tracker"


@dataclass(frozen=True)
class Summary:
    """What a run did."""

    trained_models: int
    trained_shards: int
    n_shards: int
    diverged_models: int
    seconds: float


def run(
    manifest_path: Path,
    folder: Path,
    *,
    workers: int | None = None,
    device: str = "cpu",
    data_root: Path | None = None,
) -> Summary:
    """Train the shards of a zoo that are not complete yet and write them to `folder`.

    Args:
        manifest_path: the manifest.
        folder: where the zoo is, or will be.
        workers: processes, each on one core; all cores if not given. The zoo's bytes do not depend on it. A GPU is
            used by one process whatever is said here.
        device: "cpu", "cuda" or "cuda:N".
        data_root: where image data is looked for; see `load_image_data`.

    Raises:
        ZooError: the device is not there, the manifest or the folder does not fit, or the disk has no room.
    """
    began = time.monotonic()
    manifest = read_manifest(manifest_path)
    extent = store.Extent.of(manifest)
    _check_room(folder, extent, done=store.complete_shards(folder) if (folder / "models").is_dir() else [])
    check_device(device)
    data_sha256 = load_image_data(manifest.data, data_root=data_root).sha256()
    store.create(folder, manifest_path, data_sha256=data_sha256, device=device.split(":", maxsplit=1)[0])
    made = store.attributes(folder)
    extent = store.extent_of(manifest, made)
    if made["data_sha256"] != data_sha256:
        raise ZooError(f"{folder}: was made from other image data; expected the images of its data_sha256 again")
    complete = set(store.complete_shards(folder)).intersection(range(extent.n_shards))
    pending = [shard for shard in range(extent.n_shards) if shard not in complete]
    done = sum(_length(extent.models(shard)) for shard in complete)
    trained = diverged = 0
    processes = count_processes(workers, len(pending), device=device)
    # A GPU is full only with many models; on a CPU a shard at a time loses least to an interruption. Which shards are
    # trained together never depends on what is complete, because on a GPU the last bits may depend on it.
    at_once = max(1, MODELS_ON_A_GPU // extent.models_per_shard) if device != "cpu" else 1
    blocks = [list(range(extent.n_shards))[start : start + at_once] for start in range(0, extent.n_shards, at_once)]
    blocks = [shards for shards in blocks if not complete.issuperset(shards)]
    tasks = (joblib.delayed(train_shards)(folder, shards, device=device, data_root=data_root) for shards in blocks)
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


def count_processes(workers: int | None, n_shards: int, *, device: str = "cpu") -> int:
    """Return how many processes share so many shards: the workers asked for, or all cores; one on a GPU."""
    return 1 if device.startswith("cuda") else max(1, min(workers or joblib.cpu_count(), n_shards))


def check_device(device: str) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        ZooError: it is not "cpu", "cuda" or "cuda:N", or there is no such GPU.
    """
    if device == "cpu":
        return
    if not re.fullmatch(r"cuda(:\d+)?", device):
        raise ZooError(f"device {device!r}: expected cpu, cuda or cuda:N")
    import torch

    count = torch.cuda.device_count()
    if int(device.partition(":")[2] or 0) >= count:
        raise ZooError(f"device {device!r}: torch {torch.__version__} sees {count} CUDA devices; expected --device cpu")


def regime(manifest: ZooManifest, *, device: str) -> "Regime":
    """Return how all models of a manifest's zoo are trained on a device."""
    from zoo_gen.population.population import Regime

    measured = manifest.checkpoints.train_images
    return Regime(
        epochs=manifest.training.epochs,
        n_evaluated=None if measured == "all" else measured,
        drop_last=manifest.training.drop_last,
        stop_loss=manifest.training.stop_loss,
        device=device,
    )


def train_shards(
    folder: Path, shards: list[int], *, device: str = "cpu", data_root: Path | None = None
) -> dict[str, int]:
    """Train shards of the zoo in `folder` together and write those that are not complete.

    Returns:
        How many models were written, and how many of those diverged.
    """
    from zoo_gen.population.train import single_threaded, train

    manifest = read_manifest(folder / "manifest.toml")
    extent = store.extent_of(manifest, store.attributes(folder))
    slices = [extent.models(shard) for shard in shards]
    if set(shards) <= set(store.complete_shards(folder)):  # by another run that began at the same time
        return {"models": sum(map(_length, slices)), "diverged": 0}
    table = store.grid.table_of_models(manifest)
    with single_threaded():
        found = train(
            manifest.architecture,
            load_image_data(manifest.data, data_root=data_root),
            pa.concat_tables(table.slice(models.start, _length(models)) for models in slices),
            regime(manifest, device=device),
            checkpoint_epochs=manifest.checkpoint_epochs,
        )
    complete = set(store.complete_shards(folder))
    kind, start = device.split(":", maxsplit=1)[0], 0
    done = {"models": 0, "diverged": 0}
    for shard, models in zip(shards, slices, strict=True):
        rows = slice(start, start + _length(models))
        start = rows.stop
        if shard in complete:
            continue
        arrays = {name: values[rows] for name, values in found.arrays.items()}
        store.write_shard(folder, manifest, shard, arrays, diverged=found.diverged[rows], device=kind)
        done["models"] += _length(models)
        done["diverged"] += int(found.diverged[rows].sum())
    return done


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
