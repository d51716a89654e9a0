"""Results as HTML tables for a notebook: a row a target, a column an encoder, every score with its interval.

Colours are the notebook's own, thinned by opacity, so that the tables read alike in light and dark.
"""

from collections.abc import Sequence
from html import escape

from zoo_bench.standings.boards import Board, Loaded, Row, failures, shown
from zoo_bench.standings.order import Standings
from zoo_bench.standings.pooled import CellScore
from zoo_bench.standings.text import METRIC_NAMES, digits, label, remarks, seeds_text

_LINE = "border:0;border-bottom:1px solid rgba(128,128,128,.3)"
_HEAD = f"text-align:left;vertical-align:bottom;font-weight:600;padding:.3em .8em .3em 0;{_LINE};background:none"
_CELL = f"text-align:left;white-space:nowrap;padding:.3em .8em .3em 0;{_LINE};background:none"


def html_tables(boards: Sequence[Board], order: Standings, loaded: Sequence[Loaded]) -> str:
    """Return one table a benchmark, encoders in the order of their mean rank, with what failed below."""
    tables = []
    for position, benchmark in enumerate(order.benchmarks):
        ranked = order.of(benchmark)
        encoders = [name for name, _ in ranked]
        rows = [_row("th", _HEAD, ["cell", "target", "metric", *map(escape, encoders)])]
        for board in boards:
            if board.benchmark == benchmark:
                rows += [_scores(board, row, encoders) for row in shown(board)]
        rows.append(_row("td", _CELL, ["mean rank", "", "", *(f"{rank:.2f}" for _, rank in ranked)]))
        seeds = seeds_text([row.seeds[position] for row in order.rows])
        notes = "".join(dict.fromkeys(remarks(board) for board in boards if board.benchmark == benchmark))
        tables.append(
            f'<table style="border-collapse:collapse;color:inherit;font-variant-numeric:tabular-nums">'
            f'<caption style="text-align:left;color:inherit;padding:.5em 0"><b>{escape(benchmark)}</b> '
            f'<span style="opacity:.65">95 % intervals over models and seeds ({seeds}); bold: best, =: no difference '
            f"from the best{escape(notes)}</span></caption>{''.join(rows)}</table>"
        )
    tables += [
        f'<p style="opacity:.65">failed: {escape(f"{result.benchmark}, {result.encoder}, {failure.name}")}: '
        f"{escape(failure.message)}</p>"
        for result, failure in failures(loaded)
    ]
    return f'<div style="overflow-x:auto">{"".join(tables)}</div>'


def _scores(board: Board, row: Row, encoders: Sequence[str]) -> str:
    scores = dict(zip(board.encoders, row.cells, strict=True))
    texts = [_score(scores[encoder], row) for encoder in encoders]
    return _row("td", _CELL, [escape(board.cell), escape(label(board, row)), METRIC_NAMES[row.metric], *texts])


def _score(score: CellScore, row: Row) -> str:
    if score.value is None or score.low is None or score.high is None:
        return "\N{EN DASH}" if score.absent == "not predicted" else score.absent
    value = f"<b>{digits(score.value)}</b>" if score.is_best else digits(score.value)
    marks = " =" * score.ties_with_best + " p" * (row.by == "own" and score.by != "encoder")
    text = f'{value}{marks} <span style="opacity:.65">[{digits(score.low, 2)}, {digits(score.high, 2)}]</span>'
    return text.replace("-", "\N{MINUS SIGN}")


def _row(tag: str, style: str, texts: Sequence[str]) -> str:
    cells = "".join(f'<{tag} style="{style}">{text}</{tag}>' for text in texts)
    return f"<tr>{cells}</tr>"
