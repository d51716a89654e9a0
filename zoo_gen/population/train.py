"""Training of shards: models grouped into populations that share a computation, then weights and metrics.

On a GPU the numbers of a checkpoint travel to the host while the next epoch trains.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from zoo_gen.architecture import registry
from zoo_gen.architecture.network import BUFFERS, Network
from zoo_gen.architecture.registry import Architecture
from zoo_gen.image_data import Data
from zoo_gen.machine import devices, mkl
from zoo_gen.machine.memory import freed_memory_kept
from zoo_gen.population.columns import KINDS
from zoo_gen.population.cpu import convolutions
from zoo_gen.population.gpu import memory
from zoo_gen.population.population import Population, TrainingSettings
from zoo_gen.population.reached import Reached, Saves
from zoo_gen.population.tasks import Task, make_task

_logger = logging.getLogger(__name__)


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
    report: Callable[[float], None] | None = None,
    saves: Saves | None = None,
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
        report: is told after every epoch how many models' worth of the work is done.
        saves: of this training: it resumes from what was written last, to the same bits.
    """
    network = registry.network(architecture, data.input_shape, data.n_outputs)
    settings = runnable(network, data, models, settings, weights=weights)
    if settings.device == "cpu":
        mkl.warn_if_products_depend_on_place()
    cuts: Iterable[tuple[np.ndarray, int]] = groups(network, models, settings, n_train=data.n_train)
    reached = Reached(len(models), len(checkpoint_epochs))
    if saves is not None and (values := saves.read()):
        cuts = list(cuts)
        reached.read(values, [rows for rows, _ in cuts])
    trained = 0
    with devices.current(settings.device):
        for number, (rows, n_used) in enumerate(cuts):
            if reached.is_complete(number):
                trained += len(rows)
                continue
            population = _population(network, data, models, settings, rows=rows, n_used=n_used, weights=weights)
            unread: _OnItsWay | None = None
            for epoch in range(reached.begin(number, rows, population), settings.epochs + 1):
                if epoch > 0:
                    population.train_epoch(epoch)
                    if report is not None:
                        report(trained + len(rows) * epoch / settings.epochs)
                if unread is not None:  # only now that the device has its next epoch
                    reached.keep(rows, unread.checkpoint, unread.read())
                    unread = None
                if epoch in checkpoint_epochs:
                    state = _state(population, data.parts)
                    unread = _OnItsWay(checkpoint_epochs.index(epoch), state)
                if saves is not None and saves.is_due():
                    if unread is not None:
                        reached.keep(rows, unread.checkpoint, unread.read())
                        unread = None
                    saves.write(reached.values(epoch, population))
            if unread is not None:
                reached.keep(rows, unread.checkpoint, unread.read())
            trained += len(rows)
    return Trajectories(reached.arrays, reached.diverged)


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
    settings = runnable(network, data, models, settings, weights=weights)
    for rows, n_used in groups(network, models, settings, n_train=data.n_train):
        yield rows, _population(network, data, models, settings, rows=rows, n_used=n_used, weights=weights)


def _population(
    network: Network,
    data: Data,
    models: pa.Table,
    settings: TrainingSettings,
    *,
    rows: np.ndarray,
    n_used: int,
    weights: Tensor | None,
) -> Population:
    """Return the population of some rows (model,) of a table, which sees the first `n_used` training images."""

    def task_of(some: pa.Table) -> Task:
        n_evaluated = min(settings.n_evaluated or n_used, n_used)
        return make_task(
            data, some, n_train=n_used, n_evaluated=n_evaluated, dtype=settings.dtype, device=settings.device
        )

    initial = None if weights is None else weights[torch.from_numpy(rows)]
    return Population(network, models.take(rows), settings, make_task=task_of, weights=initial)


