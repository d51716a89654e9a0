"""Boards: one table for each cell of a benchmark, and one grid for each encoder where benchmarks cross zoos.

Several seeds make one score: its value is their mean, its interval the percentiles of the resamples of all seeds
pooled, so that it spans the draw of models and of seeds alike. Ranks tie where a paired bootstrap tells no difference.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo_bench.results import CellResult, Failure, Result, Score, read_result, result_paths
from zoo_bench.results.records import (
    TargetPrediction,
    predictions_path,
    read_predictions,
    read_resamples,
    resamples_path,
)
from zoo_bench.scores import metrics
from zoo_gen.errors import ZooError

Key = tuple[str, str, bool, str]  # target, metric, whether it ranks, who predicted


@dataclass(frozen=True)
class Loaded:
    """A result with the resamples and predictions that lie beside it."""

    result: Result
    resamples: dict[tuple[str, str, str, str], np.ndarray]  # (cell, target, metric, by) -> (resample,)
    predictions: list[TargetPrediction]


@dataclass(frozen=True)
class CellScore:
    """One encoder's score in one row; all None where the metric is undefined."""

    value: float | None  # mean over seeds
    low: float | None
    high: float | None
    is_best: bool
    ties_with_best: bool  # a paired bootstrap tells no difference from the best
    p: float | None  # of the difference from the best
    rank: int | None  # 1 + how many encoders are better by more than chance
    ceiling: float | None


@dataclass(frozen=True)
class Row:
    """One target under one metric, a cell an encoder; predicted by probes, or by the encoders that learned it."""

    target: str
    metric: str
    ranks: bool
    by: str
    cells: tuple[CellScore, ...]


@dataclass(frozen=True)
class Costs:
    """What an encoder cost in one row: means over seeds of seconds, the most over seeds of the others."""

    seconds: float  # fit, encode and probe
    parameters: int | None  # that training set; None where the encoder does not say
    memory_bytes: int | None  # on a GPU where it used one, else of the process
    dimension: int

    @classmethod
    def of(cls, cells: Sequence[CellResult]) -> "Costs":
        """Return the costs of one encoder with several seeds, or on several cells."""
        memory = [cell.gpu_memory_bytes or cell.memory_bytes for cell in cells]
        return cls(
            seconds=float(np.mean([cell.fit_seconds + cell.encode_seconds + cell.probe_seconds for cell in cells])),
            parameters=max((cell.parameters for cell in cells if cell.parameters is not None), default=None),
            memory_bytes=max((size for size in memory if size is not None), default=None),
            dimension=max(cell.dimension for cell in cells),
        )


@dataclass(frozen=True)
class Board:
    """All encoders on one cell of one benchmark, the best mean rank first."""

    benchmark: str
    cell: str
    encoders: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    costs: tuple[Costs, ...]
    seeds: tuple[int, ...]
    about: CellResult  # whose digests and counts all results of the board share
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Grid:
    """One encoder's scores of one target, trained on each zoo of a benchmark and tested on each; means over seeds."""

    benchmark: str
    encoder: str
    target: str
    metric: str
    by: str
    sources: tuple[str, ...]
    tests: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]  # (source, test); None where there is no cell
    diagonal: float | None  # mean over cells trained and tested on one zoo
    off_diagonal: float | None
    average: float
    spread: float  # population deviation over all cells


def load(folder: Path) -> list[Loaded]:
    """Read all results below a folder with their resamples and predictions.

    Raises:
        ZooError: there is none, or one is damaged; the message names the file.
    """
    return [load_result(path) for path in result_paths(folder)]


def load_result(path: Path) -> Loaded:
    """Read one result with its resamples and predictions.

    Raises:
        ZooError: it is damaged; the message names the file.
    """
    return Loaded(
        read_result(path),
        {resampled.key: resampled.values for resampled in read_resamples(resamples_path(path))},
        read_predictions(predictions_path(path)),
    )


def boards(loaded: Sequence[Loaded]) -> list[Board]:
    """Return one board for every cell of every benchmark.

    Raises:
        ZooError: results of one board come from different revisions or splits of the zoos, or from another benchmark.
    """
    grouped: dict[tuple[str, str], dict[str, list[tuple[Loaded, CellResult]]]] = defaultdict(lambda: defaultdict(list))
    for one in loaded:
        for cell in one.result.cells:
            grouped[one.result.benchmark, cell.name][one.result.encoder].append((one, cell))
    return [_board(benchmark, name, encoders) for (benchmark, name), encoders in grouped.items()]


def grids(tables: Sequence[Board]) -> list[Grid]:
    """Return a grid for every encoder and ranking score (and own prediction) of every benchmark that crosses zoos."""
    scores: dict[tuple[str, str, str, str, str], dict[tuple[str, str], float]] = defaultdict(dict)
    crossed = {board.benchmark for board in tables if board.about.source.zoo != board.about.test.zoo}
    for board in tables:
        if board.benchmark not in crossed:
            continue
        ranking = {row.metric for row in board.rows if row.ranks}
        for row in board.rows:
            if row.ranks or (row.by == "encoder" and row.metric in ranking):
                for encoder, cell in zip(board.encoders, row.cells, strict=True):
                    if cell.value is not None:
                        zoos = board.about.source.zoo, board.about.test.zoo
                        scores[board.benchmark, row.target, row.metric, row.by, encoder][zoos] = cell.value
    return [_grid(key, cells) for key, cells in scores.items()]


