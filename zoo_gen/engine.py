"""Running a manifest: its pending shards, spread over worker processes by joblib.

A task is a folder and shard numbers; arrays never travel, each worker writes its own shards. The same call again does
only what is missing. A worker that dies takes no run with it: what it was at is tried again, in the end alone, so that
only a shard that has nobody beside it to blame is given up. This is the one file that imports joblib.
"""

import logging
import os
import re
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Generator, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import joblib
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from zoo_gen import card, store, sums
from zoo_gen.errors import ZooError
from zoo_gen.image_data import load_image_data
from zoo_gen.manifest import ZooManifest, read_manifest

if TYPE_CHECKING:
    from zoo_gen.population.population import Regime

MODELS_ON_A_GPU = 1024

_TRACKER = "multiprocessing.resource_tracker"
_logger = logging.getLogger(__name__)


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
    repair: bool = False,
) -> Summary:
    """Train the shards of a zoo that are not complete yet and write them to `folder`.

    Args:
        manifest_path: the manifest.
        folder: where the zoo is, or will be.
        workers: processes, each on one core; all cores if not given. The zoo's bytes do not depend on it. A GPU is
            used by one process whatever is said here.
        device: "cpu", "cuda" or "cuda:N".
        data_root: where image data is looked for; see `load_image_data`.
        repair: look for damaged files first, and make them anew.

    Raises:
        ZooError: the device is not there, the manifest or the folder does not fit, the disk has no room, or the worker
            of a shard died each time; all other shards are complete then.
    """
    began = time.monotonic()
    manifest = read_manifest(manifest_path)
    extent = store.Extent.of(manifest)
    _check_room(folder, extent, done=store.complete_shards(folder) if (folder / "models").is_dir() else [])
    check_device(device)
    data_sha256 = load_image_data(manifest.data, data_root=data_root).sha256()
    if repair:
        _take_damage_away(folder, manifest_path, data_sha256=data_sha256, device=device)
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
    lost: list[list[int]] = []
    results = _train_all(folder, blocks, lost, processes=processes, device=device, data_root=data_root)
    bar = tqdm(total=extent.n_models, initial=done, desc=manifest.name, unit="model", disable=None)
    with warnings.catch_warnings(), closing(results), bar:
        # joblib warns when an interruption meets us between two results; who interrupted knows.
        warnings.filterwarnings("ignore", ".*still being processed by the workers")
        for shards in results:
            outcome = [status for shard in shards if shard not in complete for status in _outcome(folder, shard)]
            trained += len(outcome)
            diverged += outcome.count("diverged")
            bar.update(len(outcome))
    if lost:
        raise ZooError(
            f"{folder}: the worker of shard {', '.join(str(shard) for block in lost for shard in block)} died three "
            "times, the last time with no other at work, as happens without enough memory; expected smaller shards or "
            "more memory; all other shards are complete, the same command tries again"
        )
    if pending or not card.is_written(folder):
        card.write(folder)
    if card.is_written(folder):
        store.tidy(folder)
    return Summary(trained, len(pending), extent.n_shards, diverged, time.monotonic() - began)


def _take_damage_away(folder: Path, manifest_path: Path, *, data_sha256: str, device: str) -> None:
    """Mend what the store says of itself, and uncommit the shards that are damaged."""
    from zoo_gen.verify import verify

    kept, kind = folder / "manifest.toml", device.split(":", maxsplit=1)[0]
    if not kept.exists() and not (folder / sums.NAME).exists():
        return  # no zoo yet
    if sums.findings(folder):
        expected = store.fixed_files(manifest_path, data_sha256=data_sha256, device=kind)
        for name in sums.mend(folder, expected):
            _logger.warning("%s: was damaged and is mended", folder / name)
    for shard in verify(folder, sample=0).damaged_shards:
        _logger.warning("%s: shard %d is damaged and is made anew", folder, shard)
        store.uncommit(folder, shard)


