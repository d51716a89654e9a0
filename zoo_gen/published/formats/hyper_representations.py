"""Hyper-representations (Schürholt et al., 2021) and preprocessed ModelZoos (2022): .pt dumps of pickled data sets.

A dump is {trainset, valset, testset}, each an instance of a class of the authors that nobody else has. Its fields are
read through stand-ins: weights as a stacked tensor, a list of vectors or of state_dicts, a path and an epoch a row. The
parts of the dump are the only faithful source of the papers' split.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from zoo_gen.architecture import registry
from zoo_gen.architecture.layout import Parameter, ParameterLayout
from zoo_gen.errors import ZooError
from zoo_gen.published import splits
from zoo_gen.published.archives.archive import Archive, only
from zoo_gen.published.archives.pickles import Reader, StandIn, array_of, is_tensor, plain
from zoo_gen.published.formats import images, networks, states, tables
from zoo_gen.published.formats.dtypes import numbers_of
from zoo_gen.published.reading import Reading, Request, Source, Wiring, in_order
from zoo_gen.published.rounding import as_float32

# What the authors' files refer to: their own classes, and what these hold besides tensors. All become stand-ins.
_MODULES = {
    "dataset_base": ("ModelDatasetBase",),
    "dataset_simclr": ("SimCLRDataset",),
    "dataset_google_simclr": ("GoogleDatasetSimCLR",),
    "random_erasing": ("RandomErasingVector",),
}
# Several of their papers have data sets of their own in the same package, and what pandas pickles differs from version
# to version; none of it is used.
FAMILY = re.compile(r"checkpoints_to_datasets\.[a-z_]+\.[A-Z]\w*|(pandas|pyarrow\.lib)\.[\w.]+")
EXPECTED = frozenset(
    [f"checkpoints_to_datasets.{module}.{name}" for module, names in _MODULES.items() for name in names]
    + [f"pathlib.{name}" for name in ("PosixPath", "Path", "PurePosixPath", "WindowsPath", "_local.PosixPath")]
    + [f"numpy.{place}.multiarray.{name}" for place in ("core", "_core") for name in ("_reconstruct", "scalar")]
    + [f"numpy.{place}.numeric._frombuffer" for place in ("core", "_core")]
    + ["numpy.ndarray", "numpy.dtype", "builtins.slice", "builtins.range", "collections.defaultdict"]
)
_PARTS = {"trainset": "train", "valset": "validation", "testset": "test"}
_LABEL = re.compile(r"(.*)#_#epoch_(\d+)(?:#_#.*)?")
_GOOGLE_LABEL = re.compile(r"model_id-(\d+)_step-(\d+)_path-(.*)")
_METRICS = tables.METRICS | {"acc": "test_accuracy", "ggap": "published_gap"}
_OURS = {
    "model::nlin": "activation",
    "model::dropout": "dropout",
    "model::init_type": "initialization",
    "init_method": "initialization",
    "optim::optimizer": "optimizer",
    "optim::lr": "learning_rate",
    "lr": "learning_rate",
    "optim::wd": "weight_decay",
    "l2reg": "l2",
}
_SMALL_CNN_GAP = registry.SmallCNNGap(name="small_cnn_gap")


@dataclass(frozen=True)
class Row:
    """One state of a dump: where its numbers are, and whose they are."""

    part: str
    run: str
    epoch: int
    place: int  # row of its part


def read(archive: Archive, request: Request, *, format: str = "hyper_representations") -> Reading:
    """Return what a dump holds: a file of its own, or the only .pt of an archive."""
    candidates = [name for name in archive.named("*.pt", "*.pth") if name.rpartition("/")[2] != "dataset.pt"]
    member = only(archive, candidates or (archive.members if archive.kind == "file" else ()), ".pt dump of a data set")
    where = archive.where(member)
    reader = Reader(EXPECTED, family=FAMILY, scratch=request.scratch, format=format)
    dump = reader.member(archive, member)
    parts = {name: _fields(dump[key], where=where) for key, name in _PARTS.items() if _has(dump, key)}
    if "train" not in parts:
        raise ZooError(f"{where}: holds {_kind(dump)}; expected trainset, valset and testset")
    rows = [row for part, fields in parts.items() for row in _rows(part, fields, where=where)]
    runs = list(dict.fromkeys(row.run for row in rows))
    number = {run: position for position, run in enumerate(runs)}
    epochs = np.array(sorted({row.epoch for row in rows}), dtype=np.int32)
    column_of = {int(epoch): position for position, epoch in enumerate(epochs)}
    row_of = np.full((len(runs), len(epochs)), -1, dtype=np.int64)
    part_of: dict[str, str] = {}
    for position, row in enumerate(rows):
        cell = number[row.run], column_of[row.epoch]
        if row_of[cell] >= 0:
            raise ZooError(f"{where}: holds epoch {row.epoch} of {row.run} twice")
        row_of[cell] = position
        if part_of.setdefault(row.run, row.part) != row.part:
            raise ZooError(f"{where}: {row.run} stands in two parts, {part_of[row.run]} and {row.part}")
    is_google = any("GoogleDatasetSimCLR" in _kind(dump[key]) for key in _PARTS if _has(dump, key))
    wiring, name = _wiring(archive, parts["train"], is_google=is_google, where=where)
    properties = {part: fields.get("properties") or {} for part, fields in parts.items()}
    hyperparameters, metrics = _properties(rows, properties, row_of)
    dataset = images.dataset_of(request.data or member) or images.dataset_of(archive.path.name)
    data = None
    if wiring.network is not None and len(wiring.network.input_shape) == 3:
        is_gap = name == "small_cnn_gap"
        data = (
            images.small_cnn_zoo(dataset) if is_gap else images.model_zoos(dataset, size=wiring.network.input_shape[-1])
        )

    def weights_of(model: int, checkpoints: np.ndarray) -> np.ndarray:
        vectors = np.empty((len(checkpoints), wiring.layout.size), dtype=np.float32)
        for position, checkpoint in enumerate(checkpoints):
            row = rows[row_of[model, checkpoint]]
            vectors[position] = _vector(parts[row.part], row.place, wiring, where=f"{where}: {row.run}")
        return vectors

    by_model = {number[run]: part_of[run] for run in runs}
    published = splits.of_parts(by_model, how=f"the parts of {member.rpartition('/')[2]}")
    return Reading(
        name=member.rpartition("/")[2].rpartition(".")[0].removeprefix("dataset_") or format,
        wirings=(wiring,),
        wiring_of_model=np.zeros(len(runs), dtype=np.int64),
        models=pa.table({"run": pa.array(runs), **hyperparameters}),
        epochs=epochs,
        present=row_of >= 0,
        metrics=metrics,
        read=weights_of,
        states=pa.table(
            {
                "model": pa.array([number[row.run] for row in rows]),
                "epoch": pa.array([row.epoch for row in rows], pa.int32()),
                "source.part": pa.array([row.part for row in rows]),
                "source.row": pa.array([row.place for row in rows]),
            }
        ),
        splits={"published": published},
        varying=tuple(key for key, column in hyperparameters.items() if len(column.unique()) > 1),
        classes=wiring.layout.parameters[-1].shape[0] if wiring.network else None,
        data=data,
        architecture=name,
        notes=("published_gap is the gap as published: running training accuracy minus test accuracy",)
        if "published_gap" in metrics
        else (),
    )


def _has(dump: Any, key: str) -> bool:
    return isinstance(dump, Mapping) and dump.get(key) is not None


def _kind(value: Any) -> str:
    return value.pickled_name if isinstance(value, StandIn) else type(value).__name__


def _fields(instance: Any, *, where: str) -> dict[str, Any]:
    """Return the attributes of an instance."""
    if isinstance(instance, StandIn) and isinstance(instance.state, dict):
        return instance.state
    raise ZooError(f"{where}: a part is {_kind(instance)}; expected an instance of a data set with attributes")


def _weights(fields: Mapping[str, Any]) -> Any:
    for key in ("data", "data_in", "weights_in"):
        value = fields.get(key)
        if value is not None and (is_tensor(value) or isinstance(value, list)):
            return value
    return None


def _rows(part: str, fields: Mapping[str, Any], *, where: str) -> list[Row]:
    """Return whose each row is: from paths and epochs, or else from the labels."""
    weights = _weights(fields)
    if weights is None:
        raise ZooError(f"{where}: the {part} part has neither data nor data_in")
    count = len(weights)
    properties = fields.get("properties") or {}
    paths = fields.get("paths") or _listed(fields.get("path_list"))
    epochs = fields.get("epochs") or properties.get("training_iteration") or properties.get("epochs")
    labels = fields.get("labels_in") or fields.get("labels")
    if isinstance(labels, list) and len(labels) == count and fields.get("paths") is None:
        paths = None  # labels say more than a list of runs
    if isinstance(paths, list) and isinstance(epochs, list) and len(epochs) == count and not count % max(len(paths), 1):
        repeated = [path for path in paths for _ in range(count // len(paths))]  # a run's states follow one another
        pairs = enumerate(zip(repeated, epochs, strict=True))
        return [Row(part, _run(path), int(epoch), row) for row, (path, epoch) in pairs]
    if isinstance(labels, list) and len(labels) == count:
        rows = []
        for row, label in enumerate(labels):
            text = str(plain(label))
            if match := _LABEL.fullmatch(text):
                rows.append(Row(part, _run(match[1]), int(match[2]), row))
            elif match := _GOOGLE_LABEL.fullmatch(text):
                rows.append(Row(part, match[3], int(match[2]), row))
            else:
                raise ZooError(f"{where}: label {text[:80]!r} names no path and no epoch")
        return rows
    raise ZooError(f"{where}: the {part} part has {count} rows, but neither paths and epochs nor labels for them")


def _run(path: Any) -> str:
    """Return the name of a run: the last part of its path, since the rest is of the authors' machine."""
    return str(plain(path)).rstrip("/").rpartition("/")[2]


