"""Pictures of embeddings: their two principal components, coloured by what is known of the models.

Colours carry one thing a panel: a sequential scale for numbers (logarithmic where they span two decades), a few
distinct colours for names.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

COLUMNS = 3
MOST_POINTS = 20000  # more than this hide one another; a random part of them is drawn
NAMES_COLORMAP, NUMBERS_COLORMAP = "tab10", "viridis"
MOST_NAMES = 10


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


def plot_embeddings(embeddings: np.ndarray, colours: Mapping[str, np.ndarray], path: Path, *, title: str) -> None:
    """Write a picture with one panel a colouring.

    Args:
        embeddings: (row, dimension).
        colours: what colours the points, name -> (row,); numbers or names.
        path: of the picture; its ending says the format.
        title: above all panels.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    points, shares = principal_components(embeddings)
    # In random order, so that no value lies on top because its rows come last.
    order = np.random.RandomState(0).permutation(len(points))[:MOST_POINTS]
    points = points[order]
    n_columns = min(COLUMNS, len(colours))
    n_rows = -(-len(colours) // n_columns)
    figure = Figure(figsize=(4.4 * n_columns, 3.9 * n_rows + 0.5), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    size = float(np.clip(4000 / len(points), 2, 24))
    for number, (name, every) in enumerate(colours.items(), start=1):
        axes = figure.add_subplot(n_rows, n_columns, number)
        values = every[order]
        if np.issubdtype(values.dtype, np.number):
            positive = values.min() > 0 and values.max() >= 100 * values.min()
            norm = LogNorm() if positive else None
            drawn = axes.scatter(
                points[:, 0], points[:, 1], c=values, cmap=NUMBERS_COLORMAP, norm=norm, s=size, linewidths=0, alpha=0.8
            )
            figure.colorbar(drawn, ax=axes, pad=0.01)
        else:
            names = np.unique(values)[:MOST_NAMES]
            for place, its in enumerate(names):
                colour, (x, y) = colormaps[NAMES_COLORMAP](place), points[values == its].T
                axes.scatter(x, y, color=colour, s=size, linewidths=0, alpha=0.8, label=str(its))
            axes.legend(fontsize=8, markerscale=max(1.0, 5 / size**0.5), framealpha=0.7)
        axes.set_title(name, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(f"component 1 ({shares[0]:.0%})", fontsize=8)
        axes.set_ylabel(f"component 2 ({shares[1]:.0%})", fontsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.savefig(path)
