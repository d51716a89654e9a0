"""Published rows: what papers report on the very networks of a board, beneath what was computed here and in no rank."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zoo_bench.protocol.published_scores import PublishedScore, PublishedScores, list_published_scores
from zoo_bench.standings.boards import Board


@dataclass(frozen=True)
class PublishedRow:
    """What one source reports of one method."""

    method: str
    source: int  # its number among the sources of the board, from 1
    date: str
    status: str
    scores: tuple[PublishedScore | None, ...]  # one for each row of the board; None where nothing is reported


@dataclass(frozen=True)
class Published:
    """All that is reported on the networks of one board."""

    sources: tuple[PublishedScores, ...] = ()
    rows: tuple[PublishedRow, ...] = ()


def published(board: Board, known: Mapping[str, Sequence[PublishedScores]] | None = None) -> Published:
    """Return what papers report on the networks of a board: of its benchmark, its zoos and its targets.

    A number stands beside the scores that rank, if its target ranks by its metric; else beside the first of that kind.

    Args:
        board: of one cell; the conditions of a protocol, which no paper has, have no published rows.
        known: published scores by the name of the benchmark; those that ship, if not given.
    """
    of_benchmark = (list_published_scores() if known is None else known).get(board.benchmark, ())
    sources: list[PublishedScores] = []
    rows: list[PublishedRow] = []
    for scores in of_benchmark if not board.about.condition else ():
        methods: dict[str, dict[int, PublishedScore]] = {}
        for score in scores.rows:
            column = _column(board, score)
            if column is not None:
                methods.setdefault(score.method, {})[column] = score
        if methods:
            sources.append(scores)
        rows += [
            PublishedRow(
                method=method,
                source=len(sources),
                date=scores.date,
                status=scores.status,
                scores=tuple(by_column.get(column) for column in range(len(board.rows))),
            )
            for method, by_column in methods.items()
        ]
    return Published(tuple(sources), tuple(rows))


def stated(value: float) -> str:
    """Return a published number with the digits that it has, and three decimals at least.

    >>> [stated(value) for value in (0.93, 0.9399, 7.452, 0.0)]
    ['0.930', '0.9399', '7.452', '0.000']
    """
    text = f"{value:.3f}"
    return text if float(text) == value else str(value)


def _column(board: Board, score: PublishedScore) -> int | None:
    """Return the row of a board in whose kind a published number is; None if it is of other zoos or targets."""
    if (score.source or score.test, score.test) != (board.about.source.zoo, board.about.test.zoo):
        return None
    alike = [
        number for number, row in enumerate(board.rows) if (row.target, row.metric) == (score.target, score.metric)
    ]
    return next((number for number in alike if board.rows[number].ranks), alike[0] if alike else None)
