"""Running a manifest: what a zoo still lacks, trained shard by shard.

A task is a folder and shard numbers; arrays never travel, each worker writes its own shards. The same call again does
only what is missing.
"""

import json
import logging
import shutil
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo_gen.architecture import own_module
from zoo_gen.architecture.own_module import Factory
from zoo_gen.engine.blocks import blocks, of_part
from zoo_gen.engine.growth import old_zoo, set_aside, tidy_up
from zoo_gen.engine.reuse import Copies, find_copies
from zoo_gen.engine.settings import check_own_functions, choose_forms
from zoo_gen.engine.worker import train_shards
from zoo_gen.errors import ZooError, check_number, shown
from zoo_gen.files import atomic, location
from zoo_gen.files.location import Folder
from zoo_gen.files.remote import Remote
from zoo_gen.image_data import FittedImages, load_image_data
from zoo_gen.image_data.unused_classes import unused_classes
from zoo_gen.machine.cluster import cluster
from zoo_gen.machine.device_workers import train_on_devices
from zoo_gen.machine.devices import kind_of, resolve
from zoo_gen.machine.progress import Bar, Watch, progress_bar
from zoo_gen.machine.workers import count_processes, train_all
from zoo_gen.manifest import ZooManifest, as_manifest
from zoo_gen.store import EmptyZoo, Extent, Store, checksums, image_labels, untrained
from zoo_gen.store.create import MANIFEST
from zoo_gen.store.image_labels import IMAGE_LABELS
from zoo_gen.store.shards import shards_of
from zoo_gen.store.unfinished import SAVE_SECONDS
from zoo_gen.zoo import card

if TYPE_CHECKING:
    from zoo_gen.machine.cluster import Client

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """What a run did."""

    trained_models: int
    copied_models: int
    trained_shards: int
    n_shards: int
    diverged_models: int
    seconds: float


def run(
    manifest: ZooManifest | str | Folder,
    folder: Folder,
    *,
    workers: int | None = None,
    device: str = "cpu",
    data_root: Path | None = None,
    repair: bool = False,
    part: tuple[int, int] = (1, 1),
    scheduler: str | None = None,
    progress: bool = True,
    reuse: Sequence[Folder] = (),
    grow: bool = False,
    save_seconds: float = SAVE_SECONDS,
) -> Summary:
    """Train the shards of a zoo that are not complete yet and write them to `folder`.

    The arguments are those of `zoo_gen.run`, but for these.

    Args:
        manifest: itself, its path or URL, or the name of one that comes with the package.
        folder: where the zoo is, or will be; at a URL, workers need the same access to it.
        scheduler: the address of a Dask cluster's scheduler, whose workers are used instead of processes here; they
            must see `folder` and `data_root` under the same paths. "cuda" is then the first GPU that a worker sees.

    Raises:
        ZooError: a device is not there, the manifest or the folder does not fit, the disk has no room, or the worker
            of a shard died each time; all other shards are complete then.
    """
    began = time.monotonic()
    folder = folder.absolute()  # the workers of a cluster stand elsewhere
    data_root = data_root.absolute() if data_root else None
    manifest = as_manifest(manifest, data_root=data_root)
    _check_numbers(workers, part, save_seconds)
    _check_room(folder, manifest)
    check_own_functions(manifest)
    devices = _devices(device, scheduler)
    beginning = partial(
        untrained,
        manifest,
        **_facts_of_data(manifest, folder, data_root=data_root),
        device=kind_of(devices[0]),
    )
    forms = choose_forms(manifest, device=devices[0])
    with cluster(scheduler) as client:  # before anything is made: it may not be there
        if repair:
            _remove_damage(folder, [beginning(forms=forms), beginning(forms=_recorded_forms(folder))])
        empty = beginning(forms=forms)
        old = old_zoo(folder, empty) if grow else None
        reuse = [*(other.absolute() for other in reuse), *([old] if old else [])]
        copies = None
        if reuse:
            is_new = old == folder or not (folder / MANIFEST).exists()
            copies = _find_copies(reuse, empty, checked=of_part(empty.extent, part) if is_new else ())
        if isinstance(folder, Path) and old == folder:
            reuse[-1] = set_aside(folder)
        store = Store.create(folder, empty)
        extent = store.extent
        if store.attributes["data_sha256"] != empty.attributes["data_sha256"]:
            raise ZooError(f"{folder}: was made from other image data; expected the images of its data_sha256 again")
        (complete, begun), ours = map(set, store.shards_on_disk()), of_part(extent, part)
        pending = [shard for shard in ours if shard not in complete]
        copied = sum(copies.copied(extent.models(shard)) for shard in pending) if copies else 0
        tasks = blocks(manifest, extent, ours, pending=pending, begun=begun, devices=devices, here=scheduler is None)
        task = partial(
            train_shards,
            folder,
            data_root=data_root,
            run=uuid.uuid4().hex,
            factories=_of_a_script(manifest) if pending else (),
            code=own_module.folders_of(_references(manifest)) if pending else (),
            reuse=tuple(reuse),
            begun=None if isinstance(folder, Path) else frozenset(begun),
            save_seconds=save_seconds,
        )
        bar = progress_bar(
            label=manifest.name,
            unit="model",
            total=sum(map(extent.count, ours)),
            done=sum(map(extent.count, complete.intersection(ours))),
            shown=progress,
        )
        processes = count_processes(workers, len(pending))
        diverged, lost = _train(task, tasks, extent, bar, devices=devices, processes=processes, client=client)
    if lost:
        raise ZooError(_why_lost(folder, lost, by_processes=scheduler is not None or device == "cpu"))
    if pending or not card.is_written(folder):
        card.write(store)
    if card.is_written(folder):
        atomic.tidy(folder)
        if grow:
            tidy_up(folder)
    return Summary(
        trained_models=sum(map(extent.count, diverged)) - copied,
        copied_models=copied,
        trained_shards=len(pending),
        n_shards=extent.n_shards,
        diverged_models=sum(diverged.values()),
        seconds=time.monotonic() - began,
    )


