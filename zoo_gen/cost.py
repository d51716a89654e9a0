"""What a run will cost, before it is run: models, steps, bytes and files by counting, seconds from a timed step."""

import time
from dataclasses import dataclass

from zoo_gen import grid, store
from zoo_gen.engine import count_processes
from zoo_gen.image_data import load_image_data
from zoo_gen.manifest import ZooManifest


@dataclass(frozen=True)
class Cost:
    """The cost of a zoo as a whole."""

    models: int
    shards: int
    models_per_shard: int
    checkpoints: int
    parameters: int  # of one model
    steps: int  # optimiser steps, summed over the models
    bytes: int  # weights and metrics, uncompressed
    files: int
    workers: int
    seconds: float


def plan(manifest: ZooManifest, *, workers: int | None = None) -> Cost:
    """Return the cost of a zoo; nothing is written.

    One step and one evaluation of the first shard are timed on one core and multiplied out over the workers.
    """
    extent = store.Extent.of(manifest)
    images = manifest.data.n_train
    steps_per_epoch = -(-images // manifest.training.batch_size)
    processes = count_processes(workers, extent.n_shards)
    shard_seconds = _time_shard(manifest, extent, steps_per_epoch)
    rounds = -(-extent.n_shards // processes)
    # The last shard may hold fewer models; with one round of shards it still decides when the run ends.
    share = extent.n_models / (extent.n_shards * extent.models_per_shard)
    return Cost(
        models=extent.n_models,
        shards=extent.n_shards,
        models_per_shard=extent.models_per_shard,
        checkpoints=extent.n_checkpoints,
        parameters=extent.n_parameters,
        steps=extent.n_models * manifest.training.epochs * steps_per_epoch,
        bytes=extent.n_models * extent.bytes_per_model,
        files=_count_files(extent),
        workers=processes,
        seconds=shard_seconds * rounds * share,
    )


def _count_files(extent: store.Extent) -> int:
    """Count the files of a complete zoo: a shard has one an array and its Parquet part."""
    arrays = len(extent.arrays())
    # Beside the shards: README.md, manifest.toml, the group's zarr.json, one zarr.json an array, and the epochs.
    return extent.n_shards * (arrays + 1) + 3 + arrays + 2


def _time_shard(manifest: ZooManifest, extent: store.Extent, steps_per_epoch: int) -> float:
    """Return the seconds that the first shard takes on one core."""
    from zoo_gen.population.train import Population, single_threaded

    models = grid.table_of_models(manifest).slice(0, extent.models_per_shard)
    data = load_image_data(manifest.data)
    with single_threaded():
        population = Population(manifest.architecture, data, models, batch_size=manifest.training.batch_size)
        batches = population.batches(1)
        population.step(next(batches))  # the first step also allocates
        began = time.perf_counter()
        timed = 0
        for images in batches:
            population.step(images)
            timed += 1
            if time.perf_counter() - began > 1.0:
                break
        step = (time.perf_counter() - began) / timed if timed else 0.0
        began = time.perf_counter()
        population.evaluate()
        evaluation = time.perf_counter() - began
        began = time.perf_counter()
        next(population.batches(2))
        order = time.perf_counter() - began
    return manifest.training.epochs * (order + steps_per_epoch * step) + extent.n_checkpoints * evaluation
