"""Running a benchmark: pending cells through joblib, each kept as soon as it is done, results made of whole cells.

A cell's files are named by a digest of all that determines it (encoder, benchmark, zoos, splits, seed, versions), and
its JSON is written last: an interrupted run finds what is whole and computes the rest. They are removed when the result
that they make is written; what failed leaves a line in the result and is tried again by the next run.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from zoo_bench import metrics, protocols, records
from zoo_bench.encoders import make_encoder
from zoo_bench.encoders.runtime import Runtime, is_first_process, process_count
from zoo_bench.evaluate import Evaluated, checked_digest, evaluate_cell, used
from zoo_bench.manifest import BenchmarkManifest
from zoo_bench.protocols import Cell
from zoo_bench.results import CellResult, Failure, Result, read_result, result_path, write_result
from zoo_gen.errors import ZooError
from zoo_gen.schema import Schema
from zoo_gen.zoo import Zoo, open_zoo

Rerun = Literal["always", "never", "only-missing"]
CELLS = ".cells"  # the folder of cells that no result holds yet


class KeptCell(Schema):
    """One cell that was evaluated, as it waits for the others of its result."""

    results: tuple[CellResult, ...]
    failures: tuple[Failure, ...]
    encoder_config: dict[str, object]
    predictions_sha256: str
    resamples_sha256: str


@dataclass(frozen=True)
class Setting:
    """What all cells of one encoder and seed share; it travels to worker processes."""

    benchmark: BenchmarkManifest
    encoder: str
    digest: str
    seed: int
    zoos: Path
    folder: Path  # of kept cells
    runtime: Runtime | None


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

    Raises:
        ZooError: an encoder or a zoo is not there, or does not fit; an encoder fails; a seed is out of range.
    """
    opened = [find_zoo(zoos, name) for name in benchmark.zoos]
    cells = protocols.cells(benchmark, opened)  # shared, so that weights are read once for all encoders
    wrong = [seed for seed in seeds if not 0 <= seed < 2**32]
    if wrong:
        raise ZooError(f"seed {wrong[0]}: expected a whole number from 0 to {2**32 - 1}")
    digests = {name: checked_digest(name) for name in encoders}
    tasks = list(dict.fromkeys((name, seed) for name in encoders for seed in seeds))
    first_error: ZooError | None = None
    with tqdm(
        total=len(tasks) * len(cells), desc=benchmark.name, unit="cell", disable=None if is_first_process() else True
    ) as bar:
        for name, seed in tasks:
            path = result_path(results, benchmark=benchmark.name, encoder=name, seed=seed)
            found = read_result(path) if path.exists() and rerun != "always" else None
            if found and (rerun == "never" or _is_current(found, benchmark, digests[name], cells)):
                bar.update(len(cells))
                yield found, False
                continue
            folder = results / CELLS / ("" if is_first_process() else f"process-{os.environ['RANK']}")
            setting = Setting(benchmark, name, digests[name], seed, zoos, folder, runtime)
            if rerun == "always" or process_count() > 1:  # processes that train together must all train
                _forget(setting, cells)
            began = time.monotonic()
            outcomes: list[KeptCell | str] = []
            for outcome in _evaluate_all(setting, cells, workers=workers):
                outcomes.append(outcome)
                bar.update()
            if all(isinstance(outcome, str) for outcome in outcomes):
                first_error = first_error or ZooError(str(outcomes[0]))
                continue
            its_path = path if is_first_process() else folder / path.name
            result = _assemble(setting, cells, outcomes, its_path, seconds=time.monotonic() - began)
            yield result, True
    if first_error:
        raise first_error


def find_zoo(folder: Path, name: str) -> Zoo:
    """Open a zoo by its name below a folder.

    Raises:
        ZooError: it is not there, or another zoo is.
    """
    if not (folder / name).is_dir():
        raise ZooError(f"{folder / name}: no such zoo; make it with: zoo-gen run {name} --out {folder / name}")
    zoo = open_zoo(folder / name)
    if zoo.name != name:
        raise ZooError(f"{folder / name}: holds the zoo {zoo.name!r}; expected {name!r}")
    return zoo


def _is_current(result: Result, benchmark: BenchmarkManifest, digest: str, cells: Sequence[Cell]) -> bool:
    """Say whether a result was made from exactly this encoder, benchmark and these zoos, and nothing failed."""
    expected = [(used(cell.zoo), used(test.zoo), test.condition) for cell in cells for test in cell.tests]
    return (
        result.benchmark_digest == benchmark.digest
        and result.encoder_digest == digest
        and [(cell.source, cell.test, cell.condition) for cell in result.cells] == expected
    )


