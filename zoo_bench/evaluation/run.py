"""Running a benchmark: pending cells through joblib or Dask, each kept as soon as it is done, results of whole cells.

Workers answer with the number of a cell and nothing else: what came out of it is on the disk by then, so that a driver
that is killed at any moment finds it again. What failed leaves a line in the result and is tried again by the next run.
"""

import os
import sys
import time
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from zoo_bench.encoders import make_encoder
from zoo_bench.encoders.training.runtime import Runtime, is_first_process, process_count
from zoo_bench.evaluation import pending as kept
from zoo_bench.evaluation.cell import checked_digest, evaluate_cell, used
from zoo_bench.evaluation.pending import KeptCell, Setting
from zoo_bench.protocol import protocols
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.protocols import Cell
from zoo_bench.protocol.zoos import find_zoos
from zoo_bench.results import Failure, Result, read_result, records, result_path, write_result
from zoo_bench.scores import metrics
from zoo_gen.errors import ZooError

Rerun = Literal["always", "never", "only-missing"]
CELLS = ".cells"  # the folder of cells that no result holds yet


def run(
    benchmark: BenchmarkManifest,
    encoders: list[str],
    *,
    zoos: Path,
    results: Path,
    seeds: list[int],
    rerun: Rerun = "only-missing",
    runtime: Runtime | None = None,
    workers: int = 1,
    scheduler: str | None = None,
) -> Iterator[tuple[Result, bool]]:
    """Yield the result of every encoder and seed, and whether it was computed now; new ones are written to `results`.

    An encoder that fails on every cell has no result; the others go on, and the first such failure is raised last.

    Args:
        benchmark: what is evaluated.
        encoders: names of encoders, as `make_encoder` takes them.
        zoos: the folder that holds the zoos by name.
        results: the folder of results.
        seeds: one result each.
        rerun: `only-missing` computes what is not there, failed, or was made from another encoder, benchmark or zoo;
            `always` computes all; `never` computes nothing that is there, however old.
        runtime: where encoders that train a network compute; without one, on a GPU if there is one.
        workers: processes that evaluate cells; 1 stays in this process.
        scheduler: the address of a Dask cluster's scheduler, whose workers are used instead of processes here; they
            must see `zoos` and `results` under the same paths.

    Raises:
        ZooError: an encoder or a zoo is not there, or does not fit; an encoder fails; a seed is out of range.
    """
    cells = protocols.cells(benchmark, find_zoos(benchmark, zoos))  # weights are read once for all encoders
    wrong = [seed for seed in seeds if not 0 <= seed < 2**32]
    if wrong:
        raise ZooError(f"seed {wrong[0]}: expected a whole number from 0 to {2**32 - 1}")
    digests = {name: checked_digest(name) for name in encoders}
    folder = results / CELLS / ("" if is_first_process() else f"process-{os.environ['RANK']}")
    places = {"zoos": zoos.absolute(), "folder": folder.absolute(), "code": Path.cwd()}
    settings = [
        Setting(benchmark, name, digests[name], seed, runtime=runtime, **places)
        for name, seed in dict.fromkeys((name, seed) for name in encoders for seed in seeds)
    ]
    current: dict[Setting, Result] = {}
    for setting in settings:
        path = _result_path(setting, results)
        found = read_result(path) if path.exists() and rerun != "always" else None
        if found and (rerun == "never" or _is_current(found, setting, cells)):
            current[setting] = found
        # What is there already was left by a run that was killed; processes that train together must all train.
        if setting in current or rerun == "always" or process_count() > 1:
            _forget(setting, cells)
    first_error: ZooError | None = None
    with (
        tqdm(
            total=len(settings) * len(cells),
            desc=benchmark.name,
            unit="cell",
            disable=None if is_first_process() else True,
        ) as bar,
        closing(_evaluate_all(settings, current, cells, bar, workers=workers, scheduler=scheduler)) as finished,
    ):
        for setting in finished:
            if setting in current:
                yield current[setting], False
                continue
            outcomes = [kept.read(setting, cell) or KeptCell(error="is not there") for cell in cells]
            if not any(outcome.results for outcome in outcomes):
                _forget(setting, cells)
                first_error = first_error or ZooError(outcomes[0].error)
                continue
            path = _result_path(setting, results)
            its_path = path if is_first_process() else folder / path.name
            yield _assemble(setting, cells, outcomes, its_path), True
    if first_error:
        raise first_error


def _result_path(setting: Setting, results: Path) -> Path:
    return result_path(results, benchmark=setting.benchmark.name, encoder=setting.encoder, seed=setting.seed)


def _is_current(result: Result, setting: Setting, cells: Sequence[Cell]) -> bool:
    """Say whether a result was made from exactly this encoder, benchmark and these zoos, and nothing failed."""
    expected = [(used(cell.zoo), used(test.zoo), test.condition) for cell in cells for test in cell.tests]
    return (
        result.benchmark_digest == setting.benchmark.digest
        and result.encoder_digest == setting.digest
        and [(cell.source, cell.test, cell.condition) for cell in result.cells] == expected
    )


