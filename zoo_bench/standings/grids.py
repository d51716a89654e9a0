"""Grids: one encoder's scores of one target, trained on each zoo of a benchmark and tested on each."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo_bench.standings.boards import Board, labelled, shown


@dataclass(frozen=True)
class Grid:
    """One encoder's scores of one target, trained on each zoo of a benchmark and tested on each; means over seeds."""

    benchmark: str
    encoder: str
    target: str
    metric: str
    by: str
    label: str  # the target, and who predicted it where there are grids of several
    sources: tuple[str, ...]
    tests: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]  # (source, test); None where there is no cell
    diagonal: float | None  # mean over cells trained and tested on one zoo
    off_diagonal: float | None
    average: float
    spread: float  # population deviation over all cells
    scored: int  # cells that have a score, of which those are means
    lacking: int  # cells where others have one, and this encoder failed or its score is undefined


def grids(tables: Sequence[Board]) -> list[Grid]:
    """Return a grid for every encoder and row that boards show, of every benchmark that crosses zoos."""
    scores: dict[tuple[str, str, str, str, str], dict[tuple[str, str], float]] = defaultdict(dict)
    crossed = {board.benchmark for board in tables if board.about.source.zoo != board.about.test.zoo}
    for board in tables:
        if board.benchmark not in crossed:
            continue
        zoos = board.about.source.zoo, board.about.test.zoo
        for row in shown(board):
            for encoder, cell in zip(board.encoders, row.cells, strict=True):
                if cell.value is not None:
                    scores[board.benchmark, row.target, row.metric, row.by, encoder][zoos] = cell.value
    readings: dict[tuple[str, ...], set[str]] = defaultdict(set)
    known: dict[tuple[str, ...], set[tuple[str, str]]] = defaultdict(set)  # cells that any encoder has in a row
    for (benchmark, target, metric, by, _), cells in scores.items():
        readings[benchmark, target, metric].add(by)
        known[benchmark, target, metric, by] |= cells.keys()
    return [
        _grid(key, cells, label=labelled(key[1], key[3], readings[key[:3]]), n_cells=len(known[key[:4]]))
        for key, cells in scores.items()
    ]


def _grid(
    key: tuple[str, str, str, str, str], cells: dict[tuple[str, str], float], *, label: str, n_cells: int
) -> Grid:
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
        label=label,
        sources=tuple(sources),
        tests=tuple(tests),
        values=tuple(tuple(cells.get((source, test)) for test in tests) for source in sources),
        diagonal=float(np.mean(diagonal)) if diagonal else None,
        off_diagonal=float(np.mean(others)) if others else None,
        average=float(np.mean(list(cells.values()))),
        spread=float(np.std(list(cells.values()))),
        scored=len(cells),
        lacking=n_cells - len(cells),
    )
