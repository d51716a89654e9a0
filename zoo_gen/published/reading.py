"""What a converter describes of a published zoo: models, checkpoints, metrics, splits, and how weights are ordered.

A converter describes; it never writes. Weights are handed over in the order of the source, and one `Wiring` for
each architecture says where each number goes, so that the permutation is stored exactly as it was applied. What a
format does not expect is a ZooError that names the member of the archive, in every converter and in what it calls.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from zoo_gen.architecture.layout import Parameter, ParameterLayout
from zoo_gen.architecture.network import Network
from zoo_gen.errors import ZooError
from zoo_gen.published import accuracies, columns, splits
from zoo_gen.published.account import Account
from zoo_gen.published.accuracies import Unit
from zoo_gen.published.splits import SplitTable
from zoo_gen.store.conversion import Kind

Opened = TypeVar("Opened")


@dataclass(frozen=True)
class Request:
    """What a caller of `convert` says that the archive does not."""

    scratch: Path  # a folder for what must be expanded, which goes away with the conversion
    stack: ExitStack  # what closes with the conversion
    splits: Mapping[str, Path] = field(default_factory=dict)
    data: str | None = None
    table: str | None = None  # which of several tables names the files
    accuracies: Unit | None = None
    classes: int | None = None
    architecture: str | Path | Mapping[str, Any] | None = None  # of models of one's own; see `own_network`
    account: Account = field(default_factory=Account)

    def enter(self, context: AbstractContextManager[Opened]) -> Opened:
        """Open something that is closed when the conversion ends."""
        return self.stack.enter_context(context)

    def split_files(self, model_of_path: dict[str, int]) -> dict[str, SplitTable]:
        """Return the split files that the caller gave, which name paths of the archive."""
        return {name: splits.of_paths(path, model_of_path) for name, path in self.splits.items()}


@dataclass(frozen=True)
class Source:
    """One tensor as the published vector holds it: its `axes`, taken in this order, make the tensor of our layout."""

    name: str  # what the publication calls it
    start: int
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    parameter: str  # the name in our layout

    @property
    def size(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)

    @property
    def stop(self) -> int:
        """The position after its last element."""
        return self.start + self.size


def in_order(tensors: Iterable[tuple[str, tuple[int, ...], str]]) -> tuple[Source, ...]:
    """Return tensors (the publication's name, shape, our name) that lie one after the other, in torch's axes."""
    sources: list[Source] = []
    for name, shape, parameter in tensors:
        start = sources[-1].stop if sources else 0
        sources.append(Source(name, start, shape, tuple(range(len(shape))), parameter))
    return tuple(sources)


@dataclass(frozen=True)
class Wiring:
    """An architecture of a published zoo: our layout, the source's, and the network if its forward pass is known."""

    layout: ParameterLayout
    sources: tuple[Source, ...]
    network: Network | None = None

    @classmethod
    def of(cls, network: Network, sources: Sequence[Source]) -> "Wiring":
        """Return how the source vectors of a known network become ours."""
        return cls(network.layout, tuple(sources), network)

    def __post_init__(self) -> None:
        index = self.permutation
        if not np.array_equal(np.sort(index), np.arange(self.layout.size)):
            count = sum(source.size for source in self.sources)
            raise ZooError(
                f"the source's {count:,} numbers do not fill the {self.layout.size:,} parameters of the architecture, "
                "each once"
            )

    @cached_property
    def permutation(self) -> np.ndarray:
        """The index (parameter,) that puts a source vector in our order: stored = source[index]."""
        index = np.full(self.layout.size, -1, dtype=np.int64)
        for source, target in self._pairs():
            numbers = np.arange(source.start, source.stop).reshape(source.shape)
            moved = numbers.transpose(source.axes)
            if moved.shape != target.shape:
                raise ZooError(f"{source.name}: has shape {moved.shape} in torch order; expected {target.shape}")
            index[target.start : target.stop] = moved.reshape(-1)
        return index

    def applied(self, vectors: np.ndarray) -> np.ndarray:
        """Return source vectors (row, parameter) in our order, as float32."""
        if np.array_equal(self.permutation, np.arange(self.layout.size)):
            return vectors.astype(np.float32, copy=False)
        out = np.empty(vectors.shape, dtype=np.float32)
        for source, target in self._pairs():  # tensor by tensor, several times faster than one index over all
            block = vectors[:, source.start : source.stop].reshape(len(vectors), *source.shape)
            moved = block.transpose(0, *(axis + 1 for axis in source.axes))
            out[:, target.start : target.stop].reshape(len(vectors), *target.shape)[...] = moved
        return out

    def _pairs(self) -> list[tuple[Source, Any]]:
        targets = {parameter.name: parameter for parameter in self.layout.parameters}
        return [(source, targets[source.parameter]) for source in self.sources]


def layout_of(sources: Sequence[Source]) -> ParameterLayout:
    """Return the layout of tensors whose architecture is not known: in their order, weight before bias in a layer."""
    parameters: list[Parameter] = []
    layers = list(dict.fromkeys(_layer(source.parameter) for source in sources))
    roles = {"weight": 0, "bias": 1}
    ordered = sorted(
        enumerate(sources),
        key=lambda pair: (layers.index(_layer(pair[1].parameter)), roles.get(_role(pair[1].parameter), 2), pair[0]),
    )
    for _, source in ordered:
        shape = tuple(source.shape[axis] for axis in source.axes)
        start = parameters[-1].stop if parameters else 0
        parameters.append(Parameter(_layer(source.parameter), _role(source.parameter), shape, start))
    return ParameterLayout(tuple(parameters))


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _role(name: str) -> str:
    return name.rpartition(".")[2]


@dataclass(frozen=True)
class Reading:
    """A published zoo as its converter describes it. Arrays are (model, checkpoint) over all models and all epochs."""

    name: str
    wirings: tuple[Wiring, ...]
    wiring_of_model: np.ndarray  # int64 (model,), positions in `wirings`
    models: pa.Table  # one row a model: `run`, and every hyper-parameter the publication has
    epochs: np.ndarray  # int32 (checkpoint,), rising
    present: np.ndarray  # bool (model, checkpoint): whether the publication has that state
    metrics: Mapping[str, np.ndarray]  # float32 (model, checkpoint), NaN where not measured
    read: Callable[[int, np.ndarray], np.ndarray]  # model, positions of present checkpoints -> (checkpoint, parameter)
    states: pa.Table | None = None  # rows as in the source: model, epoch and every column as published
    splits: Mapping[str, SplitTable] = field(default_factory=dict)
    varying: tuple[str, ...] = ()
    classes: int | None = None
    data: Mapping[str, Any] | None = None  # [data] of a manifest that gives the images again
    recomputable: bool = True  # whether weights and test images alone give the metrics again
    epoch_means: str = "epoch"
    notes: tuple[str, ...] = ()
    architecture: str = ""
    exact: bool = False  # float64 must be float32 without loss

    @property
    def n_models(self) -> int:
        """The number of models."""
        return len(self.models)


def settled(reading: Reading, request: Request) -> Reading:
    """Return a reading whose accuracies are fractions and whose columns have names of their own, and note both.

    Raises:
        ZooError: an accuracy is above 1, and the caller did not say what accuracies are.
    """
    account = request.account
    metrics = dict(reading.metrics)
    is_listed = bool(account.columns)  # then the format has looked at each of its columns
    for name, values in metrics.items():
        what = ""
        if accuracies.is_accuracy(name) and not is_listed:

            def where(position: int, *, name: str = name) -> str:
                model, checkpoint = divmod(position, len(reading.epochs))
                run = reading.models["run"][model].as_py()
                return f"{reading.name}: {name} of {run} at {reading.epoch_means} {reading.epochs[checkpoint]}"

            metrics[name], what = accuracies.as_fractions(values, request.accuracies, where=where)
        if not is_listed:
            account.column(name, "metric", name, what)
    if not is_listed:
        for name in reading.models.column_names:
            kind: Kind = "run" if name == "run" else "seed" if name == "seed" else "hyper-parameter"
            account.column(name, kind, name)
    titles = [name for name in reading.models.column_names if name != "run"]
    metric_names = columns.distinct({name: name for name in metrics})
    names = columns.distinct({name: name for name in titles}, taken=metric_names.values())
    renamed = {old: new for pairs in (names, metric_names) for old, new in pairs.items() if old != new}
    account.columns[:] = [
        each.model_copy(update={"stored": renamed.get(each.stored, each.stored)}) for each in account.columns
    ]
    lacking = [name for name, values in metrics.items() if np.isnan(values[reading.present]).any()]
    for name in lacking:
        count = int(np.isnan(metrics[name][reading.present]).sum())
        account.note(f"{name} is not measured, and so NaN, in {count:,} of {int(reading.present.sum()):,} states")
    return replace(
        reading,
        models=reading.models.rename_columns(["run", *(names[name] for name in titles)]),
        metrics={metric_names[name]: values for name, values in metrics.items()},
        varying=tuple(names[name] for name in reading.varying),
    )


def selected(
    reading: Reading, *, epochs: Sequence[int] | None, models: Sequence[int] | range | None
) -> tuple[Reading, np.ndarray]:
    """Return a reading of some models and epochs only, and the number in the whole zoo of each model (model,).

    Raises:
        ZooError: a model or an epoch is not there.
    """
    rows = np.arange(reading.n_models) if models is None else np.unique(np.array(list(models), dtype=np.int64))
    if len(rows) and (rows[0] < 0 or rows[-1] >= reading.n_models):
        wrong = rows[0] if rows[0] < 0 else rows[-1]
        raise ZooError(f"{reading.name}: has no model {wrong}; it has 0 to {reading.n_models - 1}")
    columns = np.arange(len(reading.epochs))
    if epochs is not None:
        absent = sorted(set(epochs).difference(reading.epochs.tolist()))
        if absent:
            present = ", ".join(map(str, reading.epochs[:16])) + (", ..." if len(reading.epochs) > 16 else "")
            raise ZooError(f"{reading.name}: has no {reading.epoch_means} {absent[0]}; it has {present}")
        columns = np.flatnonzero(np.isin(reading.epochs, list(epochs)))
    if not len(rows) or not len(columns):
        raise ZooError(f"{reading.name}: no model or no {reading.epoch_means} is left to convert")
    if models is None and epochs is None:
        return reading, rows
    grid = np.ix_(rows, columns)
    number = {int(row): position for position, row in enumerate(rows)}
    used, wiring_of_model = np.unique(reading.wiring_of_model[rows], return_inverse=True)
    tables = {}
    for name, table in reading.splits.items():
        stays = np.isin(table.models, rows)
        models_there = np.array([number[model] for model in table.models[stays].tolist()], dtype=np.int64)
        tables[name] = SplitTable(models_there, table.parts[stays], table.how)
    states = reading.states
    if states is not None:
        chosen = np.isin(states["model"].to_numpy(), rows)
        chosen &= np.isin(states["epoch"].to_numpy(), reading.epochs[columns])
        states = states.filter(pa.array(chosen))
        renumbered = pa.array([number[model] for model in states["model"].to_pylist()], pa.int64())
        states = states.set_column(states.column_names.index("model"), "model", renumbered)
    read = reading.read
    return (
        replace(
            reading,
            wirings=tuple(reading.wirings[index] for index in used),
            wiring_of_model=wiring_of_model.astype(np.int64),
            models=reading.models.take(pa.array(rows)),
            epochs=reading.epochs[columns],
            present=reading.present[grid],
            metrics={name: values[grid] for name, values in reading.metrics.items()},
            read=lambda model, columns_read: read(int(rows[model]), columns[columns_read]),
            states=states,
            splits=tables,
        ),
        rows,
    )