def _train(
    task: Callable[..., dict[int, int]],
    tasks: list[list[int]],
    extent: Extent,
    bar: Bar,
    *,
    devices: tuple[str, ...],
    processes: int,
    client: "Client | None",
) -> tuple[dict[int, int], list[list[int]]]:
    """Train blocks of shards.

    Returns:
        How many models diverged of each shard that is complete now, and the blocks that nobody could train.
    """
    diverged: dict[int, int] = {}
    lost: list[list[int]] = []
    with (
        warnings.catch_warnings(),
        tempfile.TemporaryDirectory(prefix="zoo-gen-") if client is None else nullcontext() as reports,
        bar,
        Watch(bar, Path(reports) if reports else None) as watch,
    ):
        # joblib warns when an interruption meets us between two results; who interrupted knows.
        warnings.filterwarnings("ignore", ".*still being processed by the workers")
        task = partial(task, reports=reports)
        if client is None and devices != ("cpu",):
            results = train_on_devices(task, tasks, lost, devices=devices)
        else:
            task = partial(task, device=devices[0])
            results = train_all(task, tasks, lost, processes=processes, client=client)
        with closing(results):
            for diverged_of in results:
                watch.complete(sum(map(extent.count, diverged_of)), min(diverged_of))
                diverged |= diverged_of
    return diverged, lost


def _find_copies(reuse: Sequence[Folder], empty: EmptyZoo, *, checked: Iterable[int]) -> Copies:
    """Return the models that other zoos hold, and say how many there are.

    Those of the shards `checked` are read: a run that would be refused on the way is refused before it makes anything.
    """
    manifest = empty.manifest.generated
    assert manifest is not None  # of a run
    copies = find_copies(reuse, manifest, empty.attributes)
    copies.check(model for shard in checked for model in range(manifest.n_models)[empty.extent.models(shard)])
    _logger.warning("%s: %s", manifest.name, copies.sentence())
    return copies


def _facts_of_data(manifest: ZooManifest, folder: Folder, *, data_root: Path | None) -> dict[str, Any]:
    """Return the digest of a manifest's data, and the labels of images that are fitted, as `untrained` takes them.

    Where its zoo is complete and they are not here, it is what the zoo says of them.

    Raises:
        ZooError: they cannot be read, and there is something to train.
    """
    try:
        data = load_image_data(manifest.data, data_root=data_root)
        if line := unused_classes(manifest.data, data):
            _logger.warning("%s: %s", manifest.name, line)
        labels = image_labels.described(data.labels, data.classes) if isinstance(data, FittedImages) else None
        return {"data_sha256": data.sha256(), IMAGE_LABELS: labels}
    except ZooError as error:
        if not (folder / MANIFEST).exists():
            raise
        store = Store.open(folder)
        if store.manifest.digest != manifest.digest or len(store.complete_shards()) < store.extent.n_shards:
            raise
        _logger.warning("%s: is complete; its images were not looked at (%s)", folder, error)
        return {name: store.attributes.get(name) for name in ("data_sha256", IMAGE_LABELS)}


