"""The queue of cells: the cells of all encoders and seeds through one process, joblib or Dask, stored one by one.

Workers answer with the number of a cell and nothing else: its outcome is on the disk by then, so that a driver that is
killed at any moment finds it again.
"""

import shutil
import sys
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import lru_cache, partial
from itertools import chain

from zoo_bench.encoders.training.runtime import Runtime, is_first_process
from zoo_bench.evaluation import pending
from zoo_bench.evaluation.cell import CellRecord, Outcome, evaluate_cell
from zoo_bench.evaluation.pending import Setting
from zoo_bench.protocol import protocols
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.protocols import Cell, On
from zoo_bench.protocol.zoos import ZooAddress, open_again
from zoo_bench.results import Result
from zoo_gen.errors import ZooError
from zoo_gen.machine.progress import Bar


def evaluate_all(
    settings: Sequence[Setting],
    stored: Mapping[Setting, Result],
    cells: Sequence[Cell],
    bar: Bar,
    *,
    workers: int,
    scheduler: str | None = None,
) -> Generator[Setting, None, None]:
    """Evaluate all cells that neither a result nor a pending cell holds; yield each setting when its cells are done.

    The cells of all settings are one queue, so that no worker waits while there is work. Settings come in order.
    """
    missing = {
        setting: [n for n, cell in enumerate(cells) if setting not in stored and not _is_pending(setting, cell)]
        for setting in settings
    }
    bar.update(sum(len(cells) - len(numbers) for numbers in missing.values()))
    if workers == 1 and scheduler is None:
        for setting, numbers in missing.items():
            for number in numbers:
                evaluate(setting, cells[number])
                bar.update()
            yield setting
        return
    from zoo_gen.machine.cluster import cluster
    from zoo_gen.machine.device_workers import train_on_devices
    from zoo_gen.machine.workers import train_all

    queue = [(setting, number) for setting, numbers in missing.items() for number in numbers]
    # The cells that take longest first, whoever's they are, so that none is begun when the others are done.
    queue.sort(key=lambda entry: _size(cells[entry[1]]), reverse=True)
    unfinished = {setting: len(numbers) for setting, numbers in missing.items()}
    lost: list[list[int]] = []
    task = partial(_evaluate_numbers, queue)
    numbers_of_cells = [[at] for at in range(len(queue))]
    devices = ("cpu",) if scheduler else _devices(settings)
    with warnings.catch_warnings(), cluster(scheduler) as client:
        if devices == ("cpu",):
            outcomes = train_all(task, numbers_of_cells, lost, processes=workers, client=client)
        else:
            places = [devices[worker % len(devices)] for worker in range(workers)]
            outcomes = train_on_devices(task, numbers_of_cells, lost, devices=places)
        # A worker that has grown is replaced by joblib, with a warning that nobody can act on.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs")
        warnings.filterwarnings("ignore", ".*still being processed by the workers")
        with closing(outcomes) as done:
            yield from _complete(unfinished, bar, (queue[at][0] for (at,) in done))
    for (at,) in lost:
        setting, number = queue[at]
        error = f"encoder {setting.candidate.name!r}: its worker died each time, as happens without enough memory"
        pending.write(setting, cells[number], Outcome(CellRecord(error=error)))
    yield from _complete(unfinished, bar, (queue[at][0] for (at,) in lost))


def _devices(settings: Sequence[Setting]) -> tuple[str, ...]:
    """Return the devices that cells share out, which are asked for only if an encoder trains a network."""
    neural = [setting for setting in settings if setting.candidate.neural]
    return (neural[0].runtime or Runtime()).devices() if neural else ("cpu",)


def _size(cell: Cell) -> int:
    """Return how many numbers an encoder learns from in a cell."""
    return sum(len(view.models) * len(view.checkpoints) * view.layout.size for view in cell.train)


def _is_pending(setting: Setting, cell: Cell) -> bool:
    """Say whether the outcome of a cell is on the disk, and nothing in it failed."""
    outcome = pending.read(setting, cell)
    return outcome is not None and not (outcome.record.failures or outcome.record.error)


def _complete(unfinished: dict[Setting, int], bar: Bar, done: Iterable[Setting]) -> Iterator[Setting]:
    """Count cells off as they are done, and yield each setting that waits for none, in order, once."""
    for setting in chain([None], done):
        if setting is not None:
            unfinished[setting] -= 1
            bar.update()
        while unfinished and next(iter(unfinished.values())) == 0:
            first = next(iter(unfinished))
            del unfinished[first]
            yield first


def _evaluate_numbers(
    queue: Sequence[tuple[Setting, int]], positions: list[int], *, device: str | None = None
) -> list[int]:
    """Evaluate cells of the queue in a worker process, which opens the zoos itself: no array travels.

    Args:
        queue: of all cells.
        positions: in the queue.
        device: the worker's own, if several share devices out.
    """
    for position in positions:
        setting, number = queue[position]
        if device is not None:
            setting = replace(setting, runtime=replace(setting.runtime or Runtime(), device=device))
        if str(setting.code) not in sys.path:  # the workers of a cluster were started elsewhere
            sys.path.append(str(setting.code))
        evaluate(setting, _cells(setting.benchmark, setting.zoos, setting.on)[number])
    return positions


@lru_cache(maxsize=1)
def _cells(benchmark: BenchmarkManifest, zoos: tuple[ZooAddress, ...], on: On) -> list[Cell]:
    """Return the cells of a benchmark; a worker process opens each zoo once, unless the zoo changes."""
    return protocols.cells(benchmark, [open_again(benchmark, zoo) for zoo in zoos], on=on)


def evaluate(setting: Setting, cell: Cell) -> Outcome:
    """Evaluate one cell, write its outcome, or the line that says why it failed, and return it.

    The cell's trainings stay on the disk until its outcome is there, so that none is lost to an interrupted probe.
    """
    from threadpoolctl import threadpool_limits

    runtime, trainings = setting.runtime, None
    if runtime is not None and runtime.checkpoints is not None:
        trainings = runtime.checkpoints / pending.name(setting, cell)
        runtime = replace(runtime, checkpoints=trainings)
    try:
        # The last digits of linear algebra follow from its number of threads, which workers share out: one, always.
        with threadpool_limits(limits=1, user_api="blas"):
            outcome = evaluate_cell(setting.candidate, setting.benchmark, cell, seed=setting.seed, runtime=runtime)
    except ZooError as error:
        traceback = getattr(error, "traceback", "")
        outcome = Outcome(CellRecord(error=str(error), tracebacks=(traceback,) if traceback else ()))
    pending.write(setting, cell, outcome)
    if trainings is not None and is_first_process():
        shutil.rmtree(trainings, ignore_errors=True)
    return outcome
