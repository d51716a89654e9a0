"""The leaderboard, from results alone: a table a zoo for the terminal, and one self-contained HTML page."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo_bench.results import Result, Score, ZooResult
from zoo_gen.command import table
from zoo_gen.errors import ZooError

OWN = "predicted by the encoder"
METRIC_NAMES = {"r2": "R²", "kendall_tau": "τ-b", "accuracy": "accuracy"}


@dataclass(frozen=True)
class CellScore:
    """One encoder's score in one row; all None where the metric is undefined. Means over seeds."""

    value: float | None
    low: float | None
    high: float | None
    is_best: bool
    ties_with_best: bool  # its interval overlaps the best one's


@dataclass(frozen=True)
class Row:
    """One target under one metric, a cell an encoder; predicted by probes, or by the encoders that learned it."""

    target: str
    metric: str
    ranks: bool
    by: str
    cells: tuple[CellScore, ...]


@dataclass(frozen=True)
class Board:
    """All encoders on one zoo of one benchmark, the best mean rank first."""

    benchmark: str
    zoo: str
    encoders: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    seconds: tuple[float, ...]  # fit, encode and probe, mean over seeds
    dimensions: tuple[int, ...]
    seeds: tuple[int, ...]
    about: ZooResult  # whose digests and counts all results of the board share
    rows: tuple[Row, ...]


def boards(results: Sequence[Result]) -> list[Board]:
    """Return one board for every (benchmark, zoo).

    Raises:
        ZooError: results of one board come from different revisions or splits of the zoo, or from another benchmark.
    """
    grouped: dict[tuple[str, str], dict[str, list[tuple[Result, ZooResult]]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        for zoo in result.zoos:
            grouped[result.benchmark, zoo.zoo][result.encoder].append((result, zoo))
    return [_board(benchmark, zoo, encoders) for (benchmark, zoo), encoders in grouped.items()]


def text(found: Sequence[Board]) -> str:
    """Return the boards as text for a terminal."""
    blocks = []
    for board in found:
        rows: list[dict[str, object]] = []
        for row in board.rows:
            cells = {name: _short(cell, row) for name, cell in zip(board.encoders, row.cells, strict=True)}
            target = row.target if row.by == "probe" else f"{row.target}, {OWN}"
            rows.append({"target": target, "metric": METRIC_NAMES[row.metric], **cells})
        ranks = {name: f"{rank:.2f}" for name, rank in zip(board.encoders, board.mean_ranks, strict=True)}
        rows.append({"target": "mean rank", "metric": "", **ranks})
        about = board.about
        blocks.append(
            f"{board.benchmark} / {board.zoo}: {about.train_models} models train, {about.validation_models} select, "
            f"{about.test_models} test; 95 % intervals over models; * best\n\n{table(rows)}"
        )
    return "\n\n".join(blocks)


def html(found: Sequence[Board], results: Sequence[Result]) -> str:
    """Return the boards as one HTML page that needs no other file."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("leaderboard.html.jinja")
    return template.render(boards=found, results=results, metric_names=METRIC_NAMES, own=OWN, position=_position)


def _board(benchmark: str, zoo: str, encoders: dict[str, list[tuple[Result, ZooResult]]]) -> Board:
    pairs = [pair for found in encoders.values() for pair in found]
    first = pairs[0]
    for result, found in pairs:
        for what, expected, own in (
            ("revision of the zoo", first[1].revision, found.revision),
            ("split", first[1].split_sha256, found.split_sha256),
            ("benchmark", first[0].benchmark_digest, result.benchmark_digest),
        ):
            if own != expected:
                raise ZooError(
                    f"{benchmark}/{result.encoder}/seed-{result.seed}: another {what} of {zoo} ({own[:12]}) than "
                    f"{first[0].encoder}'s ({expected[:12]}); run both on one with zoo-bench run"
                )
    names = list(encoders)
    keys = list(dict.fromkeys((s.target, s.metric, s.ranks, s.by) for _, z in pairs for s in z.scores))
    scores = {key: [_mean([_find(z, key) for _, z in encoders[name]]) for name in names] for key in keys}
    ranks = np.mean([_ranks(cells) for key, cells in scores.items() if key[2]], axis=0)
    order = sorted(range(len(names)), key=lambda column: (ranks[column], names[column]))
    rows = tuple(Row(*key, cells=_marked([cells[column] for column in order])) for key, cells in scores.items())
    seconds = [
        float(np.mean([z.fit_seconds + z.encode_seconds + z.probe_seconds for _, z in encoders[name]]))
        for name in names
    ]
    return Board(
        benchmark=benchmark,
        zoo=zoo,
        encoders=tuple(names[column] for column in order),
        mean_ranks=tuple(float(ranks[column]) for column in order),
        seconds=tuple(seconds[column] for column in order),
        dimensions=tuple(encoders[names[column]][0][1].dimension for column in order),
        seeds=tuple(sorted({result.seed for result, _ in pairs})),
        about=first[1],
        rows=rows,
    )


Interval = tuple[float, float, float] | None  # value, low, high


def _find(zoo: ZooResult, key: tuple[str, str, bool, str]) -> Score | None:
    return next((score for score in zoo.scores if (score.target, score.metric, score.ranks, score.by) == key), None)


def _mean(scores: list[Score | None]) -> Interval:
    """Return the mean over seeds, or None if the metric is undefined for one of them."""
    values = [(s.value, s.low, s.high) for s in scores if s is not None]
    if len(values) < len(scores) or any(v is None for value in values for v in value):
        return None
    value, low, high = np.mean(np.array(values, dtype=float), axis=0)
    return float(value), float(low), float(high)


def _ranks(cells: list[Interval]) -> list[float]:
    """Return the rank of each cell from 1, equal values sharing the mean of their ranks, undefined ones last."""
    values = [-np.inf if cell is None else cell[0] for cell in cells]
    return [1 + sum(o > v for o in values) + (sum(o == v for o in values) - 1) / 2 for v in values]


def _marked(cells: list[Interval]) -> tuple[CellScore, ...]:
    best = max((cell for cell in cells if cell), default=None)
    marked = []
    for cell in cells:
        value, low, high = cell or (None, None, None)
        is_best = cell is not None and best is not None and cell[0] == best[0]
        ties = cell is not None and best is not None and not is_best and cell[2] >= best[1]
        marked.append(CellScore(value, low, high, is_best=is_best, ties_with_best=ties))
    return tuple(marked)


def _short(cell: CellScore, row: Row) -> str:
    if cell.value is None:
        return "undefined" if row.by == "probe" else "-"
    return f"{cell.value:.3f} [{cell.low:.2f}, {cell.high:.2f}]{' *' if cell.is_best else ''}"


def _position(value: float) -> float:
    """Return where a score stands on a strip of 100 units from 0 to 1; what lies outside is drawn at the edge."""
    return 100.0 * min(max(value, 0.0), 1.0)
