"""The leaderboard as text for a terminal, as Markdown, and as one flat table of scores; `page` has the HTML."""

from collections.abc import Sequence

import pyarrow as pa

from zoo_bench.standings.boards import Board, Loaded, Row, failures, labelled, shown
from zoo_bench.standings.grids import Grid, grids
from zoo_bench.standings.order import Standings, standings
from zoo_bench.standings.pooled import CellScore
from zoo_bench.standings.published import published, stated
from zoo_bench.standings.robustness import Drop, drops
from zoo_gen.cli.command import table

FLOOR_NAMES = {"recipe": "hyper-parameters alone", "mean": "the mean"}
DROPS = "robustness: what scores lose on networks that compute the same function"
_NOTHING = 1e-12  # what rounding alone makes, as of R2 where the mean is predicted
METRIC_NAMES = {
    "r2": "R²",
    "kendall_tau": "τ-b",
    "kendall_tau_above_chance": "τ-b above chance",
    "spearman": "Spearman",
    "mae": "MAE",
    "mse": "MSE",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
}


def text(boards: Sequence[Board], loaded: Sequence[Loaded]) -> str:
    """Return the standings and the boards as text for a terminal: what ranks, and both readings of it."""
    blocks = []
    order = standings(boards, loaded)
    if len(order.benchmarks) > 1 or len(boards) > 1:
        blocks.append(f"{comparison(order)}\n\n{table([*_standing_rows(order)])}")
    for board in boards:
        about = board.about
        blocks.append(
            f"{board.benchmark} / {board.cell}: {about.train_models} models train, {about.validation_models} select, "
            f"{about.test_models} test; 95 % intervals over models and seeds; * best, = no difference from the best"
            f"{remarks(board)}\n\n{table(_board_rows(board))}"
        )
        blocks += ["\n".join(lines) for lines in [_published_lines(board)] if lines]
    lost = [_drop_row(drop) for drop in drops(loaded)]
    if lost:
        blocks.append(f"{DROPS}\n\n{table(lost)}")
    crossed = grids(boards)
    if crossed:
        blocks.append(
            "cross-zoo means: spread is the deviation over cells\n\n" + table([_grid_row(g) for g in crossed])
        )
    return "\n\n".join(blocks)


def markdown(boards: Sequence[Board], loaded: Sequence[Loaded]) -> str:
    """Return the standings and the boards as Markdown tables, with what failed."""
    order = standings(boards, loaded)
    lines = ["# Leaderboard", "", f"{comparison(order)}.", "", *_markdown_table(_standing_rows(order)), ""]
    for board in boards:
        lines += [f"## {board.benchmark}: {board.cell}", "", *_markdown_table(_board_rows(board)), ""]
        lines += [f"{sentence[0].upper()}{sentence[1:]}.\n" for sentence in _sentences(board)]
        lines += [f"- {line}" for line in _published_lines(board)]
    lost = [_drop_row(drop) for drop in drops(loaded)]
    if lost:
        lines += ["## Robustness", "", f"{DROPS[0].upper()}{DROPS[1:]}.", "", *_markdown_table(lost), ""]
    crossed = [_grid_row(grid) for grid in grids(boards)]
    if crossed:
        lines += ["## Cross-zoo means", "", *_markdown_table(crossed), ""]
    failed = failures(loaded)
    if failed:
        lines += ["## Failed", ""]
        for one, failure in failed:
            place = f"{failure.name}, {failure.target}" if failure.target else failure.name
            lines.append(f"- {one.benchmark}, {place}, seed {one.seed}: {failure.message}")
    return "\n".join(lines).rstrip() + "\n"


def comparison(order: Standings) -> str:
    """Say over which benchmarks encoders are compared."""
    if len(order.common) == len(order.benchmarks) == 1:
        return f"encoders in the order of their mean rank on {order.common[0]}"
    if order.common:
        names = ", ".join(order.common)
        return f"encoders in the order of their mean rank over the benchmarks that all of them ran: {names}"
    return "no benchmark was run with all of these encoders, so there is no order over all; each benchmark has its own"


def label(board: Board, row: Row) -> str:
    """Return the target of a row, and who predicted it where boards show two readings."""
    several = {other.by for other in board.rows if (other.target, other.metric) == (row.target, row.metric)}
    return labelled(row.target, row.by, several)


def remarks(board: Board, *, floors: bool = True) -> str:
    """Return what a reader of a board has to know beside its scores; empty if there is nothing.

    Args:
        board: of one cell.
        floors: whether the scores of the floors are said too, which the page has in its table.
    """
    return "".join(f"; {sentence}" for sentence in _sentences(board, floors=floors))


def floor_names(board: Board) -> dict[str, str]:
    """Return the floors that a board has, each with its name for people."""
    present = {floor for row in board.rows for floor, _ in row.floors}
    return {floor: name for floor, name in FLOOR_NAMES.items() if floor in present}


def _sentences(board: Board, *, floors: bool = True) -> list[str]:
    sentences = []
    if any(row.by == "own" for row in board.rows):
        sentences.append("what encoders predict themselves ranks, and p marks a probe's score where they do not")
    sentences += floor_sentences(board) if floors else []
    left_out = {row.target: cell.left_out for row in board.rows for cell in row.cells if cell.left_out}
    sentences += [f"{count} test rows without {target} are left out" for target, count in left_out.items()]
    return sentences


def floor_sentences(board: Board) -> list[str]:
    """Return what can be told of each ranking target without a weight, and what ties allow; none where unknown."""
    sentences = []
    for row in board.rows:
        ceiling = next((cell.ceiling for cell in row.cells if cell.ceiling is not None), None)
        parts = [f"by {FLOOR_NAMES[name]} {digits(value)}" for name, value in row.floors] if row.ranks else []
        if parts and ceiling is not None and ceiling < 1:
            parts.append(f"ties allow {digits(ceiling)}")
        if parts:
            sentences.append(f"{row.target} without a weight: {', '.join(parts)}")
    if sentences:
        sentences.append("≤ floor marks who is not better than these by more than chance")
    return sentences


