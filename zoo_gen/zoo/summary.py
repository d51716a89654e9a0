"""What a zoo is, in a few lines: as text for `zoo-gen info`, as HTML with a histogram for notebooks."""

from html import escape

import numpy as np

from zoo_gen.files import location
from zoo_gen.zoo import Zoo, card

_PARTS = ("train", "validation", "test")
_BINS, _WIDTH, _HEIGHT = 40, 480, 90  # of the histogram; width and height in pixels


def facts(zoo: Zoo) -> dict[str, str]:
    """Return what a reader wants to know of a zoo first, title -> text: sizes, data, digests, splits, what varies."""
    extent = zoo.extent
    shards = f"{len(zoo.complete_shards)} of {extent.n_shards} shards"
    lines = {
        "models": f"{len(zoo.models):,} of {extent.n_models:,} ({shards})",
        "checkpoints": f"{extent.n_checkpoints:,}, epochs {zoo.epochs[0]} to {zoo.epochs[-1]}",
        "parameters": card.parameters(zoo),
        "data": zoo.manifest.data_name,
        "on disk": f"{sum(location.files(zoo.path).values()) / 1e6:,.1f} MB",
        "digest": zoo.digest,
        "revision": zoo.revision,
        "made with": ", ".join(f"{name} {number}" for name, number in zoo.attributes["versions"].items()),
    }
    if len(zoo.models):
        for name in zoo.splits:
            lines[f"split {name}"] = ", ".join(f"{len(zoo.split(part, table=name)):,}" for part in _PARTS)
        lines["split"] = ", ".join(f"{len(zoo.split(part)):,} {part}" for part in _PARTS)
        lines["diverged"] = f"{zoo.models['status'].to_pylist().count('diverged'):,}"
        lines |= card.varying_hyperparameters(zoo)
    return lines


def html(zoo: Zoo) -> str:
    """Return a zoo as HTML that needs no other file: name, description, facts, and a histogram of the final metric.

    Colours are those of the page around it, so that it reads in light and dark notebooks.
    """
    rows = "".join(
        f'<tr><th style="text-align:left;font-weight:normal;opacity:.65;padding:1px 16px 1px 0">{escape(title)}</th>'
        f'<td style="text-align:left;padding:1px 0">{escape(text)}</td></tr>'
        for title, text in facts(zoo).items()
    )
    outcome = card.outcome(zoo)
    description = f"<div>{escape(zoo.manifest.description)}</div>" if zoo.manifest.description else ""
    picture = _histogram(outcome.values, title=f"{outcome.metric.replace('_', ' ')} after the last epoch")
    return (
        f'<div style="max-width:60em"><strong>{escape(zoo.name)}</strong>{description}'
        f'<table style="border:none;margin:6px 0">{rows}</table>{picture}</div>'
    )


def _histogram(values: np.ndarray, *, title: str) -> str:
    """Return a histogram of values (model,) as an SVG image over the range of the values; nothing of no values."""
    if not len(values):
        return ""
    low, high = float(values.min()), float(values.max())
    margin = (high - low) * 0.02 or abs(low) * 0.02 or 0.01  # models that all reached the same fall into one bar
    counts, edges = np.histogram(values, bins=_BINS, range=(low - margin, high + margin))
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
