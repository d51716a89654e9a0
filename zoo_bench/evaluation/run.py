"""Running a benchmark: cells through joblib or Dask, each stored as soon as it is done, then results of whole cells.

Workers answer with the number of a cell and nothing else: its outcome is on the disk by then, so that a driver that is
killed at any moment finds it again. A cell that failed leaves a line in the result and is tried again by the next run.
Two runs may share a folder of results: each finds a file whole or not at all, and what the other removed is computed
again.
"""

import os
import sys
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Literal

from zoo_bench.encoders.training.runtime import Runtime, is_first_process, process_count
from zoo_bench.evaluation import pending
from zoo_bench.evaluation.candidate import Candidate
from zoo_bench.evaluation.candidates import candidate
from zoo_bench.evaluation.cell import evaluate_cell, used
from zoo_bench.evaluation.failing import EncoderError
from zoo_bench.evaluation.pending import CellRecord, Outcome, Setting
from zoo_bench.evaluation.processes.client import Template
from zoo_bench.protocol import protocols
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.protocols import Cell, On
from zoo_bench.protocol.zoos import ZooAddress, find_zoos, open_again
from zoo_bench.results import (
    Failure,
    Result,
    Tuning,
    is_outdated,
    read_result,
    read_tunings,
    records,
    result_path,
    software,
    tunings_path,
    write_result,
)
from zoo_bench.scores import metrics
from zoo_gen.errors import ZooError
from zoo_gen.files import atomic
from zoo_gen.machine.progress import Bar, progress_bar
from zoo_gen.zoo import AnyZoo

Rerun = Literal["always", "never", "only-missing"]
CELLS = ".cells"  # the folder of cells that no result holds yet
TRAININGS = ".trainings"  # and of encoders whose training was interrupted, where nothing else is said


def run(
    benchmark: BenchmarkManifest,
    encoders: Sequence[str | Candidate],
    *,
    zoos: str | Path | Sequence[AnyZoo],
    results: Path,
    seeds: Sequence[int],
    rerun: Rerun = "only-missing",
    on: On = "test",
    runtime: Runtime | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    progress: bool = True,
    tell: Callable[[str], None] | None = None,
) -> Iterator[tuple[Result, bool]]:
    """Yield the result of every encoder and seed, and whether it was computed now; new ones are written to `results`.

    An encoder that fails on every cell has no result; the others go on, and the first such failure is raised last.

    The arguments are those of `zoo_bench.evaluate`, but for these.

    Args:
        encoders: names of encoders, as `make_encoder` takes them, or candidates.
        on: the models that are scored; results on validation models are on no leaderboard.
        runtime: where encoders that train a network compute; without one, on a GPU if there is one.
        progress: whether a bar shows how many cells are done, on a terminal or in a notebook.
        tell: is given the traceback of every error that an encoder raises.

    Raises:
        ZooError: an encoder or a zoo is not there, or does not fit; an encoder fails; a seed is out of range.
    """
    if workers == 1 and scheduler is None:
        Template.started()  # imports what encoders need while zoos are read
    opened = find_zoos(benchmark, zoos)
    cells = protocols.cells(benchmark, opened, on=on)  # weights are read once for all encoders
    wrong = [seed for seed in seeds if not 0 <= seed < 2**32]
    if wrong:
        raise ZooError(f"seed {wrong[0]}: expected a whole number from 0 to {2**32 - 1}")
    told = tell or (lambda traceback: None)
    chosen, first_error = _made(encoders, told)
    addresses = tuple(ZooAddress.of(zoo) for zoo in opened)
    folder = _pending_folder(results).absolute()
    settings = [
        Setting(benchmark, encoder, seed, addresses, folder=folder, runtime=runtime, code=Path.cwd(), on=on)
        for encoder in chosen
        for seed in dict.fromkeys(seeds)
    ]
    stored: dict[Setting, Result] = {}
    for setting in settings:
        path = result_path(results, benchmark=benchmark.name, encoder=setting.candidate.name, seed=setting.seed, on=on)
        # A result of an earlier schema is replaced, unless nothing is to be computed again: it is an error then.
        is_read = path.exists() and rerun != "always" and not (rerun == "only-missing" and is_outdated(path))
        result = read_result(path) if is_read else None
        if result and (rerun == "never" or _is_current(result, setting, cells)):
            stored[setting] = result
        # What is there already was left by a run that was killed; processes that train together must all train.
        if setting in stored or rerun == "always" or process_count() > 1:
            pending.remove(setting, cells)
    shown = progress and is_first_process()
    with (
        progress_bar(label=benchmark.name, unit="cell", total=len(settings) * len(cells), shown=shown) as bar,
        closing(_evaluate_all(settings, stored, cells, bar, workers=workers, scheduler=scheduler)) as finished,
    ):
        for setting in finished:
            if setting in stored:
                yield stored[setting], False
                continue
            outcomes = [pending.read(setting, cell) or _evaluate(setting, cell) for cell in cells]
            for traceback in dict.fromkeys(text for outcome in outcomes for text in outcome.record.tracebacks):
                told(traceback)
            if not any(outcome.record.results for outcome in outcomes):
                pending.remove(setting, cells)
                first_error = first_error or ZooError(outcomes[0].record.error)
                continue
            yield _assemble(setting, cells, outcomes, results), True
    if first_error:
        raise first_error


def _made(encoders: Sequence[str | Candidate], tell: Callable[[str], None]) -> tuple[list[Candidate], ZooError | None]:
    """Return the encoders that can be made, and the first error of one that cannot, so that it stops no other."""
    chosen, first_error = [], None
    for encoder in dict.fromkeys(encoders):
        try:
            chosen.append(encoder if isinstance(encoder, Candidate) else candidate(encoder))
        except EncoderError as error:
            first_error = first_error or error
            if error.traceback:
                tell(error.traceback)
    return chosen, first_error


