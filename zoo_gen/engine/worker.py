"""The work of one process of a run: shards of a zoo trained, and written where they are not complete yet."""

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zoo_gen.architecture import own_module
from zoo_gen.architecture.own_module import Factory
from zoo_gen.engine.reuse import Copies, find_copies
from zoo_gen.engine.training import settings_of, train_models
from zoo_gen.files.location import Folder
from zoo_gen.image_data import load_image_data
from zoo_gen.machine.devices import check_device, kind_of
from zoo_gen.machine.progress import reporter
from zoo_gen.manifest import ZooManifest, read_manifest
from zoo_gen.store import Store
from zoo_gen.store.create import MANIFEST
from zoo_gen.store.shards import Arrays
from zoo_gen.store.unfinished import SAVE_SECONDS, Unfinished

_WRITERS = 4  # of the shards that a GPU trained together


def train_shards(
    folder: Folder,
    shards: list[int],
    *,
    device: str = "cpu",
    data_root: Path | None = None,
    run: str = "",
    reports: str | None = None,
    factories: tuple[Factory, ...] = (),
    code: tuple[str, ...] = (),
    reuse: tuple[Folder, ...] = (),
    begun: frozenset[int] | None = None,
    save_seconds: float = SAVE_SECONDS,
) -> dict[int, int]:
    """Train shards of the zoo in `folder` together and write those that are not complete.

    Args:
        folder: the zoo.
        shards: their numbers.
        device: "cpu", "cuda" or "cuda:N".
        data_root: where image data is looked for.
        run: a name of the run that this is a task of; a process opens the zoo once for all tasks of a run.
        reports: the folder in which the run looks for how far its tasks are.
        factories: the classes and functions that the manifest names and this process cannot import.
        code: the folders from which it can import the others.
        reuse: folders of zoos whose models are copied where they are the same.
        begun: at a URL, the shards at which a file says how far an interrupted run was; None: look.
        save_seconds: how often what the training has reached is written.

    Returns:
        For each of the shards, which are complete now, in their order: how many of its models diverged.
    """
    from zoo_gen.population.cpu.convolutions import check
    from zoo_gen.population.train import single_threaded

    for factory in factories:
        own_module.give(factory, trusted=True)
    own_module.search(code)
    check_device(device)  # a cluster's worker may stand where there is none
    manifest, store = _opened(folder, run) if run else _open(folder)
    forms, extent = store.attributes.get("forms", {}), store.extent
    missing = [shard for shard in shards if not store.is_complete(shard)]  # another run may have made some
    if device == "cpu":
        check(forms)
    settings = settings_of(manifest, device=device, forms=forms)
    report = reporter(Path(reports), min(shards)) if reports else None

    def train_rows(rows: pa.Table, unfinished: Unfinished) -> Arrays:
        data = load_image_data(manifest.data, data_root=data_root)
        return train_models(manifest, data, rows, settings, report=report, saves=unfinished)

    diverged = {shard: _count_diverged(store, shard) for shard in shards if shard not in missing}
    # Where torch's operations compute on a GPU, last bits may depend on what is trained together: a shard at a time.
    has_kernels = all(each.kernels for each in settings.values())
    for together in [missing] if has_kernels and missing else [[shard] for shard in missing]:
        rows = pa.concat_tables(manifest.rows(extent.models(shard)) for shard in together)
        copies = _copies(folder, reuse, run) if reuse else None
        models = (copies.missing(rows) if copies else rows)["model_id"].to_pylist()
        is_there = isinstance(folder, Path) or begun is None or min(together) in begun
        unfinished = Unfinished(
            folder,
            min(together),
            training=_training(store, models, device=device),
            seconds=save_seconds,
            is_there=is_there,
        )
        train_them = partial(train_rows, unfinished=unfinished)
        with single_threaded():
            arrays = copies.complete(rows, train_them) if copies else train_them(rows)

        def write(shard: int, arrays: Arrays = arrays, together: list[int] = together) -> int:
            before = sum(map(extent.count, together[: together.index(shard)]))
            values = {name: array[before : before + extent.count(shard)] for name, array in arrays.items()}
            if not store.is_complete(shard):
                store.write_shard(shard, values, device=kind_of(device))
            return sum(bool(np.isnan(of_model[-1]).any()) for of_model in values["weights"])  # NaN stays once it came

        with ThreadPoolExecutor(_WRITERS) as writers:  # compression leaves Python to others
            diverged |= zip(together, writers.map(write, together), strict=True)
        unfinished.remove()
    return {shard: diverged[shard] for shard in shards}


def _training(store: Store, models: list[int], *, device: str) -> dict[str, Any]:
    """Return all that the training of some models of a zoo follows from, as plain data."""
    return {
        "manifest": store.manifest.digest,
        "models": models,
        "forms": store.attributes.get("forms", {}),
        "device": kind_of(device),
        "versions": {name: version(name) for name in ("zoo-gen", "torch", "numpy")},
    }


def _open(folder: Folder) -> tuple[ZooManifest, Store]:
    manifest = read_manifest(folder / MANIFEST)
    return manifest, Store.open(folder, manifest=manifest)


@lru_cache(maxsize=1)
def _opened(folder: Folder, run: str) -> tuple[ZooManifest, Store]:
    """Return the zoo that a run trains; another run on the same folder may find another zoo there."""
    return _open(folder)


@lru_cache(maxsize=1)
def _copies(folder: Folder, reuse: tuple[Folder, ...], run: str) -> Copies:
    """Return what other zoos hold of the zoo that a run trains; a process looks once for all tasks of a run."""
    manifest, store = _opened(folder, run)
    return find_copies(reuse, manifest, store.attributes)


def _count_diverged(store: Store, shard: int) -> int:
    content = pa.BufferReader(store.part_path(shard).read_bytes())
    return pq.read_table(content, columns=["status"])["status"].to_pylist().count("diverged")
