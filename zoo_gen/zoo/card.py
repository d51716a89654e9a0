"""The card of a zoo: its README.md, for people and for the Hub's table viewer. It depends on nothing but the zoo."""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from zoo_gen.files import atomic
from zoo_gen.files.location import Folder
from zoo_gen.manifest.converted import SPLITS, STATES, ConvertedManifest
from zoo_gen.store import checksums
from zoo_gen.zoo import Zoo, open_zoo

_BLOCKS = " ▁▂▃▄▅▆▇█"


def write(folder: Folder) -> None:
    """Write the card of the zoo in `folder`, if the zoo is complete."""
    zoo = open_zoo(folder)
    if not zoo.complete:
        return
    atomic.replace(folder / checksums.CARD, text(zoo).encode())
    checksums.write(folder, anew=checksums.CARD)


def is_written(folder: Folder) -> bool:
    """Return whether the zoo has its card, and the card its digest: the last thing that a run does."""
    return (folder / checksums.CARD).exists() and checksums.CARD in checksums.read(folder)


def text(zoo: Zoo, *, front: str = "", sections: str = "") -> str:
    """Return the card of a complete zoo as Markdown with the front matter that the Hub reads.

    Args:
        zoo: the zoo.
        front: more lines of the front matter.
        sections: what follows at the end.
    """
    extent = zoo.extent
    diverged = pc.sum(pc.equal(zoo.column("status"), "diverged")).as_py()
    parts = ", ".join(f"{len(zoo.split(part))} {part}" for part in ("train", "validation", "test"))
    varying = "\n".join(f"| {name} | {values} |" for name, values in varying_hyperparameters(zoo).items())
    return f"""---
{front}pretty_name: {zoo.name}
tags:
- model-zoo
- weight-space-learning
- zarr
configs:
- config_name: models
  data_files: models/*.parquet
  default: true
{_more_tables(zoo)}---

# {zoo.name}

{zoo.manifest.description}

A model zoo: a dataset whose {extent.n_models} samples are trained neural networks. {_each(zoo)} {diverged} diverged.
Split by model: {parts}.

| varies | values |
|---|---|
{varying}

{outcome(zoo).sentence()}

Read it with

```python
from zoo_gen import open_zoo

zoo = open_zoo("{zoo.name}")
zoo.models.to_pandas()            # a row a model
zoo.weights[0]                    # (checkpoint, parameter) of model 0
zoo.module(0)                     # model 0 as a torch module
```

{_provenance(zoo)}Made from `manifest.toml` (digest `{zoo.digest}`), revision `{zoo.revision}`.
{sections}"""


def _more_tables(zoo: Zoo) -> str:
    """Return the other tables of a converted zoo as lines of the front matter."""
    if not isinstance(zoo.manifest, ConvertedManifest):
        return ""
    tables = {f"split_{name}": f"{SPLITS}/{name}.parquet" for name in zoo.manifest.splits}
    if (zoo.path / STATES).exists():
        tables["states"] = STATES
    return "".join(f"- config_name: {name}\n  data_files: {path}\n" for name, path in tables.items())


def _each(zoo: Zoo) -> str:
    """Return what each model is and how it was trained, in a sentence."""
    extent, manifest = zoo.extent, zoo.manifest
    size = f"{'up to ' * manifest.ragged}{extent.n_parameters}"
    if isinstance(manifest, ConvertedManifest):
        kinds = f"{manifest.architectures} architectures" if manifest.ragged else f"`{manifest.architecture.name}`"
        return (
            f"They have {size} parameters\n({kinds}), were trained on {manifest.data_name} by others and are kept at "
            f"{'up to ' * manifest.ragged}{extent.n_checkpoints} checkpoints."
        )
    return (
        f"Each is a\n`{manifest.architecture.name}` of {size} parameters, trained on {manifest.data.source} for\n"
        f"{manifest.training.epochs} epochs and kept at {extent.n_checkpoints} checkpoints."
    )


def _provenance(zoo: Zoo) -> str:
    """Return where a converted zoo came from, as paragraphs of Markdown; nothing for a generated one."""
    manifest = zoo.manifest
    if not isinstance(manifest, ConvertedManifest):
        return ""
    lines = [f"Converted from `{manifest.origin.archive}` (format `{manifest.format}`)."]
    lines += [f"- {key}: {value}" for key, value in manifest.origin.provenance.items()]
    lines += [f"- note: {note}" for note in manifest.notes]
    lines += [
        f"- split table `{name}` ({facts.train}/{facts.validation}/{facts.test}): {facts.how}"
        for name, facts in manifest.splits.items()
    ]
    return "\n".join(lines) + "\n\n"


def parameters(zoo: Zoo) -> str:
    """Return how many parameters a model has, and in which layers."""
    size = f"{zoo.extent.n_parameters:,}"
    if zoo.manifest.ragged:
        return f"up to {size} in {len(zoo.architectures):,} architectures"
    return f"{size} in layers {', '.join(zoo.layout.layers)}"


def varying_hyperparameters(zoo: Zoo) -> dict[str, str]:
    """Return the hyper-parameters that vary, name -> their values in short."""
    return {name: _short(zoo.column(name).unique().to_pylist()) for name in zoo.varying}


@dataclass(frozen=True)
class Outcome:
    """What the models of a zoo that did not diverge reached after the last epoch."""

    metric: str  # test_accuracy, or test_loss where there are no classes
    values: np.ndarray  # (model,)

    def sentence(self, *, width: int = 40) -> str:
        """Return range, median and histogram as one line of Markdown."""
        name = self.metric.replace("_", " ")
        if not len(self.values):
            return f"No model has a {name}: all diverged."
        lowest, median, highest = np.quantile(self.values, [0.0, 0.5, 1.0])
        low, high = (0.0, 1.0) if self.metric == "test_accuracy" else (lowest, highest)
        bars = histogram(self.values, low=low, high=high, width=width)
        return (
            f"{name} after the last epoch: {lowest:.3g} to {highest:.3g}, median {median:.3g}; "
            f"from {low:.3g} to {high:.3g}: `{bars}`"
        )


def outcome(zoo: Zoo) -> Outcome:
    """Return what the models reached, by the final metrics in the table."""
    metric = next((name for name in ("test_accuracy", "test_loss") if name in zoo.metrics), zoo.metrics[-1])
    values = zoo.column(metric).to_numpy() if zoo.complete_shards else np.array([])
    return Outcome(metric, values[np.isfinite(values)])


def histogram(values: np.ndarray, *, low: float, high: float, width: int = 40) -> str:
    """Return a histogram of values (any,) between two bounds as one line of block characters."""
    counts, _ = np.histogram(values, bins=width, range=(low, high))
    heights = np.ceil(counts / max(counts.max(), 1) * (len(_BLOCKS) - 1)).astype(int)
    return "".join(_BLOCKS[height] for height in heights)


def _short(values: list[object]) -> str:
    """Return values as text: all of a few, the ends and the number of many."""
    if len(values) <= 8:
        return ", ".join(map(str, values))
    there = [value for value in values if value is not None]
    return f"{min(there)} to {max(there)} ({len(values)} values)"  # type: ignore[type-var]
