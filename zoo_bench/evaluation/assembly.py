"""Results of whole cells: where they are stored, and how one is put together once all its cells are done."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo_bench.encoders.training.runtime import is_first_process
from zoo_bench.evaluation import pending
from zoo_bench.evaluation.cell import Outcome
from zoo_bench.evaluation.pending import Setting
from zoo_bench.protocol.protocols import Cell
from zoo_bench.results import (
    Failure,
    Result,
    Tuning,
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

CELLS = ".cells"  # the folder of cells that no result holds yet


def stored_path(results: Path, result: Result) -> Path:
    """Return where a run in this process writes a result: the first of several that train together, to `results`."""
    path = result_path(results, benchmark=result.benchmark, encoder=result.encoder, seed=result.seed, on=result.on)
    return path if is_first_process() else pending_folder(results) / path.name


def pending_folder(results: Path) -> Path:
    """Return where a run in this process keeps the cells that no result holds yet."""
    return results / CELLS / ("" if is_first_process() else f"process-{os.environ['RANK']}")


def assemble(setting: Setting, cells: Sequence[Cell], outcomes: Sequence[Outcome], results: Path) -> Result:
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
    predictions = [prediction for outcome in outcomes for prediction in outcome.predictions]
    resamples = [resampled for outcome in outcomes for resampled in outcome.resamples]
    tables = records.prediction_files(predictions, path)
    tables[records.resamples_path(path)] = records.resamples_content(resamples)
    digests = {
        "predictions_sha256": records.content_sha256(tables[records.predictions_path(path)]),
        "resamples_sha256": records.content_sha256(tables[records.resamples_path(path)]),
    }
    if not _names(path, digests):  # else another run has just stored the same, and may be reading it
        path.unlink(missing_ok=True)  # what is killed now leaves no old result beside new tables
    records.write_files(tables)
    result = result.model_copy(update=digests).signed()
    write_result(result, path)
    for file in records.files_of(path):
        atomic.tidy_file(file)  # what killed runs left
    if not failures:
        pending.remove(setting, cells)
    return result


def _names(path: Path, digests: Mapping[str, str]) -> bool:
    """Return whether the result at a path is there and names tables of these digests."""
    try:
        stored = read_result(path)
    except ZooError:
        return False
    return all(getattr(stored, name) == digest for name, digest in digests.items())


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