def stored_path(results: Path, result: Result) -> Path:
    """Return where a run in this process writes a result: the first of several that train together, to `results`."""
    path = result_path(results, benchmark=result.benchmark, encoder=result.encoder, seed=result.seed, on=result.on)
    return path if is_first_process() else _pending_folder(results) / path.name


def _pending_folder(results: Path) -> Path:
    return results / CELLS / ("" if is_first_process() else f"process-{os.environ['RANK']}")


def _is_current(result: Result, setting: Setting, cells: Sequence[Cell]) -> bool:
    """Say whether a result was made from exactly this encoder, benchmark and these zoos, and nothing failed."""
    expected = [(used(cell.zoo), used(test.zoo), test.condition) for cell in cells for test in cell.tests]
    return (
        result.benchmark_digest == setting.benchmark.digest
        and result.encoder_digest == setting.candidate.digest
        and result.on == setting.on
        and [(cell.source, cell.test, cell.condition) for cell in result.cells] == expected
    )


def _evaluate_all(
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
                _evaluate(setting, cells[number])
                bar.update()
            yield setting
        return
    from zoo_gen.machine.device_workers import train_on_devices
    from zoo_gen.machine.workers import cluster, train_all

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
        _evaluate(setting, _cells(setting.benchmark, setting.zoos, setting.on)[number])
    return positions


@lru_cache(maxsize=1)
def _cells(benchmark: BenchmarkManifest, zoos: tuple[ZooAddress, ...], on: On) -> list[Cell]:
    """Return the cells of a benchmark; a worker process opens each zoo once, unless the zoo changes."""
    return protocols.cells(benchmark, [open_again(benchmark, zoo) for zoo in zoos], on=on)


def _evaluate(setting: Setting, cell: Cell) -> Outcome:
    """Evaluate one cell, write its outcome, or the line that says why it failed, and return it."""
    from threadpoolctl import threadpool_limits

    began = time.monotonic()
    try:
        # The last digits of linear algebra follow from its number of threads, which workers share out: one, always.
        with threadpool_limits(limits=1, user_api="blas"):
            evaluated = evaluate_cell(
                setting.candidate, setting.benchmark, cell, seed=setting.seed, runtime=setting.runtime
            )
        record = CellRecord(
            results=evaluated.results,
            failures=evaluated.failures,
            tracebacks=evaluated.tracebacks,
            encoder_config=evaluated.encoder_config,
            seconds=time.monotonic() - began,
        )
        outcome = Outcome(record, evaluated.predictions, evaluated.resamples)
    except ZooError as error:
        traceback = getattr(error, "traceback", "")
        outcome = Outcome(CellRecord(error=str(error), tracebacks=(traceback,) if traceback else ()))
    pending.write(setting, cell, outcome)
    return outcome


def _tunings(setting: Setting, results: Path) -> tuple[Tuning, ...]:
    """Return the tunings on a benchmark that an encoder was a trial of, as far as the folder of results knows them."""
    if setting.on != "test":
        return ()
    name, digest = setting.candidate.name, setting.benchmark.digest
    path = tunings_path(results, benchmark=setting.benchmark.name, encoder=name.partition("[")[0])
    return tuple(
        tuning
        for tuning in read_tunings(path)
        if tuning.benchmark_digest == digest and name in [trial.encoder for trial in tuning.trials]
    )


def _assemble(setting: Setting, cells: Sequence[Cell], outcomes: Sequence[Outcome], results: Path) -> Result:
    """Write one result of its cells, its two tables first, and remove the cells unless some failed."""
    failures: list[Failure] = []
    for cell, outcome in zip(cells, outcomes, strict=True):
        failures += outcome.record.failures
        if outcome.record.error:
            failures += [
                Failure(
                    source=cell.zoo.name, test=test.zoo.name, condition=test.condition, message=outcome.record.error
                )
                for test in cell.tests
            ]
    benchmark = setting.benchmark
    result = Result(
        encoder=setting.candidate.name,
        encoder_config=next(outcome.record.encoder_config for outcome in outcomes if outcome.record.results),
        encoder_digest=setting.candidate.digest,
        benchmark=benchmark.name,
        benchmark_digest=benchmark.digest,
        protocol=benchmark.protocol,
        split=benchmark.split,
        rank_by=benchmark.rank_by,
        reading=benchmark.reading,
        probe=benchmark.probe,
        manifest=benchmark.model_dump(mode="json", exclude_defaults=True, exclude={"description"}),
        on=setting.on,
        tunings=_tunings(setting, results),
        seed=setting.seed,
        resamples=metrics.RESAMPLES,
        confidence=metrics.CONFIDENCE,
        cells=tuple(result for outcome in outcomes for result in outcome.record.results),
        failures=tuple(failures),
        predictions_sha256="",
        resamples_sha256="",
        versions=software(),
        seconds=sum(outcome.record.seconds for outcome in outcomes),
    )
    path = stored_path(results, result)
    path.unlink(missing_ok=True)  # what is killed now leaves no old result beside new tables
    predictions = [prediction for outcome in outcomes for prediction in outcome.predictions]
    resamples = [resampled for outcome in outcomes for resampled in outcome.resamples]
    digests = {
        "predictions_sha256": records.write_predictions(predictions, path),
        "resamples_sha256": records.write_resamples(resamples, records.resamples_path(path)),
    }
    result = result.model_copy(update=digests).signed()
    write_result(result, path)
    for file in records.files_of(path):
        atomic.tidy_file(file)  # what killed runs left
    if not failures:
        pending.remove(setting, cells)
    return result