def _vector(fields: Mapping[str, Any], row: int, wiring: Wiring, *, where: str) -> np.ndarray:
    value = _weights(fields)[row]
    if is_tensor(value):
        vector, _ = as_float32(numbers_of(value, where=where)[0], where=where)
        if vector.shape != (wiring.layout.size,):
            raise ZooError(f"{where}: has a vector of shape {vector.shape}; expected ({wiring.layout.size},)")
        return vector
    return states.vector_of(states.tensors_of(value, where=where), wiring, where=where)


def _wiring(archive: Archive, fields: Mapping[str, Any], *, is_google: bool, where: str) -> tuple[Wiring, str]:
    """Return the architecture: from state_dicts where there are some, else from the length and the layer list."""
    first = _weights(fields)[0] if len(_weights(fields)) else None
    if first is None:
        raise ZooError(f"{where}: its training part is empty")
    base = fields.get("checkpoint_base")
    if not is_tensor(first):
        return networks.model_zoo_wiring(states.shapes_of(states.tensors_of(first, where=where)))
    size = len(numbers_of(first, where=where)[0])
    if is_google or size == 4970:
        return _google(size, where=where), "small_cnn_gap"
    if isinstance(base, Mapping):
        wiring, name = networks.model_zoo_wiring(states.shapes_of(states.tensors_of(base, where=where)))
        if wiring.layout.size == size:
            return wiring, name
    known: dict[int, tuple[registry.Architecture, tuple[int, int, int], int]] = {
        100: (registry.MLP(name="mlp", widths=(16, 5, 4), bias=False), (1, 4, 4), 4),
        2464: (registry.CNNSmall(name="cnn_small"), (1, 28, 28), 10),
        2864: (registry.CNNSmall(name="cnn_small"), (3, 28, 28), 10),
        10853: (registry.CNNLarge(name="cnn_large"), (3, 32, 32), 10),
    }
    if size in known:
        architecture, input_shape, outputs = known[size]
        network = registry.network(architecture, input_shape, outputs)
        return Wiring.of(
            network, in_order((p.name, p.shape, p.name) for p in network.layout.parameters)
        ), architecture.name
    return _indexed(archive, size, where=where), "unnamed"


