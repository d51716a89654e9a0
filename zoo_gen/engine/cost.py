"""The cost of a run before it is run: models, steps, bytes and files by counting, seconds from timed steps.

Steps are timed on random images of the right shape, so that a plan reads none.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo_gen import store
from zoo_gen.engine import seconds
from zoo_gen.engine.blocks import blocks
from zoo_gen.engine.settings import models_on_device
from zoo_gen.machine.devices import resolve
from zoo_gen.machine.workers import count_processes
from zoo_gen.manifest import ZooManifest, grid
from zoo_gen.store.unfinished import SAVE_SECONDS

_WRITTEN = 1.5e8  # bytes that a core compresses and writes in a second


@dataclass(frozen=True)
class Cost:
    """The cost of a zoo as a whole."""

    models: int
    shards: int
    models_per_shard: int
    checkpoints: int
    parameters: int  # of one model; of the largest where they differ
    architectures: int
    steps: int  # optimiser steps, summed over the models
    bytes: int  # weights and metrics, uncompressed
    files: int


@dataclass(frozen=True)
class Time:
    """How long a zoo takes."""

    workers: int  # processes, or GPUs
    seconds: float
    at_risk: float  # seconds of work that a process loses at most when it is interrupted
    models_at_risk: int  # that it trains together


@dataclass(frozen=True)
class OnDevice:
    """What a GPU trains at once."""

    models: int
    bytes: int  # that they take
    total: int  # bytes of the GPU


def plan(manifest: ZooManifest) -> Cost:
    """Return the cost of a zoo by counting."""
    extent = store.Extent.of(manifest)
    batch_sizes, n_train = seconds.kinds(manifest, grid.table_of_models(manifest))
    return Cost(
        models=extent.n_models,
        shards=extent.n_shards,
        models_per_shard=extent.models_per_shard,
        checkpoints=extent.n_checkpoints,
        parameters=extent.n_parameters,
        architectures=len(manifest.networks),
        steps=manifest.training.epochs * int(seconds.steps(manifest, batch_sizes, n_train).sum()),
        bytes=_count_bytes(manifest, extent),
        files=_count_files(extent),
    )


def estimate(manifest: ZooManifest, *, workers: int | None = None, device: str = "cpu") -> Time:
    """Return how long a zoo takes, from timed steps and evaluations of some of its populations.

    Raises:
        ZooError: a device is not there, or not one model fits.
    """
    extent, devices = store.Extent.of(manifest), resolve(device)
    tasks = blocks(manifest, extent, range(extent.n_shards), devices=devices)
    processes = min(len(devices), len(tasks)) if device != "cpu" else count_processes(workers, len(tasks))
    models = grid.table_of_models(manifest)
    rows = [np.concatenate([np.arange(extent.n_models)[extent.models(shard)] for shard in task]) for task in tasks]
    each, start = seconds.of_models(manifest, models, rows, device=devices[0])
    each = each + extent.bytes_per_model / _WRITTEN
    of_tasks = [float(each[some].sum()) for some in rows]
    longest = int(np.argmax(of_tasks))
    # What is trained together is saved after the first epoch that ends later than this.
    saved = SAVE_SECONDS + of_tasks[longest] / manifest.training.epochs
    at_risk = min(of_tasks[longest], saved)
    return Time(processes, start + _makespan(of_tasks, processes), at_risk, len(rows[longest]))


def _makespan(tasks: Sequence[float], processes: int) -> float:
    """Return when the last of some tasks is done, if each process takes the next one as soon as it is free."""
    free = [0.0] * processes
    for one in tasks:
        heapq.heappush(free, heapq.heappop(free) + one)
    return max(free)


def on_device(manifest: ZooManifest, *, device: str) -> OnDevice:
    """Return how many models each GPU trains at once, and what they take.

    Raises:
        ZooError: not one fits.
    """
    from zoo_gen.population.gpu import memory

    extent, devices = store.Extent.of(manifest), resolve(device)
    _, each = models_on_device(manifest, device=devices[0])
    tasks = blocks(manifest, extent, range(extent.n_shards), devices=devices)
    models = max(sum(map(extent.count, task)) for task in tasks)
    return OnDevice(models, models * each, memory.total(devices[0]))


def _count_bytes(manifest: ZooManifest, extent: store.Extent) -> int:
    """Count the bytes of the arrays of a complete zoo, uncompressed."""
    if manifest.sizes is None:
        return extent.n_models * extent.bytes_per_model
    measured = extent.n_models * sum(width for _, width in extent.metrics)
    return 4 * extent.n_checkpoints * (int(manifest.sizes.sum()) + measured)


def _count_files(extent: store.Extent) -> int:
    """Count the files of a complete zoo: a shard has one an array and its Parquet part."""
    arrays = len(extent.arrays())
    # Beside the shards: README.md, manifest.toml, SHA256SUMS, the group's zarr.json, one an array, and the epochs.
    # A mixed zoo has architectures.json too.
    return extent.n_shards * (arrays + 1) + 4 + arrays + 2 + (extent.row_elements is not None)