def _train_all(
    folder: Path,
    blocks: list[list[int]],
    lost: list[list[int]],
    *,
    processes: int,
    device: str,
    data_root: Path | None,
) -> Generator[list[int], None, None]:
    """Train blocks of shards in worker processes; blocks whose worker dies each time are added to `lost`.

    When one worker dies, joblib ends the others too and does not say whose fault it was. So what was at work is tried
    a second time together with what is left, and what was at work when that fails a third time with no other.
    """
    waiting, alone, attempts = list(blocks), [], 0
    while waiting:
        begun: list[list[int]] = []
        # Later attempts hand out no more than is worked on, so that few are suspected.
        ahead = "2 * n_jobs" if attempts == 0 else "n_jobs"
        attempts += 1
        try:
            for shards in _parallel(folder, waiting, begun, processes, ahead=ahead, device=device, data_root=data_root):
                begun.remove(shards)
                waiting.remove(shards)
                yield shards
        except BrokenProcessPool:
            _logger.warning("%s: a worker died; the shards that were being trained are tried again", folder)
            if attempts > 1:
                alone += begun
                waiting = [shards for shards in waiting if shards not in begun]
    for shards in alone:
        # joblib would train a single block in this process if it were asked for one worker.
        try:
            yield from _parallel(folder, [shards], [], 2, ahead="n_jobs", device=device, data_root=data_root)
        except BrokenProcessPool:
            lost.append(shards)


def _parallel(
    folder: Path,
    blocks: list[list[int]],
    begun: list[list[int]],
    processes: int,
    *,
    ahead: str,
    device: str,
    data_root: Path | None,
) -> Iterator[list[int]]:
    """Start worker processes on blocks of shards; what has been handed out is in `begun`."""

    def handed_out() -> Iterator[list[int]]:
        for shards in list(blocks):
            begun.append(shards)
            yield shards

    settings = {"device": device, "data_root": data_root}
    if processes > 1:
        tasks = (joblib.delayed(_train_in_worker)(os.getpid(), folder, shards, **settings) for shards in handed_out())
    else:
        tasks = (joblib.delayed(train_shards)(folder, shards, **settings) for shards in handed_out())
    with _ended_by_this_process_alone():
        return joblib.Parallel(n_jobs=processes, return_as="generator_unordered", batch_size=1, pre_dispatch=ahead)(
            tasks
        )


def _train_in_worker(driver: int, folder: Path, shards: list[int], *, device: str, data_root: Path | None) -> list[int]:
    """Train shards in a worker process, which ends when the process that started it is no more."""
    _end_with(driver)
    return train_shards(folder, shards, device=device, data_root=data_root)


@lru_cache(maxsize=1)
def _end_with(driver: int) -> None:
    """Watch from now on whether the driver is there: after a SIGKILL nobody else would end the workers."""

    def watch() -> None:
        while os.getppid() == driver:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _ended_by_this_process_alone() -> Iterator[None]:
    """Let processes that are started inside inherit what makes an interruption quiet.

    Ctrl-C and the end of a terminal reach the workers too, where they would print a traceback each: workers ignore
    them and are killed by us. The semaphores of a killed worker are cleaned up by Python's tracker, which need not
    warn of them.
    """
    # Only the main thread may set handlers.
    numbers = (signal.SIGINT, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ()
    kept, silenced = [signal.getsignal(number) for number in numbers], os.environ.get("PYTHONWARNINGS")
    try:
        os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [silenced, "ignore::UserWarning:" + _TRACKER]))
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        yield
    finally:
        for number, handler in zip(numbers, kept, strict=True):
            signal.signal(number, handler)
        del os.environ["PYTHONWARNINGS"]
        if silenced is not None:
            os.environ["PYTHONWARNINGS"] = silenced


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


def train_shards(folder: Path, shards: list[int], *, device: str = "cpu", data_root: Path | None = None) -> list[int]:
    """Train shards of the zoo in `folder` together and write those that are not complete.

    Returns:
        The shards, which are complete now.
    """
    from zoo_gen.population.train import single_threaded, train

    manifest = read_manifest(folder / "manifest.toml")
    extent = store.extent_of(manifest, store.attributes(folder))
    slices = [extent.models(shard) for shard in shards]
    if set(shards) <= set(store.complete_shards(folder)):  # by another run, or by a worker that could not answer
        return shards
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
    for shard, models in zip(shards, slices, strict=True):
        rows = slice(start, start + _length(models))
        start = rows.stop
        if shard in complete:
            continue
        arrays = {name: values[rows] for name, values in found.arrays.items()}
        store.write_shard(folder, manifest, shard, arrays, diverged=found.diverged[rows], device=kind)
    return shards


def _outcome(folder: Path, shard: int) -> list[str]:
    """Return what became of each model of a complete shard: "complete" or "diverged"."""
    return pq.read_table(store.part_path(folder, shard), columns=["status"])["status"].to_pylist()


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
