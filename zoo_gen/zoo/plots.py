"""Pictures of a zoo: how its models learned, and what each hyper-parameter did to them."""

import io
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from zoo_gen.errors import ZooError, needing
from zoo_gen.files import atomic
from zoo_gen.files.location import Folder, make_folder, on_disk
from zoo_gen.zoo import Zoo
from zoo_gen.zoo.reconstructions import reconstructions
from zoo_gen.zoo.zoo import opened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS = 6  # of a hyper-parameter with more values than fit side by side
_MOST_POINTS = 2000  # of one value of a hyper-parameter
_LINE = {"color": "#1f4e79"}
_BANDS = ((0.05, 0.95, "#d2e3f0"), (0.25, 0.75, "#a5c8e1"))  # opaque, so that a legend shows what the eye sees


def write_plots(zoo: Zoo | str | Folder, folder: str | Path) -> list[Path]:
    """Write the pictures of a zoo as PNG files into a folder and return their paths.

    `epochs.png` shows the test metric over the epochs, `gap.png` the generalisation gap (both as median with the bands
    of the middle half and nine tenths of the models), `axes.png` a point a model and a box plot of the final metric for
    each hyper-parameter, and `reconstructions.png` some images with what the networks fitted to them show, where there
    are such.

    Args:
        zoo: the zoo, or its folder or URL.
        folder: which is made if it is not there.

    Raises:
        ZooError: the zoo holds no model yet, or matplotlib is not installed.

    >>> import zoo_gen
    >>> [path.name for path in zoo_gen.write_plots("zoos/tiny", "pictures")]
    ['epochs.png', 'gap.png', 'axes.png']
    """
    zoo = opened(zoo)
    if not len(zoo.models):
        raise ZooError(f"{zoo.path}: holds no complete shard; expected models to draw")
    _prepare()
    folder = on_disk(folder)
    make_folder(folder)
    ids = zoo.models["model_id"].to_numpy()
    view = zoo.view(ids)
    metric = zoo.outcome().metric
    values = view.metric(metric)
    written = [_over_epochs(zoo, values, metric.replace("_", " "), folder / "epochs.png")]
    if {"train_accuracy", "test_accuracy"} <= set(zoo.metrics):
        gap = view.metric("generalization_gap")
        written.append(_over_epochs(zoo, gap, "generalisation gap", folder / "gap.png"))
    names = [name for name in zoo.varying if name not in ("seed", "image") and _can_be_drawn(zoo.models[name])]
    if names:
        written.append(
            _by_axis(zoo, zoo.models[metric].to_numpy(), metric.replace("_", " "), names, folder / "axes.png")
        )
    if (shown := reconstructions(zoo)) is not None:
        written.append(_beside_images(zoo, *shown, folder / "reconstructions.png"))
    return written


def write_histogram(zoo: Zoo, path: Path) -> None:
    """Write a histogram of what the models reached after the last epoch as a PNG file, the same bytes every time.

    Raises:
        ZooError: matplotlib is not installed.
    """
    _prepare()
    from matplotlib import pyplot

    reached = zoo.outcome()
    figure, axes = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
    axes.hist(reached.values, bins=50, color="tab:blue")
    label = reached.metric.replace("_", " ")
    _finish(axes, title=f"{zoo.name}: {len(zoo.models):,} models", x=f"{label} after the last epoch", y="models")
    save_figure(figure, path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def save_figure(figure: "Figure", path: Path, **options: Any) -> None:
    """Write a figure as an image in the format that its name ends in, whole or not at all.

    Raises:
        ZooError: the name ends in no format that matplotlib writes.
        OSError: the folder cannot be written to; it names the file.
    """
    content, format_ = io.BytesIO(), path.suffix[1:].lower()
    if format_ not in figure.canvas.get_supported_filetypes():
        raise ZooError(f"{path}: is no name of an image; expected one that ends in .png, .pdf or .svg")
    figure.savefig(content, format=format_, **options)
    atomic.replace(path, content.getvalue())


def _prepare() -> None:
    with needing("pictures", extra="plots"):
        from matplotlib import pyplot
    pyplot.switch_backend("agg")


def _over_epochs(zoo: Zoo, values: np.ndarray, label: str, path: Path) -> Path:
    """Draw median and bands of values (model, checkpoint) over the epochs."""
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    measured = np.isfinite(values).any(axis=0)  # of a published zoo, some epochs may have no metrics
    epochs, values = zoo.epochs[measured], values[:, measured]
    for low, high, colour in _BANDS:
        bounds = np.nanquantile(values, [low, high], axis=0)
        share = f"{high - low:.0%} of the models"
        axes.fill_between(epochs, *bounds, color=colour, linewidth=0, label=share)
    counted = int(np.isfinite(values).any(axis=1).sum())
    axes.plot(epochs, np.nanmedian(values, axis=0), color="tab:blue", label=f"median (n = {counted:,} models)")
    _finish(axes, title=f"{zoo.name}: {len(values):,} models", x="epoch", y=label)
    axes.xaxis.set_major_locator(ticker.MaxNLocator("auto", integer=True))
    axes.legend(frameon=False)
    save_figure(figure, path, dpi=150)
    pyplot.close(figure)
    return path


def _by_axis(zoo: Zoo, values: np.ndarray, label: str, names: list[str], path: Path) -> Path:
    """Draw a box plot of final values (model,) for each hyper-parameter that varies."""
    from matplotlib import pyplot

    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(4.2 * columns, 3.6 * rows), layout="constrained", squeeze=False, sharey=True
    )
    for axes in grid.flat[len(names) :]:
        axes.remove()
    for name, axes in zip(names, grid.flat, strict=False):
        labels, groups = _groups(zoo.models[name].to_pylist(), values)
        _strips(axes, groups)
        axes.boxplot(groups, tick_labels=labels, showfliers=False, boxprops=_LINE, whiskerprops=_LINE, capprops=_LINE)
        longest = max(len(line) for text in labels for line in text.splitlines()) * len(labels)
        axes.tick_params(axis="x", rotation=30 if longest > 40 else 0)
        _finish(axes, title=name, x="", y=label if axes in grid[:, 0] else "")
    figure.suptitle(f"{zoo.name}: {label} after the last epoch")
    save_figure(figure, path, dpi=150)
    pyplot.close(figure)
    return path


