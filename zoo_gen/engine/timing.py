"""The speed of training, from steps and evaluations that are taken for a second or two on random images.

What is timed are populations as a run trains them: some of the zoo's own, as many models together. On a CPU the time
that its core gives is counted, not the clock's, which runs on while others compute; on a GPU it is the clock's.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa

from zoo_gen.engine.settings import choose_forms, training_settings
from zoo_gen.machine import devices
from zoo_gen.machine.memory import freed_memory_kept
from zoo_gen.manifest import ZooManifest

if TYPE_CHECKING:
    from zoo_gen.population.population import Population, TrainingSettings

Thing = TypeVar("Thing")

BUDGET = 8.0  # seconds that all timings of a plan take, about
_MOST_BATCH_SIZES, _POPULATIONS = 4, 4  # that are timed
_IMAGES_CPU, _IMAGES_GPU = 512, 2048  # of an epoch that is timed, at least


@dataclass(frozen=True)
class Speed:
    """How fast populations of a zoo train."""

    batch_sizes: np.ndarray  # that were timed, rising
    samples: np.ndarray  # seconds that a training image takes of a model, at each of these batch sizes
    evaluation: float  # seconds that an image takes of a model
    beginning: float  # seconds of a model before its first step
    start: float  # seconds of a process before its first step: Python, imports, compilation
    compilation: float = 0.0  # of these, what is compiled for this architecture

    def step(self, batch_size: np.ndarray) -> np.ndarray:
        """Return the seconds of a step of one model, for any batch sizes; between those timed, in proportion."""
        return batch_size * np.interp(batch_size, self.batch_sizes, self.samples)


@dataclass(frozen=True)
class _Timed:
    """One population."""

    batch_size: int
    models: int
    beginning: float
    compilation: float
    sample: float
    evaluation: float


def measure(
    manifest: ZooManifest,
    models: pa.Table,
    tasks: Sequence[np.ndarray],
    *,
    device: str,
    budget: float | None = None,
) -> Speed:
    """Time some populations of a zoo.

    Args:
        manifest: of the zoo, whose models have one architecture.
        models: a row a model.
        tasks: the rows of the models that are one task of a worker; some of them are timed.
        device: "cpu" or a GPU.
        budget: seconds that it may take; BUDGET if not given.
    """
    chosen = _choose(manifest, models, tasks, device=device)
    seconds = (BUDGET if budget is None else budget) / len(chosen)
    timed = [_time(manifest, population, seconds, device=device) for population in chosen]
    sizes = sorted({one.batch_size for one in timed})
    samples = [np.mean([one.sample for one in timed if one.batch_size == size]) for size in sizes]
    compiled = {one.batch_size: one.compilation for one in reversed(timed)}  # by the first of each size
    return Speed(
        batch_sizes=np.array(sizes, dtype=float),
        samples=np.array(samples),
        evaluation=float(np.mean([one.evaluation for one in timed])),
        beginning=float(np.mean([one.beginning / one.models for one in timed])),
        start=_start(device) + sum(compiled.values()),
        compilation=sum(compiled.values()),
    )


def _choose(manifest: ZooManifest, models: pa.Table, tasks: Sequence[np.ndarray], *, device: str) -> list[pa.Table]:
    """Return the models of some populations, spread over the zoo, and over its batch sizes."""
    from zoo_gen.population.train import groups

    settings, (network,) = _settings(manifest, device=device), manifest.networks.values()
    populations: dict[int, list[pa.Table]] = {}
    for rows in spread(tasks, _POPULATIONS if device == "cpu" else 1):
        table = models.take(rows)
        for group, _ in groups(network, table, settings, n_train=manifest.data.n_train):
            some = table.take(group)
            populations.setdefault(some["batch_size"][0].as_py(), []).append(some)
    sizes = spread(sorted(populations), _MOST_BATCH_SIZES)
    return [some for size in sizes for some in spread(populations[size], max(1, _POPULATIONS // len(sizes)))]


def _settings(manifest: ZooManifest, *, device: str) -> "TrainingSettings":
    return training_settings(manifest, device=device, forms=choose_forms(manifest, device=device))


def spread(things: Sequence[Thing], count: int) -> list[Thing]:
    """Return so many of the things, evenly spread, the first and the last among them."""
    if len(things) <= count:
        return list(things)
    return [things[round(number * (len(things) - 1) / max(1, count - 1))] for number in range(count)]


def _time(manifest: ZooManifest, models: pa.Table, seconds: float, *, device: str) -> _Timed:
    """Time the population of some models of one kind, for about so many seconds."""
    from zoo_gen.population.train import populations, runnable, single_threaded

    clock = time.thread_time if device == "cpu" else time.perf_counter
    batch_size = models["batch_size"][0].as_py()
    if "train_fraction" in models.column_names:
        position = models.column_names.index("train_fraction")
        models = models.set_column(position, "train_fraction", [[1.0] * len(models)])
    least = _IMAGES_CPU if device == "cpu" else _IMAGES_GPU
    data = manifest.data.stand_in(n_images=batch_size * max(1, least // batch_size))
    settings, (architecture,) = _settings(manifest, device=device), manifest.architectures.values()
    (network,) = manifest.networks.values()
    with single_threaded(), freed_memory_kept(), devices.current(device):
        began = clock()
        settings = runnable(network, data, models, settings)
        trial = clock() - began  # which compiles
        began = clock()
        _, population = next(populations(architecture, data, models, settings))
        beginning = clock() - began
        compilation, epoch = _seconds_of_epochs(population, clock, seconds / 2)
        images = population.task.n_train * len(population)
        evaluation = _seconds_of_evaluations(population, clock, seconds / 4)
    return _Timed(batch_size, len(population), beginning, trial + compilation, epoch / images, evaluation / images)


def _seconds_of_epochs(population: "Population", clock: Callable[[], float], seconds: float) -> tuple[float, float]:
    """Return the seconds that compiling and allocating add to the first two epochs, and those of an epoch after them.

    Where two epochs take far longer than all of them may, the second one stands for those after it.
    """
    times = [clock()]
    while len(times) < 4 or times[-1] - times[2] < seconds:
        population.train_epoch(len(times))
        float(population.running()["running_loss"].sum())  # a GPU is ready only when its numbers can be read
        times.append(clock())
        if len(times) == 3 and times[2] - times[0] > 8 * seconds:
            first, second = times[1] - times[0], times[2] - times[1]
            return max(0.0, first - second), second
    epoch = (times[-1] - times[2]) / (len(times) - 3)
    return max(0.0, times[2] - times[0] - 2 * epoch), epoch


def _seconds_of_evaluations(population: "Population", clock: Callable[[], float], seconds: float) -> float:
    """Return the seconds of an evaluation of the training images, without what the first one allocates."""
    times = [clock()]
    while len(times) < 3 or times[-1] - times[1] < seconds:
        float(population.evaluate("train")["loss"].sum())
        times.append(clock())
    return (times[-1] - times[1]) / (len(times) - 2)


@cache
def _start(device: str) -> float:
    """Return the seconds that a process takes to import what it trains with."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", "import zoo_gen.engine.driver, zoo_gen.population.train"], check=False)
    if device != "cpu":
        return time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
