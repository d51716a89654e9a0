"""Running a manifest: what a zoo still lacks, trained shard by shard.

A task is a folder and shard numbers; arrays never travel, each worker writes its own shards. The same call again does
only what is missing.
"""

import logging
import shutil
import time
import warnings
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from zoo_gen import store
from zoo_gen.engine.settings import check_device, choose_forms, models_on_device, training_settings
from zoo_gen.errors import ZooError
from zoo_gen.files import atomic
from zoo_gen.files.location import Folder, Remote
from zoo_gen.image_data import load_image_data
from zoo_gen.machine.workers import cluster, count_processes, train_all
from zoo_gen.manifest import ZooManifest, grid, read_manifest
from zoo_gen.store import checksums
from zoo_gen.store import shards as commit
from zoo_gen.zoo import card

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
    manifest_path: Folder,
    folder: Folder,
    *,
    workers: int | None = None,
    device: str = "cpu",
    data_root: Path | None = None,
    repair: bool = False,
    part: tuple[int, int] = (1, 1),
    scheduler: str | None = None,
) -> Summary:
    """Train the shards of a zoo that are not complete yet and write them to `folder`.

    Args:
        manifest_path: the manifest.
        folder: where the zoo is, or will be; at a URL, workers need the same access to it.
        workers: processes, each on one core; all cores if not given. The zoo's bytes do not depend on it. A GPU is
            used by one process whatever is said here.
        device: "cpu", "cuda" or "cuda:N".
        data_root: where image data is looked for; see `load_image_data`.
        repair: look for damaged files first, and make them anew.
        part: (i, n) trains the i-th of n parts of the shards, from 1; which shards those are depends on n alone.
        scheduler: the address of a Dask cluster's scheduler, whose workers are used instead of processes here; they
            must see `folder` and `data_root` under the same paths.

    Raises:
        ZooError: the device is not there, the manifest or the folder does not fit, the disk has no room, or the worker
            of a shard died each time; all other shards are complete then.
    """
    began = time.monotonic()
    folder = folder.absolute()  # the workers of a cluster stand elsewhere
    data_root = data_root.absolute() if data_root else None
    manifest = read_manifest(manifest_path)
    extent = store.Extent.of(manifest)
    _check_room(folder, extent, done=commit.complete_shards(folder) if (folder / "models").exists() else [])
    if scheduler is None:
        check_device(device)
    data_sha256 = load_image_data(manifest.data, data_root=data_root).sha256()
    if repair:
        _take_damage_away(folder, manifest_path, data_sha256=data_sha256, device=device)
    forms = store.NO_FORMS if (folder / "manifest.toml").exists() else choose_forms(manifest, device=device)
    kind = device.split(":", maxsplit=1)[0]
    store.create(folder, manifest_path, data_sha256=data_sha256, device=kind, forms=forms)
    made = store.attributes(folder)
    extent = store.extent_of(manifest, made)
    if made["data_sha256"] != data_sha256:
        raise ZooError(f"{folder}: was made from other image data; expected the images of its data_sha256 again")
    complete = set(commit.complete_shards(folder)).intersection(range(extent.n_shards))
    blocks = _blocks(manifest, extent, part, device=device)
    ours = [shard for shards in blocks for shard in shards]
    pending = [shard for shard in ours if shard not in complete]
    blocks = [shards for shards in blocks if not complete.issuperset(shards)]
    n_models = {shard: _length(extent.models(shard)) for shard in ours}
    lost: list[list[int]] = []
    trained = diverged = 0
    task = partial(train_shards, folder, device=device, data_root=data_root)
    processes = count_processes(workers, len(pending), device=device)
    bar = tqdm(
        total=sum(n_models.values()),
        initial=sum(n_models[shard] for shard in complete.intersection(ours)),
        desc=manifest.name,
        unit="model",
        disable=None,
    )
    with (
        warnings.catch_warnings(),
        cluster(scheduler) as client,
        closing(train_all(task, blocks, lost, processes=processes, client=client)) as results,
        bar,
    ):
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
        atomic.tidy(folder)
    return Summary(trained, len(pending), extent.n_shards, diverged, time.monotonic() - began)


