"""Pictures of embeddings, coloured by metrics and hyper-parameters of the models, and of what robustness tests found.

Embeddings are shown by their two principal components. Colours carry one thing a panel: a sequential scale for numbers
(logarithmic for rates and decays, and where others than accuracies span two decades), and a legend of distinct colours
for names and for numbers that take a few values.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo_bench.embeddings import Embeddings, colours
from zoo_bench.protocol.equivalents import CHANGES
from zoo_bench.standings.boards import load
from zoo_bench.standings.robustness import Drop, drops
from zoo_bench.standings.text import METRIC_NAMES
from zoo_gen.errors import ZooError, needing
from zoo_gen.files.location import on_disk
from zoo_gen.zoo import AnyZoo, open_any
from zoo_gen.zoo.plots import save_figure

COLUMNS = 3
MOST_POINTS = 20000  # more than this hide one another; a random part of them is drawn
NAMES_COLORMAP, NUMBERS_COLORMAP = "tab10", "viridis"
MOST_NAMES = 10
FEW_VALUES = 6  # so many numbers stand in a legend with their n, more on a scale
LOGARITHMIC = ("learning_rate", "weight_decay", "l2", "batch_size")  # which people choose by factors


def principal_components(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two principal components (row, 2) of embeddings (row, dimension), and their shares of the variance (2,).

    Features are standardised first, so that no unit rules; constant ones are left out.
    """
    rows = embeddings.astype(np.float64)
    deviation = rows.std(axis=0)
    rows = ((rows - rows.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0))[:, deviation > 0]
    if rows.shape[1] < 2:
        rows = np.concatenate([rows, np.zeros((len(rows), 2 - rows.shape[1]))], axis=1)
    values, vectors = np.linalg.eigh(rows.T @ rows)
    total = max(values.sum(), np.finfo(float).tiny)
    return rows @ vectors[:, [-1, -2]], values[[-1, -2]] / total


def check_name(path: str | Path, *, option: str = "") -> None:
    """Refuse the name of a picture in a format that is not drawn; the message begins with the option that gave it."""
    if Path(path).suffix not in (".png", ".pdf", ".svg"):
        raise ZooError(f"{option}{path}: expected a name that ends in .png, .pdf or .svg")


def plot_embeddings(embeddings: Embeddings, zoo: str | Path | AnyZoo, path: str | Path, *, title: str = "") -> None:
    """Write a picture of embeddings: a panel each for test accuracy, epoch and every hyper-parameter that varies.

    Args:
        embeddings: what `encode` returns.
        zoo: which was encoded: opened, its folder or its URL.
        path: of the picture; it ends in .png, .pdf or .svg.
        title: above all panels; the name of the zoo if none is given.

    Raises:
        ZooError: the path ends in anything else, or matplotlib is not installed.

    >>> import zoo_bench
    >>> embeddings = zoo_bench.encode(zoo_bench.fit("pca", "zoos/tiny"), "zoos/tiny")
    >>> zoo_bench.plot_embeddings(embeddings, "zoos/tiny", "embeddings.png")
    """
    check_name(path)
    opened = open_any(zoo)
    _draw(embeddings.embedding, colours(opened, embeddings), on_disk(path), title=title or opened.name)


def plot_robustness(results: str | Path, path: str | Path) -> None:
    """Write a picture of what scores lose on networks that compute the same function, a panel a zoo and target.

    Args:
        results: a folder of results, some of the robustness protocol.
        path: of the picture; it ends in .png, .pdf or .svg.

    Raises:
        ZooError: the path ends in anything else, no result is of that protocol, or matplotlib is not installed.

    >>> import zoo_bench
    >>> benchmark = zoo_bench.BenchmarkManifest(
    ...     name="robust", protocol="robustness", zoos=["tiny"], targets=["test_accuracy"], checkpoints="last"
    ... )
    >>> results = zoo_bench.evaluate("weight_statistics", benchmark, results="robust")
    >>> zoo_bench.plot_robustness("robust", "robustness.png")
    """
    check_name(path)
    losses = drops(load(Path(results)))
    if not losses:
        raise ZooError(f"{results}: holds no results of the robustness protocol; expected those of robustness_small")
    panels: dict[tuple[str, str], list[Drop]] = {}
    for drop in losses:
        panels.setdefault((drop.zoo, drop.target), []).append(drop)
    conditions = [name for name in CHANGES if any(drop.condition == name for drop in losses)]
    encoders = sorted({drop.encoder for drop in losses})
    figure = _figure(len(panels), 1, width=2.2 + 1.8 * len(conditions), height=3.2)
    from matplotlib import colormaps

    width = 0.8 / len(encoders)
    for number, ((zoo, target), of_panel) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(len(panels), 1, number)
        for place, encoder in enumerate(encoders):
            of_encoder = [drop for drop in of_panel if drop.encoder == encoder]
            across = [conditions.index(drop.condition) + (place + 0.5) * width - 0.4 for drop in of_encoder]
            heights = np.array([drop.drop for drop in of_encoder])
            errors = np.array([[drop.drop - drop.low, drop.high - drop.drop] for drop in of_encoder]).reshape(-1, 2).T
            colour = colormaps[NAMES_COLORMAP](place % MOST_NAMES)
            axes.bar(across, heights, width, yerr=np.maximum(errors, 0), color=colour, label=encoder, capsize=2)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_xticks(range(len(conditions)), conditions, fontsize=8)
        axes.set_ylabel(f"{METRIC_NAMES[of_panel[0].metric]} lost", fontsize=8)
        axes.set_title(f"{zoo}: {target}", fontsize=10)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.axes[0].legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    save_figure(figure, on_disk(path))