def _beside_images(zoo: Zoo, models: np.ndarray, images: np.ndarray, shown: np.ndarray, path: Path) -> Path:
    """Draw images (model, height, width, channel) above what the networks that are fitted to them show."""
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(
        2, len(models), figsize=(0.9 * len(models) + 0.6, 2.6), layout="constrained", squeeze=False
    )
    for row, (label, pictures) in enumerate((("image", images), ("network", shown))):
        for axes, picture in zip(grid[row], pictures, strict=True):
            axes.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        grid[row, 0].set_ylabel(label)
    decibels = zoo.view(models, epochs=[int(zoo.epochs[-1])]).metric("train_psnr")[:, 0]
    for axes, psnr in zip(grid[1], decibels, strict=True):
        axes.set_xlabel(f"{psnr:.0f} dB", fontsize=8)
    figure.suptitle(f"{zoo.name}: images and what networks fitted to them show")
    save_figure(figure, path, dpi=150)
    pyplot.close(figure)
    return path


def _strips(axes: "Axes", groups: list[np.ndarray]) -> None:
    """Draw every value (model,) of each group as a point, beside each other at random: several modes are seen."""
    random = np.random.RandomState(0)
    for position, group in enumerate(groups, start=1):
        shown = group if len(group) <= _MOST_POINTS else random.choice(group, _MOST_POINTS, replace=False)
        across = position + random.uniform(-0.2, 0.2, len(shown))
        axes.scatter(across, shown, color=_BANDS[1][2], s=6, linewidths=0, zorder=0)


def _can_be_drawn(column: pa.ChunkedArray) -> bool:
    """Return whether a hyper-parameter varies, and not over more names than fit side by side."""
    count = len(column.unique())
    return count > 1 and (count <= 2 * _BINS or not pa.types.is_string(column.type))


def _groups(column: list, values: np.ndarray) -> tuple[list[str], list[np.ndarray]]:
    """Return the finite values of each value of a hyper-parameter, or of each of a few equally full ranges of it.

    Returns:
        What each group is and how many models it has, and the values of its models.
    """
    has_value = np.isfinite(values) & np.array([value is not None for value in column])
    column, values = [value for value, is_valid in zip(column, has_value, strict=True) if is_valid], values[has_value]
    distinct = sorted(set(column))
    if not distinct:
        return ["none\nn = 0"], [values]
    if len(distinct) <= 2 * _BINS or isinstance(distinct[0], str):
        of_model = np.array([distinct.index(value) for value in column])
        labels = [value if isinstance(value, str) else f"{value:g}" for value in distinct]
    else:
        numbers = np.array(column, dtype=float)
        edges = np.quantile(numbers, np.linspace(0, 1, _BINS + 1))
        of_model = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, _BINS - 1)
        labels = [f"{low:.2g}-{high:.2g}" for low, high in itertools.pairwise(edges)]
    groups = [values[of_model == group] for group in range(len(labels))]
    return [f"{label}\nn = {len(group):,}" for label, group in zip(labels, groups, strict=True)], groups


def _finish(axes: "Axes", *, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
