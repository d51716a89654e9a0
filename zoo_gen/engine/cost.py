"""The cost of a run before it is run: models, steps, bytes and files by counting, seconds from timed steps.

Steps are timed on random images of the right shape, so that a plan needs no data.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from zoo_gen import store
from zoo_gen.engine import timing
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
    parameters: int  # of one model
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
    batch_sizes, n_train = _kinds(manifest, grid.table_of_models(manifest))
    return Cost(
        models=extent.n_models,
        shards=extent.n_shards,
        models_per_shard=extent.models_per_shard,
        checkpoints=extent.n_checkpoints,
        parameters=extent.n_parameters,
        steps=manifest.training.epochs * int(_steps(manifest, batch_sizes, n_train).sum()),
        bytes=extent.n_models * extent.bytes_per_model,
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
    speed = timing.measure(manifest, models, rows, device=devices[0])
    each = _seconds_of_models(manifest, models, speed) + extent.bytes_per_model / _WRITTEN
    seconds = [float(each[some].sum()) for some in rows]
    longest = int(np.argmax(seconds))
    # What is trained together is saved after the first epoch that ends later than this.
    saved = SAVE_SECONDS + seconds[longest] / manifest.training.epochs
    at_risk = min(seconds[longest], saved)
    return Time(processes, speed.start + _makespan(seconds, processes), at_risk, len(rows[longest]))


def _seconds_of_models(manifest: ZooManifest, models: pa.Table, speed: timing.Speed) -> np.ndarray:
    """Return the seconds that training takes of each model, its share of what is trained together."""
    batch_sizes, n_train = _kinds(manifest, models)
    measured = manifest.checkpoints.train_images
    n_evaluated = n_train if measured == "all" else np.minimum(n_train, measured)
    images = len(manifest.checkpoint_epochs) * (n_evaluated + manifest.data.n_validation + manifest.data.n_test)
    steps = manifest.training.epochs * _steps(manifest, batch_sizes, n_train)
    return speed.beginning + steps * speed.step(batch_sizes) + images * speed.evaluation


def _makespan(seconds: Sequence[float], processes: int) -> float:
    """Return when the last of some tasks is done, if each process takes the next one as soon as it is free."""
    free = [0.0] * processes
    for one in seconds:
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


def _kinds(manifest: ZooManifest, models: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return the batch size of each model, and the number of its training images."""
    fractions = models["train_fraction"].to_numpy() if "train_fraction" in models.column_names else 1.0
    n_train = np.maximum(1, np.rint(fractions * manifest.data.n_train)).astype(np.int64)
    return models["batch_size"].to_numpy().astype(np.int64), np.broadcast_to(n_train, len(models))


def _steps(manifest: ZooManifest, batch_sizes: np.ndarray, n_train: np.ndarray) -> np.ndarray:
    """Return the steps of one epoch of each model."""
    whole, rest = np.divmod(n_train, batch_sizes)
    return whole + ((rest > 0) & (not manifest.training.drop_last))


def _count_files(extent: store.Extent) -> int:
    """Count the files of a complete zoo: a shard has one an array and its Parquet part."""
    arrays = len(extent.arrays())
    # Beside the shards: README.md, manifest.toml, SHA256SUMS, the group's zarr.json, one an array, and the epochs.
    return extent.n_shards * (arrays + 1) + 4 + arrays + 2