def _references(manifest: ZooManifest) -> list[str]:
    """Return the references of a manifest to functions and classes of somebody's own."""
    modules = [network.own_module.reference for network in manifest.networks.values() if network.own_module is not None]
    return [*manifest.own_functions, *dict.fromkeys(modules)]


def _of_a_script(manifest: ZooManifest) -> tuple[Factory, ...]:
    """Return the classes and functions of a manifest that workers cannot import, as a script or notebook has them."""
    return tuple(own_module.resolve(each) for each in _references(manifest) if each.startswith("__main__:"))


def _why_lost(folder: Folder, blocks: list[list[int]], *, by_processes: bool) -> str:
    """Return the line about shards that nobody could train, though all others are complete."""
    numbers = ", ".join(str(shard) for block in blocks for shard in block)
    reason = (
        f"the worker of shard {numbers} died three times, the last time with no other at work, as happens without "
        "enough memory; expected smaller shards or more memory"
        if by_processes
        else f"no GPU could train shard {numbers}, as said above"
    )
    return f"{folder}: {reason}; all other shards are complete, the same command tries again"


def _remove_damage(folder: Folder, beginnings: list[EmptyZoo]) -> None:
    """Restore the files that no shard has, and uncommit the shards that are damaged.

    Args:
        folder: the zoo.
        beginnings: what the zoo may have been before its first shard.
    """
    from zoo_gen.zoo.verify import verify

    if not (folder / MANIFEST).exists() and not (folder / checksums.NAME).exists():
        return  # no zoo yet
    if checksums.findings(folder):
        files = [empty.files() for empty in beginnings]
        expected = next((contents for contents in files if checksums.agree(folder, contents)), files[0])
        for name in checksums.restore(folder, expected):
            _logger.warning("%s: was damaged and is restored", folder / name)
    store = Store.open(folder)
    for shard in verify(folder, sample=0).damaged_shards:
        _logger.warning("%s: shard %d is damaged and is made again", folder, shard)
        store.uncommit(shard)


def _recorded_forms(folder: Folder) -> dict[str, str]:
    """Return the forms of convolutions that a zoo says it was begun with, which may be damaged; none if unreadable."""
    try:
        forms = json.loads((folder / "weights.zarr" / "zarr.json").read_bytes())["attributes"]["forms"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return forms if isinstance(forms, dict) else {}


def _check_numbers(workers: int | None, part: tuple[int, int], save_seconds: float) -> None:
    """Refuse numbers that the command refuses."""
    if workers is not None:
        check_number("workers", workers, least=1)
    is_pair = isinstance(part, Sequence) and len(part) == 2 and all(isinstance(number, Integral) for number in part)
    if not is_pair or not 1 <= part[0] <= part[1]:
        raise ZooError(f"part is {shown(part)}; expected (i, n) with i from 1 to n, such as (3, 16)")
    check_number("save_seconds", save_seconds, least=0, whole=False)


def _devices(device: str, scheduler: str | None) -> tuple[str, ...]:
    """Return the devices that train: those of this machine, or what each worker of a cluster calls its own."""
    if scheduler is None:
        return resolve(device)
    if "," in device:
        raise ZooError(
            f"device {device!r}: each worker of a cluster has one GPU; expected cuda, and CUDA_VISIBLE_DEVICES there"
        )
    return (device,)


def _check_room(folder: Folder, manifest: ZooManifest) -> None:
    """Refuse a run whose shards may not fit on the disk, before any time is spent; an object store has room."""
    if isinstance(folder, Remote):
        return
    extent = Extent.of(manifest)
    done = shards_of(location.names(folder / "models")) if (folder / "models").exists() else []
    pending = extent.n_models - sum(extent.count(shard) for shard in done if shard < extent.n_shards)
    needed = pending * extent.bytes_per_model
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise ZooError(
            f"{folder}: the disk has no room; {pending} models need {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free"
        )