def runnable(
    network: Network, data: Data, models: pa.Table, settings: TrainingSettings, *, weights: Tensor | None = None
) -> TrainingSettings:
    """Return the settings, without our kernels where a GPU does not run them; see `trial`.

    Raises:
        ZooError: as `trial.settings_that_run`.
    """
    if settings.kernels is None or settings.device == "cpu":
        return settings
    from zoo_gen.population.trial import rows_to_try, settings_that_run

    def batch_size(rows: np.ndarray) -> int:
        return int(models["batch_size"][int(rows[0])].as_py())

    def population_of(rows: np.ndarray) -> Population:
        n_used = min(data.n_train, 2 * batch_size(rows))
        return _population(network, data, models, settings, rows=rows, n_used=n_used, weights=weights)

    tried = [rows for rows in rows_to_try(models) if not is_resident(network, settings, batch_size=batch_size(rows))]
    with devices.current(settings.device):
        return settings_that_run(settings, tried, population_of=population_of)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Use one thread of torch inside: a worker fills one core, and its sums do not depend on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def groups(
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
        for some in _cut(rows, network, settings, batch_size=key[0], n_train=key[1]):
            yield np.array(some), key[1]


def _cut(
    rows: list[int], network: Network, settings: TrainingSettings, *, batch_size: int, n_train: int
) -> Iterator[list[int]]:
    """Cut models of one kind into what a device trains at once: what a CPU's cache or a GPU's memory holds.

    Raises:
        ZooError: a GPU has no memory for a single one.
    """
    if settings.device == "cpu":
        size = convolutions.models_at_once(settings.forms) if network.has_convolution else 1024
        yield from (rows[start : start + size] for start in range(0, len(rows), size))
        return
    room = memory.room(settings.device)
    each = bytes_on_device(network, settings, batch_size=batch_size, n_train=n_train)
    fitting = memory.models_that_fit(room.free, each, device=settings.device)
    parts = -(-len(rows) // fitting)
    if parts > 1:
        _logger.warning(
            "%s: %.1f of %.1f GB are free; %d models are trained in %d turns",
            *(settings.device, room.free / 1e9, room.total / 1e9, len(rows), parts),
        )
    yield from (rows[len(rows) * part // parts : len(rows) * (part + 1) // parts] for part in range(parts))


def bytes_on_device(network: Network, settings: TrainingSettings, *, batch_size: int, n_train: int) -> int:
    """Return what a model takes of a GPU's memory while it is trained."""
    taken = partial(memory.bytes_per_model, network, batch_size=batch_size, n_train=n_train, precision=settings.kernels)
    if settings.kernels is None or not is_resident(network, settings, batch_size=batch_size):
        return taken()
    from zoo_gen.population.gpu.resident.choice import bytes_outside

    outside = bytes_outside(network, batch_size=batch_size, precision=settings.kernels)
    return taken(resident=True) + outside


def is_resident(network: Network, settings: TrainingSettings, *, batch_size: int) -> bool:
    """Return whether each model lives in one multiprocessor of a GPU while it is trained."""
    if settings.kernels is None:
        return False
    from zoo_gen.population.gpu.resident.choice import serves

    return serves(network, batch_size=batch_size, precision=settings.kernels, device=settings.device)


class _OnItsWay:
    """Numbers of all models, name -> (model, ...), on their way to the host; `read` waits for them."""

    def __init__(self, checkpoint: int, state: dict[str, Tensor]) -> None:
        self.checkpoint = checkpoint
        self._state, self._arrived = state, None
        if all(tensor.is_cuda for tensor in state.values()):
            # On a stream of its own a copy runs beside the kernels of the next epoch, into memory that is not paged.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._copies = {
                    name: torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(
                        tensor, non_blocking=True
                    )
                    for name, tensor in state.items()
                }
                self._arrived = stream.record_event()

    def read(self) -> dict[str, np.ndarray]:
        """Return the numbers."""
        if self._arrived is None:
            return {name: tensor.cpu().numpy() for name, tensor in self._state.items()}
        self._arrived.synchronize()
        return {name: tensor.numpy() for name, tensor in self._copies.items()}


def _state(population: Population, parts: Sequence[str]) -> dict[str, Tensor]:
    """Return weights and metrics of all models now, name -> (model, ...)."""
    state = {"weights": population.weights}
    if (buffers := population.buffers) is not None:
        state[BUFFERS] = buffers
    for part in parts:
        for name, values in population.evaluate(part).items():
            if name != "class_f1" or part == "test":
                state[f"{part}_{name}"] = values
    return state | population.running()
