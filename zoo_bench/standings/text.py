"""The leaderboard as text for a terminal, as Markdown, and as one flat table of scores; `page` has the HTML."""

from collections.abc import Sequence

import pyarrow as pa

from zoo_bench.standings.boards import Board, CellScore, Grid, Loaded, Row, failures, grids
from zoo_gen.cli.command import table

OWN = "predicted by the encoder"
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


def text(boards: Sequence[Board]) -> str:
    """Return the boards as text for a terminal: what ranks, and what encoders predict themselves."""
    blocks = []
    for board in boards:
        rows: list[dict[str, object]] = []
        for row in shown(board):
            cells = {name: _short(cell, row) for name, cell in zip(board.encoders, row.cells, strict=True)}
            target = row.target if row.by == "probe" else f"{row.target}, {OWN}"
            rows.append({"target": target, "metric": METRIC_NAMES[row.metric], **cells})
        ranks = {name: f"{rank:.2f}" for name, rank in zip(board.encoders, board.mean_ranks, strict=True)}
        rows.append({"target": "mean rank", "metric": "", **ranks})
        about = board.about
        blocks.append(
            f"{board.benchmark} / {board.cell}: {about.train_models} models train, {about.validation_models} select, "
            f"{about.test_models} test; 95 % intervals over models and seeds; * best, = no difference from the best\n\n"
            f"{table(rows)}"
        )
    crossed = grids(boards)
    if crossed:
        blocks.append(
            "cross-zoo means: spread is the deviation over cells\n\n" + table([_grid_row(g) for g in crossed])
        )
    return "\n\n".join(blocks)


def markdown(boards: Sequence[Board], loaded: Sequence[Loaded]) -> str:
    """Return the boards as Markdown tables, with what failed."""
    lines = ["# Leaderboard", ""]
    for board in boards:
        lines += [f"## {board.benchmark}: {board.cell}", "", _line("target", "metric", *board.encoders)]
        lines.append(_line(*["---"] * (2 + len(board.encoders))))
        for row in shown(board):
            target = row.target if row.by == "probe" else f"{row.target}, {OWN}"
            lines.append(_line(target, METRIC_NAMES[row.metric], *(_short(cell, row) for cell in row.cells)))
        lines += [_line("mean rank", "", *(f"{rank:.2f}" for rank in board.mean_ranks)), ""]
    crossed = [_grid_row(grid) for grid in grids(boards)]
    if crossed:
        lines += ["## Cross-zoo means", "", _line(*crossed[0]), _line(*["---"] * len(crossed[0]))]
        lines += [*(_line(*map(str, row.values())) for row in crossed), ""]
    failed = failures(loaded)
    if failed:
        lines += ["## Failed", ""]
        lines += [f"- {one.benchmark}, {failure.name}, seed {one.seed}: {failure.message}" for one, failure in failed]
    return "\n".join(lines).rstrip() + "\n"


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
            "ranks": row.ranks,
            "value": cell.value,
            "low": cell.low,
            "high": cell.high,
            "rank": cell.rank,
            "p_from_best": cell.p,
            "ceiling": cell.ceiling,
            "seeds": list(board.seeds),
            "seconds": costs.seconds,
            "parameters": costs.parameters,
            "memory_bytes": costs.memory_bytes,
            "dimension": costs.dimension,
        }
        for board in boards
        for row in board.rows
        for encoder, cell, costs in zip(board.encoders, row.cells, board.costs, strict=True)
    ]
    return pa.Table.from_pylist(rows)


def shown(board: Board) -> list[Row]:
    """Return the rows that rank, and own predictions under a metric that ranks."""
    ranking = {row.metric for row in board.rows if row.ranks}
    return [row for row in board.rows if row.ranks or (row.by == "encoder" and row.metric in ranking)]


def _grid_row(grid: Grid) -> dict[str, object]:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    return {
        "benchmark": grid.benchmark,
        "target": grid.target if grid.by == "probe" else f"{grid.target}, {OWN}",
        "metric": METRIC_NAMES[grid.metric],
        "encoder": grid.encoder,
        "diagonal": number(grid.diagonal),
        "off-diagonal": number(grid.off_diagonal),
        "average": number(grid.average),
        "spread": number(grid.spread),
    }


def _line(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _short(cell: CellScore, row: Row) -> str:
    if cell.value is None:
        return "undefined" if row.by == "probe" else "-"
    mark = " *" if cell.is_best else " =" if cell.ties_with_best else ""
    return f"{cell.value:.3f} [{cell.low:.2f}, {cell.high:.2f}]{mark}"