def _figure(rows: int, columns: int, *, width: float, height: float) -> Any:
    """Return an empty figure for so many panels of a size in inches."""
    with needing("pictures", extra="plots"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    figure = Figure(figsize=(width * columns, height * rows + 0.5), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    return figure


def _is_logarithmic(name: str, values: np.ndarray) -> bool:
    """Return whether values (row,) of a metric or hyper-parameter are coloured by their logarithms."""
    if values.min() <= 0 or values.min() == values.max() or name.endswith("accuracy"):
        return False
    return name in LOGARITHMIC or bool(values.max() >= 100 * values.min())


def _swatches(values: np.ndarray) -> list[tuple[Any, str]] | None:
    """Return what a legend shows of values (row,), each value and its colour; None where a scale says more."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    distinct = np.unique(values)
    if not np.issubdtype(values.dtype, np.number):
        return [(name, to_hex(colormaps[NAMES_COLORMAP](place))) for place, name in enumerate(distinct[:MOST_NAMES])]
    if len(distinct) > FEW_VALUES:
        return None
    # The light end of the scale is hard to see on white.
    places = np.linspace(0, 0.9, len(distinct))
    return [
        (number, to_hex(colormaps[NUMBERS_COLORMAP](place))) for number, place in zip(distinct, places, strict=True)
    ]


def _draw(embeddings: np.ndarray, colourings: Mapping[str, np.ndarray], path: Path, *, title: str) -> None:
    """Draw embeddings (row, dimension) with a panel for each colouring, name -> numbers or names (row,)."""
    n_columns = min(COLUMNS, len(colourings))
    n_rows = -(-len(colourings) // n_columns)
    figure = _figure(n_rows, n_columns, width=4.4, height=3.9)
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import MaxNLocator

    points, shares = principal_components(embeddings)
    # In random order, so that no value lies on top because its rows come last.
    order = np.random.RandomState(0).permutation(len(points))[:MOST_POINTS]
    count = f"{len(order):,}" if len(order) == len(points) else f"{len(order):,} of {len(points):,}"
    points = points[order]
    figure.suptitle(f"{title} (n = {count})")
    size = float(np.clip(4000 / len(points), 2, 24))
    for number, (name, column) in enumerate(colourings.items(), start=1):
        axes = figure.add_subplot(n_rows, n_columns, number)
        values = column[order]
        swatches = _swatches(values)
        if swatches is None:
            norm = LogNorm() if _is_logarithmic(name, values) else None
            drawn = axes.scatter(
                points[:, 0], points[:, 1], c=values, cmap=NUMBERS_COLORMAP, norm=norm, s=size, linewidths=0, alpha=0.8
            )
            bar = figure.colorbar(drawn, ax=axes, pad=0.01)
            if norm is None and np.issubdtype(values.dtype, np.integer):
                bar.ax.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
        else:
            for value, colour in swatches:
                x, y = points[values == value].T
                label = f"{value:g}" if np.issubdtype(values.dtype, np.number) else value
                axes.scatter(x, y, color=colour, s=size, linewidths=0, alpha=0.8, label=f"{label} (n = {len(x):,})")
            axes.legend(
                fontsize=8, markerscale=max(1.0, 5 / size**0.5), frameon=False, loc="upper left", bbox_to_anchor=(1, 1)
            )
        axes.set_title(name, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(f"component 1 ({shares[0]:.0%})", fontsize=8)
        axes.set_ylabel(f"component 2 ({shares[1]:.0%})", fontsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    save_figure(figure, path)
