"""The content of the page: standings, one part for each benchmark, and the data that its script draws.

The names of a benchmark's zoos lose their common prefix, so that the heads of heat maps stay readable; a touch or a
screen reader gives the whole name.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np

from zoo_bench.results import Result
from zoo_bench.results.records import TargetPrediction
from zoo_bench.scores.metrics import LOWER_IS_BETTER, missing
from zoo_bench.standings.boards import Board, Loaded, failures, shown
from zoo_bench.standings.grids import Grid, grids
from zoo_bench.standings.order import PROTOCOLS, Standings, protocols
from zoo_bench.standings.page.epochs import TARGET, AtEpoch, by_epoch
from zoo_bench.standings.text import seeds_text

POINTS = 150  # of each scatter, drawn at random from the test rows of the first seed
DIGITS = 3  # significant, of what is drawn: a picture is some 400 pixels wide
MOST_NAMES = 12  # in a table of what was taken for what


@dataclass(frozen=True)
class Curve:
    """One encoder's scores over the epochs."""

    encoder: str
    points: tuple[AtEpoch, ...]


@dataclass(frozen=True)
class Part:
    """All of one benchmark."""

    name: str
    sentence: str
    seeds: str  # of its encoders
    probe: str  # "paper" where the probes are those of Schürholt et al. (NeurIPS 2021)
    reading: str  # whose predictions rank
    boards: tuple[tuple[int, Board], ...]  # with their numbers among all boards
    grids: tuple[tuple[tuple[str, str, str], tuple[Grid, ...]], ...]  # by target, metric and who predicted
    numbers: dict[tuple[str, str], int]  # source and test -> number of the board
    curves: dict[int, tuple[Curve, ...]]  # number of a board -> its curves
    prefix: str  # that the names of all its zoos have


@dataclass(frozen=True)
class Failed:
    """What one encoder could not do on one benchmark, for one reason."""

    encoder: str
    benchmark: str
    target: str  # where only this target failed; empty: the whole cells
    cells: tuple[str, ...]
    message: str


def parts(tables: Sequence[Board], loaded: Sequence[Loaded]) -> list[Part]:
    """Return all that belongs to each benchmark."""
    numbered: dict[str, list[tuple[int, Board]]] = defaultdict(list)
    for number, board in enumerate(tables):
        numbered[board.benchmark].append((number, board))
    crossed = grids(tables)
    return [
        Part(
            name=name,
            sentence=PROTOCOLS[protocol],
            seeds=seeds_text([seeds for _, board in boards for seeds in board.seeds]),
            probe=next(one.result.probe for one in loaded if one.result.benchmark == name),
            reading=next(one.result.reading for one in loaded if one.result.benchmark == name),
            boards=tuple(boards),
            grids=_by_target([grid for grid in crossed if grid.benchmark == name]),
            numbers={(board.about.source.zoo, board.about.test.zoo): number for number, board in boards},
            curves={
                number: _curves(board, loaded)
                for number, board in boards
                if board.about.checkpoints > 1 and any(row.target == TARGET for row in board.rows)
            },
            prefix=_prefix([zoo for _, board in boards for zoo in (board.about.source.zoo, board.about.test.zoo)]),
        )
        for name, protocol in protocols(loaded).items()
        for boards in [numbered[name]]
    ]


def failed(loaded: Sequence[Loaded]) -> list[Failed]:
    """Return the failures, one entry for each encoder, benchmark and reason."""
    grouped: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for result, failure in failures(loaded):
        grouped[result.encoder, result.benchmark, failure.target, failure.message].append(failure.name)
    return [Failed(e, b, t, tuple(dict.fromkeys(cells)), message) for (e, b, t, message), cells in grouped.items()]


def links(loaded: Sequence[Loaded]) -> dict[str, list[tuple[str, str]]]:
    """Return what each encoder's settings say of its code and its paper: kind and address, of the web alone."""
    addresses: dict[str, dict[str, str]] = defaultdict(dict)
    for one in loaded:
        for kind in ("code", "paper"):
            address = one.result.encoder_config.get(kind)
            if isinstance(address, str) and address.startswith(("https://", "http://")):
                addresses[one.result.encoder][kind] = address
    return {one.result.encoder: list(addresses[one.result.encoder].items()) for one in loaded}


def machines(result: Result) -> list[str]:
    """Return the machines that computed a result, each in a few words."""
    texts = [
        f"{machine.gpu or machine.processor}, {machine.cores} cores, {machine.platform}"
        for machine in (cell.machine for cell in result.cells)
    ]
    return list(dict.fromkeys(texts))


