"""What a zoo is and what its models reached, in a few lines: as text, and as HTML with a histogram for notebooks."""

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.files import location
from zoo_gen.store import Store, side_files
from zoo_gen.zoo.table import ModelTable

_BLOCKS = " ▁▂▃▄▅▆▇█"
_BINS, _WIDTH, _HEIGHT = 40, 480, 90  # of the picture; width and height in pixels
_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Outcome:
    """What the models of a zoo that did not diverge reached after the last epoch."""

    metric: str  # test_accuracy, or where there are no classes test_r2 or test_loss, of fitted images train_psnr
    values: np.ndarray  # (model,)

    def sentence(self, *, width: int = 40, markdown: bool = False) -> str:
        """Return range, median and histogram as one line; in Markdown the histogram is code, so that bars align."""
        name = self.metric.replace("_", " ")
        if not len(self.values):
            return f"No model has a {name}: all diverged."
        lowest, median, highest = np.quantile(self.values, [0.0, 0.5, 1.0])
        bars = histogram(self.values, low=lowest, high=highest, width=width)
        bars = f"`{bars}`" if markdown else bars
        return f"{name} after the last epoch: {lowest:.3g} to {highest:.3g}, median {median:.3g}: {bars}"


def final_metric(store: Store) -> str:
    """Return the name of the metric that says best what models reached."""
    metrics = [name for name, _ in store.extent.metrics]
    telling = ("test_accuracy", "test_r2", "test_loss", "train_psnr")
    return next((name for name in telling if name in metrics), metrics[-1])


def outcome(store: Store, table: ModelTable) -> Outcome:
    """Return what the models reached, by the final metrics in the table."""
    metric = final_metric(store)
    values = table.column(metric).to_numpy() if len(table.column("model_id")) else np.array([])
    return Outcome(metric, values[np.isfinite(values)])


def facts(store: Store, table: ModelTable) -> dict[str, str]:
    """Return what a reader wants to know of a zoo first, title -> text: sizes, data, digests, splits, what varies."""
    extent, manifest, epochs = store.extent, store.manifest, store.attributes["checkpoint_epochs"]
    names = ["split", "status", *manifest.varying] if table.shards else []
    table.load(["model_id", *names])
    lines = {
        "models": f"{len(table.column('model_id')):,} of {extent.n_models:,} ({len(table.shards)} of "
        f"{extent.n_shards} shards)",
        "checkpoints": f"{extent.n_checkpoints:,}, epochs {epochs[0]} to {epochs[-1]}",
        "parameters": _parameters(store),
        "data": manifest.data_name,
        "on disk": _size(sum(location.files(store.folder).values())),
        "digest": manifest.digest,
        "revision": table.revision,
        "made with": ", ".join(f"{name} {number}" for name, number in store.attributes["versions"].items()),
    }
    if table.shards:
        for name, split in manifest.splits.items():
            lines[f"split {name}"] = f"{split.train:,}, {split.validation:,}, {split.test:,}"
        parts = table.column("split").to_pylist()
        lines["split"] = ", ".join(f"{parts.count(part):,} {part}" for part in _PARTS)
        lines["diverged"] = f"{table.column('status').to_pylist().count('diverged'):,}"
        lines |= varying_values(store, table)
    return lines


def described(store: Store, table: ModelTable) -> dict[str, Any]:
    """Return what `facts` says as plain data, for other programs."""
    extent, manifest = store.extent, store.manifest
    columns = {name: table.column(name).to_pylist() for name in (["split", "status"] if table.shards else [])}
    reached = outcome(store, table)
    quantiles = np.quantile(reached.values, [0.0, 0.5, 1.0]).tolist() if len(reached.values) else [None] * 3
    return {
        "name": manifest.name,
        "description": manifest.description,
        "path": str(store.folder),
        "models": extent.n_models,
        "complete_models": len(table.column("model_id")),
        "shards": extent.n_shards,
        "complete_shards": len(table.shards),
        "epochs": list(store.attributes["checkpoint_epochs"]),
        "parameters": extent.n_parameters,
        "data": manifest.data_name,
        "bytes": sum(location.files(store.folder).values()),
        "digest": manifest.digest,
        "revision": table.revision,
        "versions": dict(store.attributes["versions"]),
        "metrics": [name for name, _ in extent.metrics],
        "split": {part: columns.get("split", []).count(part) for part in _PARTS},
        "diverged": columns.get("status", []).count("diverged"),
        "varying": _varying(store, table) if table.shards else {},
        "outcome": {"metric": reached.metric} | dict(zip(("lowest", "median", "highest"), quantiles, strict=True)),
    }


def varying_values(store: Store, table: ModelTable) -> dict[str, str]:
    """Return the hyper-parameters that vary, name -> their values in short."""
    return {name: _short(values) for name, values in _varying(store, table).items()}