def _take_damage_away(folder: Folder, manifest_path: Folder, *, data_sha256: str, device: str) -> None:
    """Mend what the store says of itself, and uncommit the shards that are damaged."""
    from zoo_gen.zoo.verify import verify

    kept, kind = folder / "manifest.toml", device.split(":", maxsplit=1)[0]
    if not kept.exists() and not (folder / checksums.NAME).exists():
        return  # no zoo yet
    if checksums.findings(folder):
        expected = _expected_files(folder, manifest_path, data_sha256=data_sha256, device=kind)
        for name in checksums.mend(folder, expected):
            _logger.warning("%s: was damaged and is mended", folder / name)
    for shard in verify(folder, sample=0).damaged_shards:
        _logger.warning("%s: shard %d is damaged and is made anew", folder, shard)
        commit.uncommit(folder, shard)


def _expected_files(folder: Folder, manifest_path: Folder, *, data_sha256: str, device: str) -> dict[str, bytes]:
    """Return the files that a zoo was begun with, path -> content.

    The forms of its convolutions are those that it says, if they are not what is damaged, or else chosen as then.
    """
    said, found = store.recorded_forms(folder), dict[str, bytes]()
    for forms in ([] if said is None else [said]) + [choose_forms(read_manifest(manifest_path), device=device)]:
        found = store.fixed_files(manifest_path, data_sha256=data_sha256, device=device, forms=forms)
        if checksums.agree(folder, found):
            break
    return found


def _blocks(manifest: ZooManifest, extent: store.Extent, part: tuple[int, int], *, device: str) -> list[list[int]]:
    """Return the shards of one part of a zoo, in blocks that are trained together.

    A GPU is full only with many models; on a CPU a shard at a time loses least to an interruption. Which shards are
    trained together never depends on what is complete, because on a GPU the last bits may depend on it.
    """
    at_once = 1
    if device != "cpu":
        at_once = max(1, models_on_device(manifest, device=device)[0] // extent.models_per_shard)
    blocks = [list(range(extent.n_shards))[start : start + at_once] for start in range(0, extent.n_shards, at_once)]
    number, parts = part
    return blocks[number - 1 :: parts]


def train_shards(folder: Folder, shards: list[int], *, device: str = "cpu", data_root: Path | None = None) -> list[int]:
    """Train shards of the zoo in `folder` together and write those that are not complete.

    Returns:
        The shards, which are complete now.
    """
    from zoo_gen.population.cpu.convolutions import check
    from zoo_gen.population.train import single_threaded, train

    check_device(device)  # a cluster's worker may stand where there is none
    manifest = read_manifest(folder / "manifest.toml")
    made = store.attributes(folder)
    extent, forms = store.extent_of(manifest, made), made.get("forms", store.NO_FORMS)
    slices = [extent.models(shard) for shard in shards]
    if set(shards) <= set(commit.complete_shards(folder)):  # by another run, or by a worker that could not answer
        return shards
    if device == "cpu":
        check(forms)
    table = grid.table_of_models(manifest)
    with single_threaded():
        found = train(
            manifest.architecture,
            load_image_data(manifest.data, data_root=data_root),
            pa.concat_tables(table.slice(models.start, _length(models)) for models in slices),
            training_settings(manifest, device=device, forms=forms),
            checkpoint_epochs=manifest.checkpoint_epochs,
        )
    complete = set(commit.complete_shards(folder))
    kind, start = device.split(":", maxsplit=1)[0], 0
    for shard, models in zip(shards, slices, strict=True):
        rows = slice(start, start + _length(models))
        start = rows.stop
        if shard in complete:
            continue
        arrays = {name: values[rows] for name, values in found.arrays.items()}
        commit.write_shard(folder, manifest, shard, arrays, diverged=found.diverged[rows], device=kind)
    return shards


def _outcome(folder: Folder, shard: int) -> list[str]:
    """Return what became of each model of a complete shard: "complete" or "diverged"."""
    content = pa.BufferReader(commit.part_path(folder, shard).read_bytes())
    return pq.read_table(content, columns=["status"])["status"].to_pylist()


def _length(models: slice) -> int:
    return models.stop - models.start


def _check_room(folder: Folder, extent: store.Extent, *, done: list[int]) -> None:
    """Refuse a run whose shards may not fit on the disk, before any time is spent; an object store has room."""
    if isinstance(folder, Remote):
        return
    pending = extent.n_models - sum(_length(extent.models(shard)) for shard in done if shard < extent.n_shards)
    needed = pending * extent.bytes_per_model
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise ZooError(
            f"{folder}: the disk has no room; {pending} models need {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free"
        )
