"""The page rendered from boards: the Jinja template with its style and script."""

import json
import re
from collections.abc import Sequence
from functools import partial
from importlib import metadata
from pathlib import Path

from zoo_bench.scores.metrics import LOWER_IS_BETTER
from zoo_bench.standings.boards import Board, Loaded, shown
from zoo_bench.standings.order import standings
from zoo_bench.standings.page import content
from zoo_bench.standings.page.curves import curve_paths
from zoo_bench.standings.published import published, stated
from zoo_bench.standings.text import METRIC_NAMES, comparison, digits, floor_names, label, remarks, seeds_text

NOTHING = "\N{EN DASH}"


def html(boards: Sequence[Board], loaded: Sequence[Loaded]) -> str:
    """Return the boards as one HTML page."""
    import jinja2

    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "amount": amount,
        "bytes": in_bytes,
        "seconds": in_seconds,
        "digits": in_digits,
        "exact": in_full,
        "compact": compact,
        "stated": stated,
        "breakable": _breakable,
    }
    order = standings(boards, loaded)
    return environment.get_template("page.html.jinja").render(
        benchmarks=order.benchmarks,
        order=order,
        comparison=comparison(order),
        package=metadata.version("zoo-gen"),
        links=content.links(loaded),
        machines=content.machines,
        seeds_text=seeds_text,
        others=[len(board.encoders) > 1 for board in boards],
        n_cells=[sum(board.benchmark == name for board in boards) for name in order.benchmarks],
        most_rank=max((rank for row in order.rows for rank in row.ranks if rank is not None), default=1.0),
        parts=content.parts(boards, loaded),
        failed=content.failed(loaded),
        results=[one.result for one in loaded],
        zoos={used.zoo: used for one in loaded for cell in one.result.cells for used in (cell.source, cell.test)},
        metrics=[name for name in METRIC_NAMES if any(row.metric == name for board in boards for row in board.rows)],
        metric_names=METRIC_NAMES,
        lower=LOWER_IS_BETTER,
        label=label,
        remarks=remarks,
        floor_names=floor_names,
        shown={number: [row in shown(board) for row in board.rows] for number, board in enumerate(boards)},
        published=[published(board) for board in boards],
        extent=content.extent,
        place=content.place,
        curve_paths=curve_paths,
        data=content.drawn(boards, order, loaded),
        style=(here / "page.css").read_text(encoding="utf-8"),
        script=(here / "page.js").read_text(encoding="utf-8"),
    )


def amount(value: int | None) -> str:
    """Return a count for people: 812, 5.0 k, 1.2 M."""
    if value is None:
        return NOTHING
    for unit, size in ((" G", 10**9), (" M", 10**6), (" k", 10**3)):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return str(value)


def in_digits(value: float, figures: int = 3) -> str:
    """Return a score for people, with a real minus."""
    return digits(value, figures).replace("-", "\N{MINUS SIGN}")


def in_full(value: float) -> str:
    """Return a score for programs, with six significant digits."""
    return f"{value:.6g}"


def compact(data: object) -> str:
    """Return data as JSON without blanks, safe inside a script."""
    from jinja2.utils import htmlsafe_json_dumps

    return htmlsafe_json_dumps(data, dumps=partial(json.dumps, separators=(",", ":")))


def in_bytes(value: int | None) -> str:
    """Return bytes for people: 0 MB, 12 MB, 1.3 GB."""
    if value is None:
        return NOTHING
    return f"{value / 1e9:.1f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def in_seconds(value: float) -> str:
    """Return seconds for people: 0.04 s, 3.1 s, 12 min."""
    if value >= 600:
        return f"{value / 60:.0f} min"
    return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"


def _breakable(name: str) -> str:
    """Let a long name break after its underscores, dots, colons and commas and before its settings, nowhere else."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([_.:,]|(?=\[))", r"\1<wbr>", str(escape(name))))