def _varying(store: Store, table: ModelTable) -> dict[str, list[object]]:
    """Return the values of each hyper-parameter that varies, also where the shards until now have one of its values."""
    complete, generated = len(table.shards) == store.extent.n_shards, store.manifest.generated
    fixed = set(generated.axes.names) - set(generated.axes.varying) if generated else set()
    values = {name: table.column(name).unique().to_pylist() for name in store.manifest.varying if name not in fixed}
    return {name: each for name, each in values.items() if len(each) > 1 or not complete}


def histogram(values: np.ndarray, *, low: float, high: float, width: int = 40) -> str:
    """Return a histogram of values (any,) between two bounds as one line of block characters."""
    counts, _ = _counts(values, bins=width, low=low, high=high)
    heights = np.ceil(counts / max(counts.max(), 1) * (len(_BLOCKS) - 1)).astype(int)
    return "".join(_BLOCKS[height] for height in heights)


def _counts(values: np.ndarray, *, bins: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Return how many values are in each bin, and the bins' edges, also where float32 cannot part tiny or huge ones."""
    try:
        return np.histogram(values, bins=bins, range=(low, high))
    except ValueError:
        low, high = float(low), float(high)
        if high - low <= abs(high) * 1e-9:
            low, high = low - abs(low) / 2, high + abs(high) / 2
        return np.histogram(values.astype(np.float64), bins=bins, range=(low, high))


def html(store: Store, table: ModelTable) -> str:
    """Return a zoo as HTML that needs no other file: name, description, facts, and a histogram of the final metric.

    Colours are those of the page around it, so that it reads in light and dark notebooks.
    """
    rows = "".join(
        f'<tr><th style="text-align:left;font-weight:normal;opacity:.65;padding:1px 16px 1px 0">{escape(title)}</th>'
        f'<td style="text-align:left;padding:1px 0">{escape(text)}</td></tr>'
        for title, text in facts(store, table).items()
    )
    manifest, reached = store.manifest, outcome(store, table)
    description = f"<div>{escape(manifest.description)}</div>" if manifest.description else ""
    picture = _histogram(reached.values, title=f"{reached.metric.replace('_', ' ')} after the last epoch")
    return (
        f'<div style="max-width:60em"><strong>{escape(manifest.name)}</strong>{description}'
        f'<table style="border:none;margin:6px 0">{rows}</table>{picture}</div>'
    )


def _parameters(store: Store) -> str:
    """Return how many parameters a model has, and in which layers."""
    size = f"{store.extent.n_parameters:,}"
    if store.manifest.ragged:
        return f"up to {size} in {len(side_files.read_architectures(store.folder)):,} architectures"
    return f"{size} in layers {', '.join(ParameterLayout.from_json(store.attributes['layout']).layers)}"


def _size(n_bytes: int) -> str:
    """Return bytes for people: 88.0 kB, 12.3 MB."""
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:,.1f} kB"


def _short(values: list[object]) -> str:
    """Return values as text: all of a few, the ends and the number of many."""
    if len(values) <= 8:
        return ", ".join(map(str, values))
    present = [value for value in values if value is not None]
    return f"{min(present)} to {max(present)} ({len(values)} values)"  # type: ignore[type-var]


def _histogram(values: np.ndarray, *, title: str) -> str:
    """Return a histogram of values (model,) as an SVG image over the range of the values; nothing of no values."""
    if not len(values):
        return ""
    low, high = float(values.min()), float(values.max())
    margin = (high - low) * 0.02 or abs(low) * 0.02 or 0.01  # models that all reached the same fall into one bar
    counts, edges = _counts(values, bins=_BINS, low=low - margin, high=high + margin)
    step = _WIDTH / _BINS
    bars = "".join(
        f'<rect x="{number * step + 0.5:.1f}" y="{_HEIGHT - height:.1f}" width="{step - 1:.1f}" height="{height:.1f}">'
        f"<title>{edges[number]:.3g} to {edges[number + 1]:.3g}: {count}</title></rect>"
        for number, count in enumerate(counts.tolist())
        if (height := count / counts.max() * _HEIGHT)
    )
    median = float(np.median(values))
    caption = f"{title}: {low:.3g} to {high:.3g}, median {median:.3g}, {len(values):,} models"
    return (
        f'<svg role="img" aria-label="{escape(caption)}" viewBox="0 0 {_WIDTH} {_HEIGHT + 18}" width="{_WIDTH}" '
        f'style="max-width:100%" fill="currentColor" font-size="11"><g fill="#4c78a8">{bars}</g>'
        f'<line x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}" stroke="currentColor" stroke-opacity=".4"/>'
        f'<text x="0" y="{_HEIGHT + 13}">{low:.3g}</text>'
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT + 13}" text-anchor="middle">{escape(title)}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 13}" text-anchor="end">{high:.3g}</text></svg>'
    )
