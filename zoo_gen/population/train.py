"""Training of one shard: models grouped into populations that share a computation, then weights and metrics."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from zoo_gen.architecture import registry
from zoo_gen.architecture.network import BUFFERS, Network
from zoo_gen.architecture.registry import Architecture
from zoo_gen.image_data import Data
from zoo_gen.machine import devices
from zoo_gen.machine.memory import freed_memory_kept
from zoo_gen.population.columns import KINDS
from zoo_gen.population.cpu import convolutions
from zoo_gen.population.gpu import memory
from zoo_gen.population.population import Population, TrainingSettings
from zoo_gen.population.tasks import Task, make_task


@dataclass(frozen=True)
class Trajectories:
    """Weights and metrics of the models of a shard at every checkpoint, on the host."""

    arrays: dict[str, np.ndarray]  # name -> float32 (model, checkpoint, ...); see `store.Extent.arrays`
    diverged: np.ndarray  # bool (model,)


@freed_memory_kept()
def train(
    architecture: Architecture,
    data: Data,
    models: pa.Table,
    settings: TrainingSettings,
    *,
    checkpoint_epochs: Sequence[int],
    weights: Tensor | None = None,
) -> Trajectories:
    """Train all models of the table and return weights and metrics at the given epochs (0 is before training).

    A model whose weights or training loss stop being finite is diverged: its values are NaN from the first such
    checkpoint on. The others continue unchanged.

    Args:
        architecture: of every model.
        data: the images, or the points of curves.
        models: a row a model, with its hyper-parameters as columns.
        settings: what is the same for all of them.
        checkpoint_epochs: the epochs to return, rising.
        weights: initial weights (model, parameter); drawn from the models' seeds if not given.
    """
    diverged = np.zeros(len(models), dtype=bool)
    arrays: dict[str, np.ndarray] = {}
    with devices.current(settings.device):
        for rows, population in populations(architecture, data, models, settings, weights=weights):
            checkpoint = 0
            lost = np.zeros(len(rows), dtype=bool)
            for epoch in range(settings.epochs + 1):
                if epoch > 0:
                    population.train_epoch(epoch)
                if epoch not in checkpoint_epochs:
                    continue
                state = _state(population, data.parts)
                lost |= ~(np.isfinite(state["weights"]).all(axis=1) & np.isfinite(state["train_loss"]))
                for name, values in state.items():
                    values[lost] = np.nan
                    shape = (len(models), len(checkpoint_epochs), *values.shape[1:])
                    arrays.setdefault(name, np.empty(shape, dtype=values.dtype))[rows, checkpoint] = values
                checkpoint += 1
            diverged[rows] = lost
    return Trajectories(arrays, diverged)


def populations(
    architecture: Architecture,
    data: Data,
    models: pa.Table,
    settings: TrainingSettings,
    *,
    weights: Tensor | None = None,
) -> Iterator[tuple[np.ndarray, Population]]:
    """Yield the populations that the models of a table are trained in, each with the rows (model,) of its models.

    What the models of one must share is the batch size and the number of training images. Arguments are those of
    `train`.
    """
    network = registry.network(architecture, data.input_shape, data.n_outputs)
    for rows, n_used in _groups(network, models, settings, n_train=data.n_train):
        own = None if weights is None else weights[torch.from_numpy(rows)]

        def task_of(some: pa.Table, n_used: int = n_used) -> Task:
            n_evaluated = min(settings.n_evaluated or n_used, n_used)
            return make_task(
                data, some, n_train=n_used, n_evaluated=n_evaluated, dtype=settings.dtype, device=settings.device
            )

        yield rows, Population(network, models.take(rows), settings, make_task=task_of, weights=own)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Use one thread of torch inside: a worker fills one core, and its sums do not depend on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _groups(
    network: Network, models: pa.Table, settings: TrainingSettings, *, n_train: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the rows (model,) of each population and the number of training images that its models see."""
    columns = models.to_pydict()
    fractions = columns.get("train_fraction", [1.0] * len(models))
    used = [max(1, round(fraction * n_train)) for fraction in fractions]
    keys = list(zip(columns["batch_size"], used, strict=True))
    kinds = [kind for kind in ("dropout", *KINDS) if kind in columns]
    for key in sorted(set(keys)):
        rows = [row for row in range(len(models)) if keys[row] == key]
        # Models of one kind then fall into one population where there are several.
        rows.sort(key=lambda row: tuple(str(columns[kind][row]) for kind in kinds))
        size = models_at_once(network, settings, batch_size=key[0], n_train=key[1])
        for start in range(0, len(rows), size):
            yield np.array(rows[start : start + size]), key[1]


def models_at_once(network: Network, settings: TrainingSettings, *, batch_size: int, n_train: int) -> int:
    """Return how many models a device trains at once: what a CPU's cache or a GPU's memory holds.

    Raises:
        ZooError: not one fits.
    """
    if not settings.device.startswith("cuda"):
        return convolutions.models_at_once(settings.forms) if network.has_convolution else 1024
    each = memory.bytes_per_model(network, batch_size=batch_size, n_train=n_train, precision=settings.kernels)
    free = memory.room(settings.device).free
    return memory.models_that_fit(free, each, batch_size=batch_size, device=settings.device)


def _state(population: Population, parts: Sequence[str]) -> dict[str, np.ndarray]:
    """Return weights and metrics of all models now, on the host, name -> (model, ...)."""
    state = {"weights": population.weights}
    if (buffers := population.buffers) is not None:
        state[BUFFERS] = buffers
    for part in parts:
        for name, values in population.evaluate(part).items():
            if name != "class_f1" or part == "test":
                state[f"{part}_{name}"] = values
    state |= population.running()
    return {name: tensor.cpu().numpy() for name, tensor in state.items()}