def _evaluate_all(setting: Setting, cells: Sequence[Cell], *, workers: int) -> Iterator[KeptCell | str]:
    """Yield each cell as it was kept, or why it failed, in order; what is kept already is not computed."""
    if workers == 1:
        for cell in cells:
            yield _read_kept(setting, cell) or _evaluate(setting, cell)
        return
    import joblib

    tasks = [number for number, cell in enumerate(cells) if not _read_kept(setting, cell)]
    computed = joblib.Parallel(n_jobs=workers, return_as="generator")(
        joblib.delayed(_evaluate_number)(setting, number) for number in tasks
    )
    for number, cell in enumerate(cells):
        yield next(computed) if number in tasks else (_read_kept(setting, cell) or "")


def _evaluate_number(setting: Setting, number: int) -> KeptCell | str:
    """Evaluate one cell in a worker process, which opens the zoos itself: no array travels."""
    opened = [find_zoo(setting.zoos, name) for name in setting.benchmark.zoos]
    return _evaluate(setting, protocols.cells(setting.benchmark, opened)[number])


def _evaluate(setting: Setting, cell: Cell) -> KeptCell | str:
    """Evaluate one cell and keep it, or return the line that says why it failed."""
    from threadpoolctl import threadpool_limits

    try:
        encoder = make_encoder(setting.encoder, runtime=setting.runtime)
        # The last digits of linear algebra follow from its number of threads, which workers share out: one, always.
        with threadpool_limits(limits=1, user_api="blas"):
            found = evaluate_cell(setting.encoder, encoder, setting.benchmark, cell, seed=setting.seed)
    except ZooError as error:
        return str(error)
    return _keep(setting, cell, found, config=encoder.config)


def _keep(setting: Setting, cell: Cell, found: Evaluated, *, config: dict[str, object]) -> KeptCell:
    path = _kept_path(setting, cell)
    kept = KeptCell(
        results=found.results,
        failures=found.failures,
        encoder_config=config,
        predictions_sha256=records.write_predictions(found.predictions, records.predictions_path(path)),
        resamples_sha256=records.write_resamples(found.resamples, records.resamples_path(path)),
    )
    temporary = path.with_suffix(".tmp")
    temporary.write_text(kept.model_dump_json(), encoding="utf-8")
    temporary.replace(path)
    return kept


def _read_kept(setting: Setting, cell: Cell) -> KeptCell | None:
    path = _kept_path(setting, cell)
    if not path.exists():
        return None
    kept = KeptCell.model_validate_json(path.read_text(encoding="utf-8"))
    return None if kept.failures else kept


def _kept_path(setting: Setting, cell: Cell) -> Path:
    zoos = [used(zoo).model_dump() for zoo in (cell.zoo, *(test.zoo for test in cell.tests))]
    identity = [
        setting.digest,
        setting.benchmark.digest,
        cell.name,
        setting.seed,
        zoos,
        version("zoo-gen"),
        version("numpy"),
    ]
    content = json.dumps(identity, sort_keys=True)
    return setting.folder / f"{hashlib.sha256(content.encode()).hexdigest()[:24]}.json"


def _forget(setting: Setting, cells: Sequence[Cell]) -> None:
    for cell in cells:
        path = _kept_path(setting, cell)
        for file in (path, records.predictions_path(path), records.resamples_path(path)):
            file.unlink(missing_ok=True)


def _assemble(
    setting: Setting, cells: Sequence[Cell], outcomes: Sequence[KeptCell | str], path: Path, *, seconds: float
) -> Result:
    """Write one result of its cells, its two tables first, and remove the cells unless some failed."""
    kept: list[KeptCell] = []
    failures: list[Failure] = []
    predictions, resamples = [], []
    for cell, outcome in zip(cells, outcomes, strict=True):
        if isinstance(outcome, str):
            failures += [
                Failure(source=cell.zoo.name, test=test.zoo.name, condition=test.condition, message=outcome)
                for test in cell.tests
            ]
            continue
        kept.append(outcome)
        failures += outcome.failures
        its = _kept_path(setting, cell)
        predictions += records.read_predictions(records.predictions_path(its))
        resamples += records.read_resamples(records.resamples_path(its))
    packages = ("zoo-gen", "numpy", "scikit-learn", "scipy")
    encoder = make_encoder(setting.encoder)
    result = Result(
        encoder=setting.encoder,
        encoder_config=kept[0].encoder_config,
        encoder_digest=setting.digest,
        benchmark=setting.benchmark.name,
        benchmark_digest=setting.benchmark.digest,
        protocol=setting.benchmark.protocol,
        rank_by=setting.benchmark.rank_by,
        seed=setting.seed,
        resamples=metrics.RESAMPLES,
        confidence=metrics.CONFIDENCE,
        cells=tuple(result for its in kept for result in its.results),
        failures=tuple(failures),
        predictions_sha256=records.write_predictions(predictions, records.predictions_path(path)),
        resamples_sha256=records.write_resamples(resamples, records.resamples_path(path)),
        versions={its: version(its) for its in ((*packages, "torch") if hasattr(encoder, "runtime") else packages)},
        seconds=seconds,
    ).signed()
    write_result(result, path)
    if not failures:
        _forget(setting, cells)
        if not any(setting.folder.iterdir()):
            setting.folder.rmdir()
    return result