def failures(loaded: Sequence[Loaded]) -> list[tuple[Result, Failure]]:
    """Return every failure with its result."""
    return [(one.result, failure) for one in loaded for failure in one.result.failures]


def _grid(key: tuple[str, str, str, str, str], cells: dict[tuple[str, str], float]) -> Grid:
    benchmark, target, metric, by, encoder = key
    sources, tests = (list(dict.fromkeys(zoos[side] for zoos in cells)) for side in (0, 1))
    # Tests in the order of the sources, so that the diagonal is one.
    tests = [*(name for name in sources if name in tests), *(name for name in tests if name not in sources)]
    diagonal = [value for (source, test), value in cells.items() if source == test]
    others = [value for (source, test), value in cells.items() if source != test]
    return Grid(
        benchmark=benchmark,
        encoder=encoder,
        target=target,
        metric=metric,
        by=by,
        sources=tuple(sources),
        tests=tuple(tests),
        values=tuple(tuple(cells.get((source, test)) for test in tests) for source in sources),
        diagonal=float(np.mean(diagonal)) if diagonal else None,
        off_diagonal=float(np.mean(others)) if others else None,
        average=float(np.mean(list(cells.values()))),
        spread=float(np.std(list(cells.values()))),
    )


def _board(benchmark: str, name: str, encoders: dict[str, list[tuple[Loaded, CellResult]]]) -> Board:
    pairs = [pair for seeds in encoders.values() for pair in seeds]
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
    names = list(encoders)
    keys: list[Key] = list(dict.fromkeys((s.target, s.metric, s.ranks, s.by) for _, c in pairs for s in c.scores))
    scores = {key: [_pooled(encoders[encoder], key) for encoder in names] for key in keys}
    ranks = np.mean([_ranks(cells, key[1]) for key, cells in scores.items() if key[2]], axis=0)
    order = sorted(range(len(names)), key=lambda column: (ranks[column], names[column]))
    rows = tuple(Row(*key, cells=_marked([cells[column] for column in order], key[1])) for key, cells in scores.items())
    return Board(
        benchmark=benchmark,
        cell=name,
        encoders=tuple(names[column] for column in order),
        mean_ranks=tuple(float(ranks[column]) for column in order),
        costs=tuple(Costs.of([cell for _, cell in encoders[names[column]]]) for column in order),
        seeds=tuple(sorted({one.result.seed for one, _ in pairs})),
        about=first[1],
        rows=rows,
    )


@dataclass(frozen=True)
class _Pooled:
    """A score over seeds."""

    value: float
    low: float
    high: float
    resampled: np.ndarray  # float64 (seed, resample)
    ceiling: float | None


def _pooled(seeds: list[tuple[Loaded, CellResult]], key: Key) -> _Pooled | None:
    """Return one encoder's score over its seeds, or None if the metric is undefined for one of them."""
    scores = [_find(cell, key) for _, cell in seeds]
    values = [score.value for score in scores if score is not None and score.value is not None]
    if len(values) < len(seeds):
        return None
    target, metric, _, by = key
    try:
        resampled = np.array([one.resamples[cell.name, target, metric, by] for one, cell in seeds])
    except KeyError:
        result = seeds[0][0].result
        raise ZooError(
            f"{result.benchmark}/{result.encoder}: {target}, {metric} has no resamples; expected those of its result"
        ) from None
    summary = metrics.summary(float(np.mean(values)), resampled.reshape(-1))
    ceiling = next((score.ceiling for score in scores if score is not None), None)
    return _Pooled(summary.value, summary.low, summary.high, resampled, ceiling)


def _find(cell: CellResult, key: Key) -> Score | None:
    return next((score for score in cell.scores if (score.target, score.metric, score.ranks, score.by) == key), None)


def _goodness(cell: _Pooled | None, metric: str) -> float:
    """Return what is higher the better a score is; undefined is worst."""
    if cell is None:
        return -np.inf
    return -cell.value if metric in metrics.LOWER_IS_BETTER else cell.value


def _ranks(cells: list[_Pooled | None], metric: str) -> list[float]:
    """Return the rank of each cell from 1, equal values sharing the mean of their ranks, undefined ones last."""
    values = [_goodness(cell, metric) for cell in cells]
    return [1 + sum(o > v for o in values) + (sum(o == v for o in values) - 1) / 2 for v in values]


def _marked(cells: list[_Pooled | None], metric: str) -> tuple[CellScore, ...]:
    """Compare each encoder's score in one row with those of the others."""
    best = max(cells, key=lambda cell: _goodness(cell, metric))
    marked = []
    for cell in cells:
        if cell is None or best is None:
            marked.append(
                CellScore(None, None, None, is_best=False, ties_with_best=False, p=None, rank=None, ceiling=None)
            )
            continue
        is_best = cell.value == best.value
        to_best = metrics.difference(best.resampled, cell.resampled)
        better = sum(_is_better(other, cell, metric) for other in cells if other is not None and other is not cell)
        marked.append(
            CellScore(
                cell.value,
                cell.low,
                cell.high,
                is_best=is_best,
                ties_with_best=not is_best and not _is_better(best, cell, metric),
                p=None if is_best else to_best.p,
                rank=1 + better,
                ceiling=cell.ceiling,
            )
        )
    return tuple(marked)


def _is_better(one: _Pooled, other: _Pooled, metric: str) -> bool:
    """Say whether one is better than the other by more than the draw of models and seeds explains."""
    sign = -1 if metric in metrics.LOWER_IS_BETTER else 1
    return metrics.difference(sign * one.resampled, sign * other.resampled).low > 0