def _published_lines(board: Board) -> list[str]:
    """Return what papers report on a board's networks, a line a method, and then their sources; it has no rank."""
    reported = published(board)
    lines = []
    for row in reported.rows:
        scores = [f"{score.target} {METRIC_NAMES[score.metric]} {stated(score.value)}" for score in row.scores if score]
        lines.append(f"not ranked, {row.status} [{row.source}]: {row.method}: {', '.join(scores)}")
    return lines + [f"[{number}] {source.source}, {source.date}" for number, source in enumerate(reported.sources, 1)]


def _board_rows(board: Board) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for row in shown(board):
        cells = {name: _short(cell, row) for name, cell in zip(board.encoders, row.cells, strict=True)}
        rows.append({"target": label(board, row), "metric": METRIC_NAMES[row.metric], **cells})
    ranks = {name: f"{rank:.2f}" for name, rank in zip(board.encoders, board.mean_ranks, strict=True)}
    return [*rows, {"target": "mean rank", "metric": "", **ranks}]


def _standing_rows(order: Standings) -> list[dict[str, object]]:
    return [
        {
            "encoder": row.encoder,
            **({"mean rank": f"{row.rank:.2f}"} if row.rank is not None else {}),
            **{
                name: "-" if rank is None else f"{rank:.2f}"
                for name, rank in zip(order.benchmarks, row.ranks, strict=True)
            },
            "seeds": seeds_text(row.seeds),
        }
        for row in order.rows
    ]


def seeds_text(of_benchmarks: Sequence[Sequence[int]]) -> str:
    """Return the seeds that an encoder was run with, on each benchmark if they differ: 0, 1, 2."""
    texts = dict.fromkeys(", ".join(map(str, seeds)) for seeds in of_benchmarks if seeds)
    return " / ".join(texts)


def _markdown_table(rows: Sequence[dict[str, object]]) -> list[str]:
    return [_line(*rows[0]), _line(*["---"] * len(rows[0])), *(_line(*map(str, row.values())) for row in rows)]


def score_table(boards: Sequence[Board]) -> pa.Table:
    """Return every score of every board as a row of a table."""
    rows = [
        {
            "benchmark": board.benchmark,
            "cell": board.cell,
            "source": board.about.source.zoo,
            "test": board.about.test.zoo,
            "condition": board.about.condition,
            "encoder": encoder,
            "target": row.target,
            "metric": row.metric,
            "by": row.by,
            "predicted_by": cell.by,
            "absent": cell.absent or None,
            "ranks": row.ranks,
            "value": cell.value,
            "low": cell.low,
            "high": cell.high,
            "rank": cell.rank,
            "p_from_best": cell.p,
            "ceiling": cell.ceiling,
            "left_out": cell.left_out,
            "seeds": list(seeds),
            "seconds": costs and costs.seconds,
            "parameters": costs and costs.parameters,
            "memory_bytes": costs and costs.memory_bytes,
            "dimension": costs and costs.dimension,
            "operations": costs and costs.operations,
            "networks_per_second": costs and costs.networks_per_second,
            "beats_floor": cell.beats_floor if cell.value is not None else None,
            "floor_recipe": dict(row.floors).get("recipe"),
            "floor_mean": dict(row.floors).get("mean"),
        }
        for board in boards
        for row in board.rows
        for encoder, cell, costs, seeds in zip(board.encoders, row.cells, board.costs, board.seeds, strict=True)
    ]
    return pa.Table.from_pylist(rows)


def _grid_row(grid: Grid) -> dict[str, object]:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    return {
        "benchmark": grid.benchmark,
        "target": grid.label,
        "metric": METRIC_NAMES[grid.metric],
        "encoder": grid.encoder,
        "diagonal": number(grid.diagonal),
        "off-diagonal": number(grid.off_diagonal),
        "average": number(grid.average),
        "spread": number(grid.spread),
        "cells": f"{grid.scored} of {grid.scored + grid.lacking}" if grid.lacking else f"{grid.scored}",
    }


def _drop_row(drop: Drop) -> dict[str, object]:
    return {
        "benchmark": drop.benchmark,
        "zoo": drop.zoo,
        "target": drop.target,
        "metric": METRIC_NAMES[drop.metric],
        "change": drop.condition,
        "encoder": drop.encoder,
        "as trained": digits(drop.before),
        "changed": digits(drop.after),
        "drop": f"{drop.drop:.3f} [{drop.low:.3f}, {drop.high:.3f}]",
    }


def _line(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _short(cell: CellScore, row: Row) -> str:
    if cell.value is None:
        return "-" if cell.absent == "not predicted" else cell.absent
    mark = " *" if cell.is_best else " =" if cell.ties_with_best else ""
    probe = " p" if row.by == "own" and cell.by != "encoder" else ""
    low, high = (digits(bound, 2) for bound in (cell.low or 0.0, cell.high or 0.0))
    floor = "" if cell.beats_floor else " ≤ floor"
    return f"{digits(cell.value)} [{low}, {high}]{mark}{probe}{floor}"


def digits(value: float, figures: int = 3) -> str:
    """Return a score for people, with that many significant digits.

    >>> [digits(value) for value in (0.98765, 0.9, -0.00312, 0.0, 123.4, 123456.0)]
    ['0.988', '0.900', '-0.00312', '0.00', '123', '1.23e+05']
    """
    rounded = 0.0 if abs(value) < _NOTHING else value
    return f"{rounded:#.{figures}g}".rstrip(".")
