"""Boards: one table for each cell of a benchmark, a row a target and metric, a column an encoder.

A board has a column for every encoder with a result of its benchmark. One that failed on the cell, with one seed of
several even, has no score there and comes last.
"""

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from zoo_bench.results import CellResult, Failure, Result, Score, read_result, result_paths
from zoo_bench.results.integrity import changes
from zoo_bench.results.records import Resampled, TargetPrediction, read_predictions, read_resamples, resamples_path
from zoo_bench.results.scoring import FLOORS, score_result
from zoo_bench.results.side_by_side import side_by_side
from zoo_bench.scores import metrics
from zoo_bench.standings.pooled import Absent, CellScore, Pooled, compared
from zoo_gen.errors import ZooError

By = Literal["own", "probe", "encoder", "recipe", "mean"]
_READINGS: dict[str, str] = {"probe": "by probes", "encoder": "by encoders", "own": ""}  # said beside a target
Resamples = dict[tuple[str, str, str, str], np.ndarray]  # (cell, target, metric, by) -> (resample,)
_Seeds = dict[int, tuple["Loaded", CellResult]]  # of one encoder on one cell


@dataclass(frozen=True)
class Loaded:
    """A result with the resamples and predictions that lie beside it."""

    result: Result
    stored: Resamples | None  # None where none lie beside it: as results ship
    predictions: list[TargetPrediction]

    @cached_property
    def resamples(self) -> Resamples:
        """Those that lie beside it, or those that are drawn again from the predictions, which takes seconds."""
        if self.stored is not None:
            return self.stored
        return _by_key(scored.resampled for scored in score_result(self.result, self.predictions))


@dataclass(frozen=True)
class Row:
    """One target under one metric, a score an encoder.

    `by` says whose predictions: the probes', the encoders' own (of those that learned the target), or, in a row that
    ranks, "own": each encoder's own where it has one, else its probe's.
    """

    target: str
    metric: str
    ranks: bool
    by: By
    cells: tuple[CellScore, ...]
    floors: tuple[tuple[str, float], ...] = ()  # what needs no weight, "recipe" and "mean", with its score


@dataclass(frozen=True)
class Costs:
    """What an encoder cost in one row: means over seeds of seconds, the most over seeds of the others."""

    seconds: float  # fit, encode and probe
    parameters: int | None  # that training set; None where the encoder does not say
    memory_bytes: int | None  # on a GPU where it used one, else of the process
    dimension: int
    operations: int | None  # to encode a network; None where none were counted
    networks_per_second: float | None  # encoded; the least over seeds

    @classmethod
    def of(cls, cells: Sequence[CellResult]) -> "Costs":
        """Return the costs of one encoder with several seeds on a cell."""
        return cls.together(
            [
                cls(
                    seconds=cell.fit_seconds + cell.encode_seconds + cell.probe_seconds,
                    parameters=cell.parameters,
                    memory_bytes=cell.gpu_memory_bytes or cell.memory_bytes,
                    dimension=cell.dimension,
                    operations=cell.operations,
                    networks_per_second=cell.networks_per_second,
                )
                for cell in cells
            ]
        )

    @classmethod
    def together(cls, costs: Sequence["Costs"]) -> "Costs":
        """Return the mean of the seconds, the least speed, and the most of everything else."""
        return cls(
            seconds=float(np.mean([cost.seconds for cost in costs])),
            parameters=_most(cost.parameters for cost in costs),
            memory_bytes=_most(cost.memory_bytes for cost in costs),
            dimension=max(cost.dimension for cost in costs),
            operations=_most(cost.operations for cost in costs),
            networks_per_second=min((c.networks_per_second for c in costs if c.networks_per_second), default=None),
        )


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


@dataclass(frozen=True)
class Board:
    """All encoders on one cell of one benchmark, the best mean rank first."""

    benchmark: str
    cell: str
    encoders: tuple[str, ...]
    mean_ranks: tuple[float, ...]  # the mean of an encoder's ranks in the rows that rank
    costs: tuple[Costs | None, ...]  # None where an encoder failed
    seeds: tuple[tuple[int, ...], ...]  # of each encoder, on the whole benchmark
    about: CellResult  # whose digests and counts all results of the board share
    rows: tuple[Row, ...]


def load(*folders: Path) -> list[Loaded]:
    """Read all results below folders with their resamples and predictions.

    Raises:
        ZooError: a folder has none, one is damaged, or two folders hold different ones of one encoder and seed.
    """
    loaded, problems = load_readable(*folders)
    if problems:
        raise problems[0]
    return loaded