def _evaluate_all(
    settings: Sequence[Setting],
    current: Mapping[Setting, Result],
    cells: Sequence[Cell],
    bar: tqdm,
    *,
    workers: int,
    scheduler: str | None = None,
) -> Generator[Setting, None, None]:
    """Evaluate all cells that are neither in a result nor kept whole; yield each setting when all of its are done.

    The cells of all settings are one queue, so that no worker waits while there is work. Settings come in order.
    """
    pending = {its: [] if its in current else _pending(its, cells) for its in settings}
    bar.update(sum(len(cells) - len(numbers) for numbers in pending.values()))
    if workers == 1 and scheduler is None:
        for setting, numbers in pending.items():
            for number in numbers:
                _evaluate(setting, cells[number])
                bar.update()
            yield setting
        return
    from zoo_gen.machine.workers import cluster, train_all

    queue = [(setting, number) for setting, numbers in pending.items() for number in numbers]
    # The cells that take longest first, whoever's they are, so that none is begun when the others are done.
    queue.sort(key=lambda its: _size(cells[its[1]]), reverse=True)
    waiting = {setting: len(numbers) for setting, numbers in pending.items()}
    lost: list[list[int]] = []
    task = partial(_evaluate_numbers, queue)
    with (
        warnings.catch_warnings(),
        cluster(scheduler) as client,
        closing(train_all(task, [[at] for at in range(len(queue))], lost, processes=workers, client=client)) as done,
    ):
        # A worker that has grown is replaced by joblib, with a warning that nobody can act on.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs")
        warnings.filterwarnings("ignore", ".*still being processed by the workers")
        yield from _whole(waiting, bar, (queue[at][0] for (at,) in done))
    for (at,) in lost:
        setting, number = queue[at]
        message = f"encoder {setting.encoder!r}: its worker died each time, as happens without enough memory"
        kept.keep_error(setting, cells[number], message)
    yield from _whole(waiting, bar, (queue[at][0] for (at,) in lost))


def _size(cell: Cell) -> int:
    """Return how many numbers an encoder learns from in a cell."""
    return len(cell.train.models) * len(cell.train.checkpoints) * cell.zoo.extent.n_parameters


def _pending(setting: Setting, cells: Sequence[Cell]) -> list[int]:
    """Return the numbers of the cells that are not kept whole."""
    found = [kept.read(setting, cell) for cell in cells]
    return [number for number, its in enumerate(found) if its is None or its.failures or its.error]


def _whole(waiting: dict[Setting, int], bar: tqdm, done: Iterable[Setting]) -> Iterator[Setting]:
    """Count cells off as they are done, and yield each setting that waits for none, in order, once."""
    for setting in chain([None], done):
        if setting is not None:
            waiting[setting] -= 1
            bar.update()
        while waiting and next(iter(waiting.values())) == 0:
            first = next(iter(waiting))
            del waiting[first]
            yield first


def _evaluate_numbers(queue: Sequence[tuple[Setting, int]], places: list[int]) -> list[int]:
    """Evaluate cells of the queue in a worker process, which opens the zoos itself: no array travels."""
    for place in places:
        setting, number = queue[place]
        if str(setting.code) not in sys.path:  # the workers of a cluster were started elsewhere
            sys.path.append(str(setting.code))
        cells = protocols.cells(setting.benchmark, find_zoos(setting.benchmark, setting.zoos))
        _evaluate(setting, cells[number])
    return places


def _evaluate(setting: Setting, cell: Cell) -> None:
    """Evaluate one cell and keep what comes out of it, or the line that says why it failed."""
    from threadpoolctl import threadpool_limits

    began = time.monotonic()
    try:
        encoder = make_encoder(setting.encoder, runtime=setting.runtime)
        # The last digits of linear algebra follow from its number of threads, which workers share out: one, always.
        with threadpool_limits(limits=1, user_api="blas"):
            found = evaluate_cell(setting.encoder, encoder, setting.benchmark, cell, seed=setting.seed)
    except ZooError as error:
        kept.keep_error(setting, cell, str(error))
        return
    kept.keep(setting, cell, found, config=encoder.config, seconds=time.monotonic() - began)


def _assemble(setting: Setting, cells: Sequence[Cell], outcomes: Sequence[KeptCell], path: Path) -> Result:
    """Write one result of its cells, its two tables first, and remove the cells unless some failed."""
    failures: list[Failure] = []
    predictions, resamples = [], []
    for cell, outcome in zip(cells, outcomes, strict=True):
        failures += outcome.failures
        if outcome.error:
            failures += [
                Failure(source=cell.zoo.name, test=test.zoo.name, condition=test.condition, message=outcome.error)
                for test in cell.tests
            ]
            continue
        its = kept.read_tables(setting, cell)
        predictions += its[0]
        resamples += its[1]
    packages = ("zoo-gen", "numpy", "scikit-learn", "scipy")
    encoder = make_encoder(setting.encoder)
    path.unlink(missing_ok=True)  # what is killed now leaves no old result beside new tables
    result = Result(
        encoder=setting.encoder,
        encoder_config=next(outcome.encoder_config for outcome in outcomes if outcome.results),
        encoder_digest=setting.digest,
        benchmark=setting.benchmark.name,
        benchmark_digest=setting.benchmark.digest,
        protocol=setting.benchmark.protocol,
        split=setting.benchmark.split,
        rank_by=setting.benchmark.rank_by,
        seed=setting.seed,
        resamples=metrics.RESAMPLES,
        confidence=metrics.CONFIDENCE,
        cells=tuple(result for outcome in outcomes for result in outcome.results),
        failures=tuple(failures),
        predictions_sha256=records.write_predictions(predictions, records.predictions_path(path)),
        resamples_sha256=records.write_resamples(resamples, records.resamples_path(path)),
        versions={its: version(its) for its in ((*packages, "torch") if hasattr(encoder, "runtime") else packages)},
        seconds=sum(outcome.seconds for outcome in outcomes),
    ).signed()
    write_result(result, path)
    if not failures:
        _forget(setting, cells)
    return result


def _forget(setting: Setting, cells: Sequence[Cell]) -> None:
    for cell in cells:
        kept.forget(setting, cell)
