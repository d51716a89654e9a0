"""Results as HTML tables for a notebook: a row a target, a column an encoder, every score with its interval.

Colours are the notebook's own, thinned by opacity, so that the tables read alike in light and dark.
"""

from collections.abc import Sequence
from html import escape

from zoo_bench.standings.boards import Board, CellScore, Loaded, Row, failures
from zoo_bench.standings.page.content import standings
from zoo_bench.standings.text import METRIC_NAMES, OWN, shown

_LINE = "border:0;border-bottom:1px solid rgba(128,128,128,.3)"
_HEAD = f"text-align:left;vertical-align:bottom;font-weight:600;padding:.3em .8em .3em 0;{_LINE};background:none"
_CELL = f"text-align:left;white-space:nowrap;padding:.3em .8em .3em 0;{_LINE};background:none"


def html_tables(boards: Sequence[Board], loaded: Sequence[Loaded]) -> str:
    """Return one table a benchmark, encoders in the order of their mean rank, with what failed below."""
    benchmarks, ranked = standings(boards, loaded)
    tables = []
    for number, benchmark in enumerate(benchmarks):
        encoders = [row.encoder for row in ranked if row.ranks[number] is not None]
        ranks = [f"{row.ranks[number]:.2f}" for row in ranked if row.ranks[number] is not None]
        rows = [_row("th", _HEAD, ["cell", "target", "metric", *map(escape, encoders)])]
        for board in boards:
            if board.benchmark == benchmark:
                rows += [_scores(board, row, encoders) for row in shown(board)]
        rows.append(_row("td", _CELL, ["mean rank", "", "", *ranks]))
        n_seeds = len({one.result.seed for one in loaded if one.result.benchmark == benchmark})
        tables.append(
            f'<table style="border-collapse:collapse;color:inherit;font-variant-numeric:tabular-nums">'
            f'<caption style="text-align:left;color:inherit;padding:.5em 0"><b>{escape(benchmark)}</b> '
            f'<span style="opacity:.65">95 % intervals over models and {n_seeds} seed{"s" * (n_seeds > 1)}; '
            f"bold: best, =: no difference from the best</span></caption>{''.join(rows)}</table>"
        )
    tables += [
        f'<p style="opacity:.65">failed: {escape(f"{result.benchmark}, {result.encoder}, {failure.name}")}: '
        f"{escape(failure.message)}</p>"
        for result, failure in failures(loaded)
    ]
    return f'<div style="overflow-x:auto">{"".join(tables)}</div>'


def _scores(board: Board, row: Row, encoders: Sequence[str]) -> str:
    scores = dict(zip(board.encoders, row.cells, strict=True))
    target = row.target if row.by == "probe" else f"{row.target}, {OWN}"
    texts = [_score(scores[encoder]) if encoder in scores else "" for encoder in encoders]
    return _row("td", _CELL, [escape(board.cell), escape(target), METRIC_NAMES[row.metric], *texts])


def _score(score: CellScore) -> str:
    if score.value is None:
        return "\N{EN DASH}"
    value = f"<b>{score.value:.3f}</b>" if score.is_best else f"{score.value:.3f}"
    tie = " =" if score.ties_with_best else ""
    text = f'{value}{tie} <span style="opacity:.65">[{score.low:.2f}, {score.high:.2f}]</span>'
    return text.replace("-", "\N{MINUS SIGN}")


def _row(tag: str, style: str, texts: Sequence[str]) -> str:
    cells = "".join(f'<{tag} style="{style}">{text}</{tag}>' for text in texts)
    return f"<tr>{cells}</tr>"
