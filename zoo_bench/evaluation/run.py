"""Running a benchmark: its cells through the queue, each stored as soon as it is done, then results of whole cells.

A cell that failed leaves a line in the result and is tried again by the next run.
Two runs may share a folder of results: each finds a file whole or not at all, and what the other removed is computed
again.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

from zoo_bench.encoders.training.runtime import Runtime, is_first_process, process_count
from zoo_bench.evaluation import pending
from zoo_bench.evaluation.assembly import assemble, pending_folder
from zoo_bench.evaluation.candidate import Candidate
from zoo_bench.evaluation.candidates import candidate
from zoo_bench.evaluation.cell import used
from zoo_bench.evaluation.cell_queue import evaluate, evaluate_all
from zoo_bench.evaluation.failing import EncoderError
from zoo_bench.evaluation.generators import check_seed
from zoo_bench.evaluation.pending import Setting
from zoo_bench.evaluation.processes.client import Template
from zoo_bench.protocol import protocols
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.protocols import Cell, On
from zoo_bench.protocol.zoos import ZooAddress, find_zoos
from zoo_bench.results import Result, encoder_of, is_outdated, read_result, result_path
from zoo_gen.errors import ZooError, check_number
from zoo_gen.files.location import Folder
from zoo_gen.machine.progress import progress_bar
from zoo_gen.zoo import AnyZoo

logger = logging.getLogger(__name__)

Rerun = Literal["always", "never", "only-missing"]
TRAININGS = ".trainings"  # the folder of encoders whose training was interrupted, where nothing else is said


def run(
    benchmark: BenchmarkManifest,
    encoders: Sequence[str | Candidate],
    *,
    zoos: str | Folder | Sequence[AnyZoo],
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

    An encoder that fails on every cell has no result, and a stored result that cannot be read is left as it is; the
    others go on, and the first such failure is raised last, after all others were logged.

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
    check_number("workers", workers, least=1)
    check_is_folder(results)
    if workers == 1 and scheduler is None:
        Template.started()  # imports what encoders need while zoos are read
    opened = find_zoos(benchmark, zoos)
    cells = protocols.cells(benchmark, opened, on=on)  # weights are read once for all encoders
    for seed in seeds:
        check_seed(seed)
    on_traceback = tell or (lambda traceback: None)
    chosen, errors = _constructed(encoders, on_traceback)
    addresses = tuple(ZooAddress.of(zoo) for zoo in opened)
    folder = pending_folder(results).absolute()
    settings = [
        Setting(benchmark, encoder, seed, addresses, folder=folder, runtime=runtime, code=Path.cwd(), on=on)
        for encoder in chosen
        for seed in dict.fromkeys(seeds)
    ]
    stored: dict[Setting, Result] = {}
    for setting in list(settings):
        path = result_path(results, benchmark=benchmark.name, encoder=setting.candidate.name, seed=setting.seed, on=on)
        try:
            _check_owner(path, setting.candidate.name)
        except ZooError as another:  # stays as it is, and stops no other
            errors.append(str(another))
            settings.remove(setting)
            continue
        # A result of an earlier schema is replaced, unless nothing is to be computed again: it is an error then.
        is_read = path.exists() and rerun != "always" and not (rerun == "only-missing" and is_outdated(path))
        try:
            result = read_result(path) if is_read else None
        except ZooError as damaged:  # stays as it is, and stops no other
            errors.append(str(damaged))
            settings.remove(setting)
            continue
        if result and (rerun == "never" or _is_current(result, setting, cells)):
            stored[setting] = result
        # What is there already was left by a run that was killed; processes that train together must all train.
        if setting in stored or rerun == "always" or process_count() > 1:
            pending.remove(setting, cells)
    shown = progress and is_first_process()
    with (
        progress_bar(label=benchmark.name, unit="cell", total=len(settings) * len(cells), shown=shown) as bar,
        closing(evaluate_all(settings, stored, cells, bar, workers=workers, scheduler=scheduler)) as finished,
    ):
        for setting in finished:
            if setting in stored:
                yield stored[setting], False
                continue
            outcomes = [pending.read(setting, cell) or evaluate(setting, cell) for cell in cells]
            for traceback in dict.fromkeys(text for outcome in outcomes for text in outcome.record.tracebacks):
                on_traceback(traceback)
            if not any(outcome.record.results for outcome in outcomes):
                pending.remove(setting, cells)
                errors.append(outcomes[0].record.error)
                continue
            yield assemble(setting, cells, outcomes, results), True
    first, *others = dict.fromkeys(errors) or [""]
    for message in others:
        logger.error("%s", message)
    if first:
        raise ZooError(first)


def check_is_folder(results: Path) -> None:
    """Refuse a file in place of a folder of results.

    Raises:
        ZooError: it is one.
    """
    if results.is_file():
        raise ZooError(f"{results}: is a file; expected a folder of results")


def _check_owner(path: Path, encoder: str) -> None:
    """Refuse to store results of an encoder among those of another, whose name gives the same folder."""
    for stored in (path, *path.parent.glob("*seed-*.json")):
        owner = encoder_of(stored)
        if owner is not None and owner != encoder:
            raise ZooError(
                f"{stored}: is a result of the encoder {owner!r}; expected another name than {encoder!r}, which would "
                "share its folder"
            )
        if owner is not None:
            return


def _constructed(encoders: Sequence[str | Candidate], tell: Callable[[str], None]) -> tuple[list[Candidate], list[str]]:
    """Return the encoders that can be made, and the errors of those that cannot, so that they stop no other."""
    chosen, errors = [], []
    for encoder in dict.fromkeys(encoders):
        try:
            chosen.append(encoder if isinstance(encoder, Candidate) else candidate(encoder))
        except EncoderError as error:
            errors.append(str(error))
            if error.traceback:
                tell(error.traceback)
    return chosen, errors


def _is_current(result: Result, setting: Setting, cells: Sequence[Cell]) -> bool:
    """Say whether a result was made from exactly this encoder, benchmark and these zoos, and nothing failed."""
    expected = [(used(cell.zoo), used(test.zoo), test.condition) for cell in cells for test in cell.tests]
    return (
        result.benchmark_digest == setting.benchmark.digest
        and result.encoder_digest == setting.candidate.digest
        and result.on == setting.on
        and [(cell.source, cell.test, cell.condition) for cell in result.cells] == expected
    )