def load_readable(*folders: Path) -> tuple[list[Loaded], list[ZooError]]:
    """Read the results below folders that can be read, and say why the others cannot, an error each.

    Raises:
        ZooError: a folder has no results, or two folders hold different ones of one encoder and seed.
    """
    loaded: dict[tuple[str, str, int], Loaded] = {}
    first: dict[tuple[str, str, int], Path] = {}
    problems: list[ZooError] = []
    paths = [path for folder in folders for path in result_paths(folder)]
    for path, one in zip(paths, map(_read, paths), strict=True):
        if isinstance(one, ZooError):
            problems.append(one)
            continue
        if one.result.on != "test":
            problems.append(ZooError(f"{path}: is a result on {one.result.on} models; expected one on test models"))
            continue
        key = one.result.benchmark, one.result.encoder, one.result.seed
        if key in loaded and loaded[key].result.sha256 != one.result.sha256:
            raise ZooError(
                f"{path}: is another result of {one.result.encoder}, seed {one.result.seed}, than {first[key]}; "
                "expected one of them"
            )
        loaded[key], first[key] = one, path
    return list(loaded.values()), problems


def _read(path: Path) -> Loaded | ZooError:
    try:
        return load_result(path)
    except ZooError as error:
        return error


def load_result(path: Path) -> Loaded:
    """Read one result with its resamples and predictions.

    Results that are shipped come without resamples, which are four fifths of their bytes.

    Raises:
        ZooError: it is damaged, or was changed since it was written; the message names the file.
    """
    result, predictions = read_result(path), read_predictions(path)
    change = next(changes(result, path), None)
    if change is not None:
        raise ZooError(f"{path}: {change}; expected a result as zoo-bench run wrote it")
    resamples = resamples_path(path)
    return Loaded(result, _by_key(read_resamples(resamples)) if resamples.exists() else None, predictions)


def _by_key(resamples: Iterable[Resampled]) -> Resamples:
    return {resampled.key: resampled.values for resampled in resamples}


def boards(loaded: Sequence[Loaded]) -> list[Board]:
    """Return one board for every cell of every benchmark.

    Raises:
        ZooError: results of one board come from different revisions or splits of the zoos, or from another benchmark;
            or the seeds of one encoder from different settings or code.
    """
    deque(side_by_side(lambda one: one.resamples, loaded, seed=lambda one: one.result.seed), maxlen=0)  # draws them all
    seeds: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    cells: dict[tuple[str, str], dict[str, _Seeds]] = defaultdict(lambda: defaultdict(dict))
    firsts: dict[tuple[str, str], Result] = {}
    for one in loaded:
        result = one.result
        seeds[result.benchmark][result.encoder].add(result.seed)
        _check_encoder(result, firsts.setdefault((result.benchmark, result.encoder), result))
        for cell in result.cells:
            cells[result.benchmark, cell.name][result.encoder][result.seed] = one, cell
    return [_board(benchmark, name, seeds[benchmark], encoders) for (benchmark, name), encoders in cells.items()]


def shown(board: Board) -> list[Row]:
    """Return the rows that rank, and those of probes and of encoders under the metrics that rank."""
    ranking = {(row.target, row.metric) for row in board.rows if row.ranks}
    return [row for row in board.rows if (row.target, row.metric) in ranking]


def labelled(target: str, by: str, several: Collection[str]) -> str:
    """Return a target, and who predicted it where several are shown."""
    reading = _READINGS[by] if len(several) > 1 else ""
    return f"{target}, {reading}" if reading else target


def failures(loaded: Sequence[Loaded]) -> list[tuple[Result, Failure]]:
    """Return every failure with its result."""
    return [(one.result, failure) for one in loaded for failure in one.result.failures]


def _board(benchmark: str, name: str, seeds: Mapping[str, set[int]], cells: Mapping[str, _Seeds]) -> Board:
    pairs = [pair for of_encoder in cells.values() for pair in of_encoder.values()]
    first = pairs[0]
    _check_alike(benchmark, pairs)
    names = list(seeds)
    rows = []
    for target, metric, ranks, by in _kinds(first[0].result.reading, [cell for _, cell in pairs]):
        scores = [_pooled(cells.get(name, {}), len(seeds[name]), target, metric, by) for name in names]
        floors = [_floors(cells.get(name, {}), target, metric) for name in names]
        beaten = tuple((floor.by, floor.value) for floor in max(floors, key=len))
        rows.append(Row(target, metric, ranks, by, compared(scores, metric, ranks=ranks, floors=floors), beaten))
    ranks = np.mean([[cell.rank or 0 for cell in row.cells] for row in rows if row.ranks], axis=0)
    order = sorted(range(len(names)), key=lambda column: (ranks[column], names[column]))
    return Board(
        benchmark=benchmark,
        cell=name,
        encoders=tuple(names[column] for column in order),
        mean_ranks=tuple(float(ranks[column]) for column in order),
        costs=tuple(
            Costs.of([cell for _, cell in cells[names[column]].values()]) if names[column] in cells else None
            for column in order
        ),
        seeds=tuple(tuple(sorted(seeds[names[column]])) for column in order),
        about=first[1],
        rows=tuple(replace(row, cells=tuple(row.cells[column] for column in order)) for row in rows),
    )


