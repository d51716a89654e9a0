"""The card of a zoo: its README.md, for people and for the Hub's table viewer. It depends on nothing but the zoo."""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from zoo_gen.files import atomic
from zoo_gen.files.location import Folder
from zoo_gen.store import Store, checksums
from zoo_gen.store.side_files import STATES, split_path
from zoo_gen.zoo import Zoo
from zoo_gen.zoo.table import ModelTable

_BLOCKS = " ▁▂▃▄▅▆▇█"


def write(store: Store) -> None:
    """Write the card of a zoo, if the zoo is complete."""
    table = ModelTable(store)
    if table.shards == list(range(store.extent.n_shards)):
        atomic.replace(store.folder / checksums.CARD, text(Zoo(store, table)).encode())
        checksums.write(store.folder, only=checksums.CARD)


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
    zoo.load(["status", "split", _metric(zoo), *zoo.varying])
    extent, training = zoo.extent, zoo.manifest.training_sentence
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

A model zoo: a dataset whose {extent.n_models} samples are trained neural networks. {training} {diverged} diverged.
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

{zoo.manifest.origin_text}Made from `manifest.toml` (digest `{zoo.digest}`), revision `{zoo.revision}`.
{sections}"""


def _more_tables(zoo: Zoo) -> str:
    """Return the other tables of a converted zoo as lines of the front matter."""
    if zoo.manifest.origin is None:
        return ""
    tables = {f"split_{name}": split_path(name) for name in zoo.manifest.splits}
    if (zoo.path / STATES).exists():
        tables["states"] = STATES
    return "".join(f"- config_name: {name}\n  data_files: {path}\n" for name, path in tables.items())


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
    metric = _metric(zoo)
    values = zoo.column(metric).to_numpy() if len(zoo.column("model_id")) else np.array([])
    return Outcome(metric, values[np.isfinite(values)])


def _metric(zoo: Zoo) -> str:
    return next((name for name in ("test_accuracy", "test_loss") if name in zoo.metrics), zoo.metrics[-1])


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
