"""The cost of a run before it is run: models, steps, bytes and files by counting, seconds from timed steps.

Steps are timed on random images of the right shape, so that a plan needs no data.
"""

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo_gen import store
from zoo_gen.engine.settings import choose_forms, models_on_device, training_settings
from zoo_gen.machine import devices
from zoo_gen.machine.memory import freed_memory_kept
from zoo_gen.machine.workers import count_processes
from zoo_gen.manifest import ZooManifest, grid

if TYPE_CHECKING:
    from zoo_gen.population.population import Population

_TIMED_IMAGES = 2048


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

    workers: int
    seconds: float


@dataclass(frozen=True)
class OnDevice:
    """What a GPU trains at once."""

    models: int
    bytes: int  # that they take
    total: int  # bytes of the GPU


def plan(manifest: ZooManifest) -> Cost:
    """Return the cost of a zoo by counting."""
    extent = store.Extent.of(manifest)
    steps = sum(count * _steps(manifest, *kind) for kind, count in _kinds(manifest).items())
    return Cost(
        models=extent.n_models,
        shards=extent.n_shards,
        models_per_shard=extent.models_per_shard,
        checkpoints=extent.n_checkpoints,
        parameters=extent.n_parameters,
        steps=manifest.training.epochs * steps,
        bytes=extent.n_models * extent.bytes_per_model,
        files=_count_files(extent),
    )


def estimate(manifest: ZooManifest, *, workers: int | None = None, device: str = "cpu") -> Time:
    """Return how long a zoo takes, from timed steps and evaluations of each kind of population."""
    extent = store.Extent.of(manifest)
    processes = count_processes(workers, extent.n_shards, device=device)
    seconds = sum(count * _time_model(manifest, *kind, device=device) for kind, count in _kinds(manifest).items())
    rounds = -(-extent.n_shards // processes)
    return Time(processes, seconds / extent.n_shards * rounds)


def on_device(manifest: ZooManifest, *, device: str) -> OnDevice:
    """Return how many models a GPU trains at once, and what they take.

    Raises:
        ZooError: not one fits.
    """
    from zoo_gen.population.gpu import memory

    at_once, each = models_on_device(manifest, device=device)
    models = min(at_once, store.Extent.of(manifest).n_models)
    return OnDevice(models, models * each, memory.room(device).total)


def _kinds(manifest: ZooManifest) -> Counter[tuple[int, int]]:
    """Return how many models have each (batch size, number of training images)."""
    models = grid.table_of_models(manifest).to_pydict()
    n_train = manifest.data.n_train
    fractions = models.get("train_fraction", [1.0] * len(models["seed"]))
    return Counter(
        (batch, max(1, round(fraction * n_train)))
        for batch, fraction in zip(models["batch_size"], fractions, strict=True)
    )


def _steps(manifest: ZooManifest, batch_size: int, n_train: int) -> int:
    """Return the steps of one epoch of one model."""
    whole, rest = divmod(n_train, batch_size)
    return whole + (rest > 0 and not manifest.training.drop_last)


def _count_files(extent: store.Extent) -> int:
    """Count the files of a complete zoo: a shard has one an array and its Parquet part."""
    arrays = len(extent.arrays())
    # Beside the shards: README.md, manifest.toml, SHA256SUMS, the group's zarr.json, one an array, and the epochs.
    return extent.n_shards * (arrays + 1) + 4 + arrays + 2


def _time_model(manifest: ZooManifest, batch_size: int, n_train: int, *, device: str) -> float:
    """Return the seconds that a model of one kind takes in a population of its like, its share of them."""
    from zoo_gen.population.train import populations, single_threaded

    table = grid.table_of_models(manifest).slice(0, store.Extent.of(manifest).models_per_shard)
    columns = {"batch_size": batch_size, "train_fraction": 1.0}
    for name, value in columns.items():
        if name in table.column_names:
            position = table.column_names.index(name)
            table = table.set_column(position, name, [[value] * len(table)])
    data = manifest.data.stand_in(n_images=max(batch_size, _TIMED_IMAGES))
    settings = training_settings(manifest, device=device, forms=choose_forms(manifest, device=device))
    with single_threaded(), freed_memory_kept(), devices.current(device):
        _, population = next(populations(manifest.architecture, data, table, settings))
        n_models = len(population)
        step, evaluation = _time_steps(population), _time_evaluation(population) / population.task.n_train
    measured = manifest.checkpoints.train_images
    n_evaluated = min(n_train, n_train if measured == "all" else measured)
    images = len(manifest.checkpoint_epochs) * (n_evaluated + manifest.data.n_validation + manifest.data.n_test)
    steps = manifest.training.epochs * _steps(manifest, batch_size, n_train)
    return (steps * step + images * evaluation) / n_models


def _time_steps(population: "Population") -> float:
    """Return the seconds of one step, its share of the data order included."""
    population.train_epoch(1)  # the first one also allocates, and compiles what a GPU runs
    began = time.perf_counter()
    for epoch in range(2, 1000):
        population.train_epoch(epoch)
        float(population.running()["running_loss"].sum())  # a GPU is ready only when its numbers can be read
        if time.perf_counter() - began > 1.0:
            break
    return (time.perf_counter() - began) / ((epoch - 1) * population.steps_per_epoch)


def _time_evaluation(population: "Population") -> float:
    """Return the seconds of one evaluation of the training images."""
    began = time.perf_counter()
    float(population.evaluate("train")["loss"].sum())
    return time.perf_counter() - began