def _kinds(reading: str, cells: Sequence[CellResult]) -> list[tuple[str, str, bool, By]]:
    """Return target, metric, whether it ranks, and whose predictions, of each row of a board."""
    scores = [score for cell in cells for score in cell.scores if score.by not in FLOORS]
    ranking = {(score.target, score.metric) for score in scores if score.ranks}
    predicted = {(score.target, score.metric) for score in scores if score.by == "encoder"}
    kinds: list[tuple[str, str, bool, By]] = []
    for key in dict.fromkeys((score.target, score.metric) for score in scores):
        is_mixed = reading == "own" and key in ranking & predicted
        kinds += [(*key, True, "own")] if is_mixed else []
        kinds.append((*key, key in ranking and not is_mixed, "probe"))
        kinds += [(*key, False, "encoder")] if key in predicted else []
    return kinds


def _check_encoder(result: Result, first: Result) -> None:
    """Refuse seeds of one encoder whose settings or code changed in between: their mean would be of no encoder."""
    if result.encoder_digest != first.encoder_digest:
        raise ZooError(
            f"{result.benchmark}/{result.encoder}/seed-{result.seed}: another version of the encoder "
            f"({result.encoder_digest[:12]}) than seed-{first.seed}'s ({first.encoder_digest[:12]}); "
            "run all its seeds with one by zoo-bench run"
        )


def _check_alike(benchmark: str, pairs: Sequence[tuple[Loaded, CellResult]]) -> None:
    """Refuse results of one board that come from different zoos, splits or benchmarks."""
    first = pairs[0]
    for one, cell in pairs:
        for what, expected, digest in (
            (f"revision of {cell.source.zoo}", first[1].source.revision, cell.source.revision),
            (f"revision of {cell.test.zoo}", first[1].test.revision, cell.test.revision),
            (f"split of {cell.source.zoo}", first[1].source.split_sha256, cell.source.split_sha256),
            (f"split of {cell.test.zoo}", first[1].test.split_sha256, cell.test.split_sha256),
            (f"set of test rows of {cell.test.zoo}", first[1].test_rows_sha256, cell.test_rows_sha256),
            (f"benchmark {benchmark}", first[0].result.benchmark_digest, one.result.benchmark_digest),
        ):
            if digest != expected:
                raise ZooError(
                    f"{benchmark}/{one.result.encoder}/seed-{one.result.seed}: another {what} ({digest[:12]}) than "
                    f"{first[0].result.encoder}'s ({expected[:12]}); run both on one with zoo-bench run"
                )


def _pooled(seeds: _Seeds, n_seeds: int, target: str, metric: str, by: By) -> Pooled | Absent:
    """Return one encoder's score over its seeds, or why it has none; a seed without a score leaves it without one."""
    if len(seeds) < n_seeds:
        return "failed"
    pairs = list(seeds.values())
    scores = [_find(cell, target, metric, by) for _, cell in pairs]
    present = [score for score in scores if score is not None]
    if len(present) < len(scores):
        return "not predicted" if by == "encoder" else "failed"
    values = [score.value for score in present if score.value is not None]
    if len(values) < len(present):
        return "undefined"
    try:
        resampled = np.array(
            [
                one.resamples[cell.name, target, metric, score.by]
                for (one, cell), score in zip(pairs, present, strict=True)
            ]
        )
    except KeyError:
        result = pairs[0][0].result
        raise ZooError(
            f"{result.benchmark}/{result.encoder}: {target}, {metric} has no resamples; expected those of its result"
        ) from None
    summary = metrics.summary(float(np.mean(values)), resampled.reshape(-1))
    predictors = {score.by for score in present}
    return Pooled(
        summary.value,
        summary.low,
        summary.high,
        resampled,
        ceiling=present[0].ceiling,
        by=predictors.pop() if len(predictors) == 1 else "both",
        left_out=present[0].left_out,
    )


def _floors(seeds: _Seeds, target: str, metric: str) -> list[Pooled]:
    """Return the floors of one row, as the results of one encoder have them."""
    pooled = (_pooled(seeds, len(seeds), target, metric, by) for by in FLOORS if seeds)
    return [floor for floor in pooled if isinstance(floor, Pooled)]


def _find(cell: CellResult, target: str, metric: str, by: By) -> Score | None:
    for score in cell.scores:
        if (score.target, score.metric) == (target, metric) and (score.ranks if by == "own" else score.by == by):
            return score
    return None
