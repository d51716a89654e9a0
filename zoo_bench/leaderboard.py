"""The leaderboard, from results alone: text for the terminal, Markdown, a Parquet table, and one HTML page."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo_bench.boards import Board, CellScore, Grid, Loaded, Row, failures, grids
from zoo_bench.metrics import LOWER_IS_BETTER
from zoo_gen.command import table

OWN = "predicted by the encoder"
BY_NAMES = {"probe": "predicted by a probe", "encoder": OWN}
POINTS = 200  # of each scatter, drawn at random from the test rows of the first seed
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


def text(found: Sequence[Board]) -> str:
    """Return the boards as text for a terminal: what ranks, and what encoders predict themselves."""
    blocks = []
    for board in found:
        rows: list[dict[str, object]] = []
        for row in _shown(board):
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
    crossed = grids(found)
    if crossed:
        blocks.append(
            "cross-zoo means: spread is the deviation over cells\n\n" + table([_grid_row(g) for g in crossed])
        )
    return "\n\n".join(blocks)


def markdown(found: Sequence[Board], loaded: Sequence[Loaded]) -> str:
    """Return the boards as Markdown tables, with what failed."""
    lines = ["# Leaderboard", ""]
    for board in found:
        lines += [f"## {board.benchmark}: {board.cell}", "", _line("target", "metric", *board.encoders)]
        lines.append(_line(*["---"] * (2 + len(board.encoders))))
        for row in _shown(board):
            target = row.target if row.by == "probe" else f"{row.target}, {OWN}"
            lines.append(_line(target, METRIC_NAMES[row.metric], *(_short(cell, row) for cell in row.cells)))
        lines += [_line("mean rank", "", *(f"{rank:.2f}" for rank in board.mean_ranks)), ""]
    crossed = [_grid_row(grid) for grid in grids(found)]
    if crossed:
        lines += ["## Cross-zoo means", "", _line(*crossed[0]), _line(*["---"] * len(crossed[0]))]
        lines += [*(_line(*map(str, row.values())) for row in crossed), ""]
    failed = failures(loaded)
    if failed:
        lines += ["## Failed", ""]
        lines += [f"- {its.benchmark}, {failure.name}, seed {its.seed}: {failure.message}" for its, failure in failed]
    return "\n".join(lines).rstrip() + "\n"


def write_parquet(found: Sequence[Board], path: Path) -> None:
    """Write every score of every board as a row of a Parquet table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

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
            "seconds": seconds,
            "dimension": dimension,
        }
        for board in found
        for row in board.rows
        for encoder, cell, seconds, dimension in zip(
            board.encoders, row.cells, board.seconds, board.dimensions, strict=True
        )
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def html(found: Sequence[Board], loaded: Sequence[Loaded]) -> str:
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
    script = Path(__file__).with_name("leaderboard.js").read_text(encoding="utf-8")
    return template.render(
        boards=found,
        grids=grids(found),
        results=[its.result for its in loaded],
        failures=failures(loaded),
        metric_names=METRIC_NAMES,
        lower=LOWER_IS_BETTER,
        own=OWN,
        position=_position,
        data=_page_data(found, loaded),
        script=script,
    )


def _page_data(found: Sequence[Board], loaded: Sequence[Loaded]) -> dict[str, object]:
    """Return what the page's script draws: boards, costs, and some predictions of each ranking number."""
    first = {(its.result.benchmark, its.result.encoder): its for its in reversed(loaded)}
    points: dict[str, list[list[float]]] = {}
    for number, board in enumerate(found):
        targets = {(row.target, row.by) for row in _shown(board)}
        for column, encoder in enumerate(board.encoders):
            for its in first[board.benchmark, encoder].predictions:
                if its.cell == board.cell and its.is_number and (its.target, its.by) in targets:
                    rows = np.random.RandomState(0).permutation(len(its.truth))[:POINTS]
                    key = f"{number}/{its.target}/{BY_NAMES[its.by]}/{column}"
                    points[key] = np.round(np.column_stack([its.truth, its.predicted])[rows], 4).tolist()
    return {
        "boards": [
            {
                "cell": board.cell,
                "encoders": board.encoders,
                "rows": [[row.target, METRIC_NAMES[row.metric], BY_NAMES[row.by]] for row in board.rows],
            }
            for board in found
        ],
        "costs": [
            {
                "benchmark": benchmark,
                "encoder": encoder,
                "seconds": sum(seconds for _, seconds in its) / len(its),
                "rank": sum(rank for rank, _ in its) / len(its),
            }
            for (benchmark, encoder), its in _costs(found).items()
        ],
        "points": points,
    }


def _costs(found: Sequence[Board]) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Return mean rank and seconds of each encoder in the cells of each benchmark."""
    costs: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for board in found:
        for encoder, rank, seconds in zip(board.encoders, board.mean_ranks, board.seconds, strict=True):
            costs[board.benchmark, encoder].append((rank, seconds))
    return costs


def _shown(board: Board) -> list[Row]:
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


def _position(value: float) -> float:
    """Return where a score stands on a strip of 100 units from 0 to 1; what lies outside is drawn at the edge."""
    return 100.0 * min(max(value, 0.0), 1.0)
