"""The card of a zoo: its README.md, for people and for the Hub's table viewer. It depends on nothing but the zoo."""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from zoo_gen import durable, sums
from zoo_gen.location import Folder
from zoo_gen.zoo import Zoo, open_zoo

_BLOCKS = " ▁▂▃▄▅▆▇█"


def write(folder: Folder) -> None:
    """Write the card of the zoo in `folder`, if the zoo is complete."""
    zoo = open_zoo(folder)
    if not zoo.complete:
        return
    durable.replace(folder / sums.CARD, text(zoo).encode())
    sums.write(folder, anew=sums.CARD)


def is_written(folder: Folder) -> bool:
    """Return whether the zoo has its card, and the card its digest: the last thing that a run does."""
    return (folder / sums.CARD).exists() and sums.CARD in sums.read(folder)


def text(zoo: Zoo) -> str:
    """Return the card of a complete zoo as Markdown with the front matter that the Hub reads."""
    n_models, n_checkpoints, n_parameters = zoo.weights.shape
    diverged = pc.sum(pc.equal(zoo.column("status"), "diverged")).as_py()
    parts = ", ".join(f"{len(zoo.split(part))} {part}" for part in ("train", "validation", "test"))
    varying = "\n".join(f"| {name} | {values} |" for name, values in varying_hyperparameters(zoo).items())
    data = zoo.manifest.data
    return f"""---
pretty_name: {zoo.name}
tags:
- model-zoo
- weight-space-learning
- zarr
configs:
- config_name: models
  data_files: models/*.parquet
---

# {zoo.name}

{zoo.manifest.description}

A model zoo: a dataset whose {n_models} samples are trained neural networks. Each is a
`{zoo.manifest.architecture.name}` of {n_parameters} parameters, trained on {data.source} for
{zoo.manifest.training.epochs} epochs and kept at {n_checkpoints} checkpoints. {diverged} diverged.
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

Made from `manifest.toml` (digest `{zoo.digest}`), revision `{zoo.revision}`.
"""


def varying_hyperparameters(zoo: Zoo) -> dict[str, str]:
    """Return the hyper-parameters that vary, name -> their values in short."""
    return {name: _short(zoo.column(name).unique().to_pylist()) for name in zoo.manifest.axes.names}


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
    metric = "test_accuracy" if "test_accuracy" in zoo.metrics else "test_loss"
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
    return f"{min(values)} to {max(values)} ({len(values)} values)"  # type: ignore[type-var]