def drawn(boards: Sequence[Board], order: Standings, loaded: Sequence[Loaded]) -> dict[str, object]:
    """Return what the page's script draws: predictions beside the truth, and costs beside ranks.

    Keys of `truth` and `named` are BOARD/TARGET/BY, of `predicted` and `taken` these and the number of the encoder.
    """
    first = {(one.result.benchmark, one.result.encoder): one for one in reversed(loaded)}
    data: dict[str, dict[str, object]] = {
        "truth": {},
        "epochs": {},
        "rows": {},
        "predicted": {},
        "named": {},
        "taken": {},
    }
    for number, board in enumerate(boards):
        for row in shown(board):
            for column, (encoder, cell) in enumerate(zip(board.encoders, row.cells, strict=True)):
                by = ("probe" if cell.by == "probe" else "encoder") if row.by == "own" else row.by
                for prediction in first[board.benchmark, encoder].predictions:
                    if (prediction.cell, prediction.target, prediction.by) == (board.cell, row.target, by):
                        _draw(data, prediction, key=f"{number}/{row.target}/{row.by}", board=number, column=column)
    costs = [
        {
            "benchmark": name,
            "encoder": row.encoder,
            "rank": row.ranks[position],
            "seconds": row.costs.seconds,
            "parameters": row.costs.parameters,
            "memory": row.costs.memory_bytes,
        }
        for row in order.rows
        for position, name in enumerate(order.benchmarks)
        if row.ranks[position] is not None and row.costs is not None
    ]
    return {**data, "costs": costs}


def _draw(
    data: dict[str, dict[str, object]], prediction: TargetPrediction, *, key: str, board: int, column: int
) -> None:
    """Add what is drawn of one prediction: points of its rows, or how often each name was taken for each."""
    labelled_rows = np.flatnonzero(~missing(prediction.truth))
    if prediction.is_number:
        rows = labelled_rows[np.random.RandomState(0).permutation(len(labelled_rows))[:POINTS]]
        data["truth"][key] = _rounded(prediction.truth[rows])
        data["epochs"][key] = prediction.epochs[rows].tolist()
        data["rows"][key] = len(labelled_rows)
        data["predicted"][f"{key}/{column}"] = _rounded(prediction.predicted[rows])
    else:
        data["named"][key], data["taken"][f"{key}/{column}"] = _confusions(prediction)


def extent(board: Board, number: int) -> tuple[float, float]:
    """Return the range of the strips of a row of a board: 0 to 1, or 0 to the largest error."""
    row = board.rows[number]
    if row.metric not in LOWER_IS_BETTER:
        return 0.0, 1.0
    return 0.0, max((cell.high for cell in row.cells if cell.high is not None), default=1.0) or 1.0


def place(value: float, low: float, high: float) -> float:
    """Return the position of a value on a strip of 100 units; a value outside is drawn at the edge."""
    return 100.0 * min(max((value - low) / (high - low), 0.0), 1.0)


def _by_target(crossed: Sequence[Grid]) -> tuple[tuple[tuple[str, str, str], tuple[Grid, ...]], ...]:
    """Group grids by target, metric and who predicted, on the same zoos.

    The best average comes first. Who lacks cells comes after all who have them, as in the ranks: its mean is of others.
    """
    sources = tuple(dict.fromkeys(source for grid in crossed for source in grid.sources))
    tests = tuple(dict.fromkeys(test for grid in crossed for test in grid.tests))
    tests = (*(name for name in sources if name in tests), *(name for name in tests if name not in sources))
    grouped: dict[tuple[str, str, str], list[Grid]] = defaultdict(list)
    for grid in crossed:
        grouped[grid.target, grid.metric, grid.by].append(_on(grid, sources, tests))

    def order(grid: Grid) -> tuple[int, float]:
        return grid.lacking, grid.average if grid.metric in LOWER_IS_BETTER else -grid.average

    return tuple((key, tuple(sorted(group, key=order))) for key, group in grouped.items())


def _on(grid: Grid, sources: tuple[str, ...], tests: tuple[str, ...]) -> Grid:
    """Return a grid on more zoos; where it has no cell it stays empty."""
    values = {
        (source, test): value
        for source, row in zip(grid.sources, grid.values, strict=True)
        for test, value in zip(grid.tests, row, strict=True)
    }
    wider = tuple(tuple(values.get((source, test)) for test in tests) for source in sources)
    return replace(grid, sources=sources, tests=tests, values=wider)


def _curves(board: Board, loaded: Sequence[Loaded]) -> tuple[Curve, ...]:
    curves = []
    for encoder in board.encoders:
        predictions = [
            prediction
            for one in loaded
            if (one.result.benchmark, one.result.encoder) == (board.benchmark, encoder)
            for prediction in one.predictions
            if (prediction.cell, prediction.target, prediction.by) == (board.cell, TARGET, "probe")
        ]
        curves.append(Curve(encoder, tuple(by_epoch(predictions))))
    return tuple(curves)


def _confusions(prediction: TargetPrediction) -> tuple[list[str], list[list[int]]]:
    """Return the commonest names, and how many rows of each true name were predicted to be each."""
    truth, predicted = prediction.truth, prediction.predicted
    names, counts = np.unique(np.concatenate([truth, predicted]), return_counts=True)
    names = np.sort(names[np.argsort(-counts, kind="stable")][:MOST_NAMES])
    table = [[int(((truth == a) & (predicted == b)).sum()) for b in names] for a in names]
    return names.tolist(), table


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values]


def _prefix(names: Sequence[str]) -> str:
    """Return the common prefix of all names, up to an underscore, if something is left of each."""
    words = [name.split("_") for name in set(names)]
    if len(words) < 2:
        return ""
    alike = takewhile(lambda column: len(set(column)) == 1, zip(*(parts[:-1] for parts in words), strict=False))
    return "".join(f"{column[0]}_" for column in alike)