def _google(size: int, *, where: str) -> Wiring:
    """Return the repackaged Small CNN Zoo: weight before bias, but kernels still (height, width, in, out)."""
    network = registry.network(_SMALL_CNN_GAP, (1, 28, 28), 10)
    if size != network.layout.size:
        raise ZooError(f"{where}: a repackaged Small CNN Zoo has {network.layout.size} parameters, this has {size}")
    sources = []
    for parameter in network.layout.parameters:
        axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[len(parameter.shape)]
        shape = tuple(parameter.shape[axes.index(axis)] for axis in range(len(axes)))
        sources.append(Source(parameter.name, parameter.start, shape, axes, parameter.name))
    return Wiring.of(network, sources)


def _indexed(archive: Archive, size: int, *, where: str) -> Wiring:
    """Return a layout from the index_dict.json beside the dump: a weight and a bias a layer; or one nameless vector."""
    parameters: list[Parameter] = []
    for member in archive.named("index_dict.json")[:1]:
        try:
            content = json.loads(archive.read(member))
            rows = zip(
                content["layer"], content["idx_length"], content["kernel_no"], content["channels_in"], strict=True
            )
            for (index, kind), length, outputs, inputs in rows:
                side = round((content["kernel_size"][len(parameters) // 2]) ** 0.5)
                shape = (outputs, inputs, side, side) if kind == "conv2d" else (outputs, inputs)
                start = parameters[-1].stop if parameters else 0
                parameters.append(Parameter(f"layer{index}", "weight", shape, start))
                if parameters[-1].size + outputs == length:
                    parameters.append(Parameter(f"layer{index}", "bias", (outputs,), parameters[-1].stop))
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise ZooError(f"{archive.where(member)}: cannot be read as an index of layers ({error!r})") from None
    if not parameters or parameters[-1].stop != size:
        parameters = [Parameter("vector", "weight", (size,), 0)]
    sources = in_order((p.name, p.shape, p.name) for p in parameters)
    return Wiring(ParameterLayout(tuple(parameters)), sources)


def _properties(
    rows: list[Row], properties: Mapping[str, Mapping[str, Any]], row_of: np.ndarray
) -> tuple[dict[str, pa.Array], dict[str, np.ndarray]]:
    """Return the properties as columns of models, where a model has one value, and as metrics (model, checkpoint).

    What pandas pickled stays a stand-in, and is left out: the same columns are in the original archives.
    """
    metrics: dict[str, np.ndarray] = {}
    values_of: list[dict[str, Any]] = [{} for _ in range(len(row_of))]
    names = dict.fromkeys(name for fields in properties.values() if isinstance(fields, Mapping) for name in fields)
    for name in names:
        if name in ("training_iteration", "epochs"):
            continue
        columns = {
            part: _listed(fields.get(name)) for part, fields in properties.items() if isinstance(fields, Mapping)
        }
        for model, checkpoint in np.argwhere(row_of >= 0):
            row = rows[row_of[model, checkpoint]]
            column = columns.get(row.part)
            if column is None or row.place >= len(column):
                continue
            value = column[row.place]
            if name in _METRICS:
                metrics.setdefault(_METRICS[name], np.full(row_of.shape, np.nan, dtype=np.float32))
                if isinstance(value, int | float) and value != tables.SENTINEL:
                    metrics[_METRICS[name]][model, checkpoint] = value
            elif isinstance(value, int | float | str | bool):
                ours = _OURS.get(name, name)
                values_of[model][ours] = networks.activation(value) if ours == "activation" else value
    return tables.columns_of(values_of), metrics


def _listed(value: Any) -> list[Any] | None:
    if is_tensor(value):
        return array_of(value, where="properties").tolist()
    return list(value) if isinstance(value, list | tuple) and not isinstance(value, StandIn) else None
