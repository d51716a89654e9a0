"""The card of a zoo: its README.md, for people and for the Hub's table viewer. It depends on nothing but the zoo."""

import pyarrow.compute as pc

from zoo_gen.files import atomic
from zoo_gen.files.location import Folder
from zoo_gen.store import Store, checksums
from zoo_gen.store.side_files import STATES, split_path
from zoo_gen.zoo import Zoo
from zoo_gen.zoo.summary import final_metric
from zoo_gen.zoo.table import ModelTable


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
    zoo.load(["status", "split", final_metric(zoo.store), *zoo.varying])
    extent, training = zoo.extent, zoo.manifest.training_sentence
    diverged = pc.sum(pc.equal(zoo.column("status"), "diverged")).as_py()
    parts = ", ".join(f"{len(zoo.split(part))} {part}" for part in ("train", "validation", "test"))
    varying = "".join(f"| {name} | {values} |\n" for name, values in zoo.varying_values().items())
    table = f"| varies | values |\n|---|---|\n{varying}\n" if varying else ""
    return f"""---
{front}pretty_name: {zoo.name}
tags:
- model-zoo
- weight-space-learning
- zarr
configs:
- config_name: models
  data_files: {_parts(zoo)}
  default: true
{_more_tables(zoo)}---

# {zoo.name}
{f"{chr(10)}{zoo.manifest.description}{chr(10)}" if zoo.manifest.description else ""}
A model zoo: a dataset whose {extent.n_models} samples are trained neural networks. {training} {diverged} diverged.
Split by model: {parts}.

{table}{zoo.outcome().sentence(markdown=True)}

Read it with

```python
from zoo_gen import open_zoo

zoo = open_zoo("{zoo.name}")            # the folder of this file
zoo.models.to_pandas()            # a row a model
{_weights_of_a_model(zoo)}
{_of_a_model(zoo)}
```

{zoo.manifest.origin_text}Made from `manifest.toml` (digest `{zoo.digest}`), revision `{zoo.revision}`.
{sections}"""


def _weights_of_a_model(zoo: Zoo) -> str:
    """Return the line that reads the weights of a model, which lie in one array where all have as many."""
    if zoo.ragged:
        return "zoo.view([0]).weights[0]          # (checkpoint, parameter) of model 0"
    return "zoo.weights[0]                    # (checkpoint, parameter) of model 0"


def _of_a_model(zoo: Zoo) -> str:
    """Return the line that reads a model: as a module, or its tensors where nobody said how it computes."""
    networks = [zoo.manifest.network, *(each.network for each in zoo.architectures.values())]
    if any(network is not None for network in networks):
        return "zoo.module(0)                     # model 0 as a torch module"
    return "zoo.state_dict(0)                 # the tensors of model 0"


def _parts(zoo: Zoo) -> str:
    """Return the pattern of the Parquet parts, which no second copy of one matches ("part-00000 (1).parquet")."""
    digits = "[0-9]" * 5 if zoo.extent.n_shards <= 10**5 else "*"
    return f"models/part-{digits}.parquet"


def _more_tables(zoo: Zoo) -> str:
    """Return the other tables of a converted zoo as lines of the front matter."""
    if zoo.manifest.origin is None:
        return ""
    tables = {f"split_{name}": split_path(name) for name in zoo.manifest.splits}
    if (zoo.path / STATES).exists():
        tables["states"] = STATES
    return "".join(f"- config_name: {name}\n  data_files: {path}\n" for name, path in tables.items())
