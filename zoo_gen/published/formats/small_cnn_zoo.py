"""The Small CNN Zoo (Unterthiner et al., 2020): weights.npy, metrics.csv[.gz] and layout.csv.

A row of the weights is a checkpoint, joined to the metrics by position alone. The order of rows, the steps and the
order of columns are read, never assumed; `modeldir` names the run, since the seed is the same for all.
"""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zoo_gen.architecture import registry
from zoo_gen.errors import ZooError
from zoo_gen.published import splits
from zoo_gen.published.archives.archive import Archive, only
from zoo_gen.published.formats import images, tables
from zoo_gen.published.reading import Reading, Request, Source, Wiring, layout_of
from zoo_gen.published.splits import SplitTable

# The publication's names of what has another name here.
_OURS = {
    "l2reg": "l2",
    "random_seed": "seed",
    "w_init": "initialization",
    "init_std": "initialization_deviation",
}
_NETWORK = registry.SmallCNNGap(name="small_cnn_gap")
_METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


def read(archive: Archive, request: Request) -> Reading:
    """Return what the archive holds."""
    weights_name = only(archive, archive.named("weights.npy"), "weights.npy")
    folder = weights_name.removesuffix("weights.npy")
    metrics_name = only(
        archive, [n for n in ("metrics.csv.gz", "metrics.csv") if folder + n in archive.members][:1], "metrics.csv.gz"
    )
    layout_name = only(archive, archive.named("layout.csv"), "layout.csv")
    weights = archive.rows(weights_name, request.scratch)
    where = archive.where(folder + metrics_name)
    rows = tables.read_csv(archive, folder + metrics_name)
    tables.needed(rows, ("modeldir", "step"), where=where)
    if weights.ndim != 2 or len(weights) != len(rows):
        raise ZooError(
            f"{archive.where(weights_name)}: has shape {weights.shape}; expected {len(rows):,} rows, one a row of "
            f"{metrics_name}"
        )
    step = tables.whole(rows, "step", where=where)
    runs = rows["modeldir"].cast(pa.string())
    if runs.null_count:
        raise ZooError(f"{where}: a row has no modeldir, which names its run")
    encoded = runs.combine_chunks().dictionary_encode()  # numbered by first appearance, as pandas' unique does
    model, n_models = encoded.indices.to_numpy().astype(np.int64), len(encoded.dictionary)
    epochs = np.unique(step)
    checkpoint = np.searchsorted(epochs, step)
    source_row = np.full((n_models, len(epochs)), -1, dtype=np.int64)
    twice = len(step) - len(np.unique(model * len(epochs) + checkpoint))
    if twice:
        raise ZooError(f"{where}: {twice:,} rows repeat the modeldir and the step of another row")
    source_row[model, checkpoint] = np.arange(len(step))

    first = tables.first_of_groups(model, n_models)
    hyperparameters = _hyperparameters(rows, first)
    dataset = images.dataset_of(request.data or _one(rows, "config.dataset") or archive.path.name)
    wiring = _wiring(archive, layout_name, weights.shape[1], dataset)
    metrics = {
        name: _grid(tables.numbers(rows, name, where=where), model, checkpoint, source_row.shape)
        for name in _METRICS
        if name in rows.column_names
    }
    columns: dict[str, Any] = {
        "model": pa.array(model),
        "epoch": pa.array(step.astype(np.int32)),
        "source_row": pa.array(np.arange(len(step))),
        **{f"source.{name}": rows[name].combine_chunks() for name in rows.column_names},
    }

    def weights_of(number: int, checkpoints: np.ndarray) -> np.ndarray:
        return np.asarray(weights[source_row[number, checkpoints]])

    return Reading(
        name=_one(rows, "config.dataset") or "small_cnn_zoo",
        wirings=(wiring,),
        wiring_of_model=np.zeros(n_models, dtype=np.int64),
        models=pa.table({"run": encoded.dictionary, **hyperparameters}),
        epochs=epochs.astype(np.int32),
        present=source_row >= 0,
        metrics=metrics,
        read=weights_of,
        states=pa.table(columns),
        splits=_splits(archive, request, step, model, n_models, hyperparameters),
        varying=tuple(name for name, column in hyperparameters.items() if len(column.unique()) > 1),
        classes=wiring.layout.parameters[-1].shape[0],
        data=images.small_cnn_zoo(dataset),
        architecture="small_cnn_gap" if wiring.network else "cnn",
        notes=("metrics and weights of a step are those before that epoch was trained; step 0 is the initial state",),
    )


def _hyperparameters(rows: pa.Table, first: np.ndarray) -> dict[str, pa.Array]:
    """Return the columns of the configuration, a value a model, under our names where there is one."""
    columns = {}
    for name in rows.column_names:
        if name.startswith("config."):
            plain = name.removeprefix("config.")
            columns[_OURS.get(plain, plain)] = rows[name].combine_chunks().take(pa.array(first))
    if "activation" in columns and pa.types.is_string(columns["activation"].type):
        columns["activation"] = pc.utf8_lower(columns["activation"])
    return columns


def _wiring(archive: Archive, name: str, n_columns: int, dataset: str | None) -> Wiring:
    """Return the layout of the file and the way from its order (bias first, HWIO kernels, (in, out)) to torch's."""
    table = tables.read_csv(archive, name)
    where = archive.where(name)
    tables.needed(table, ("varname", "start_idx", "end_idx", "shape"), where=where)
    rows = []
    for row in table.to_pylist():
        try:
            shape = ast.literal_eval(str(row["shape"]))
            shape = tuple(int(length) for length in (shape if isinstance(shape, tuple | list) else (shape,)))
            start, stop = int(row["start_idx"]), int(row["end_idx"])
        except (ValueError, SyntaxError, TypeError):
            raise ZooError(
                f"{where}: {row} is no row of a layout; expected varname, start_idx, end_idx, shape"
            ) from None
        parts = str(row["varname"]).removesuffix(":0").split("/")
        if len(parts) < 2 or parts[-1] not in ("bias", "kernel") or int(np.prod(shape)) != stop - start:
            raise ZooError(f"{where}: {row['varname']} from {start} to {stop} of shape {shape} is no bias or kernel")
        rows.append(("/".join(parts[:-1]), parts[-1], start, shape))
    if sum(int(np.prod(shape)) for *_, shape in rows) != n_columns:
        raise ZooError(f"{where}: describes other than the {n_columns:,} columns of weights.npy")
    layers = list(dict.fromkeys(layer for layer, *_ in sorted(rows, key=lambda row: row[2])))
    kernels = {layer: shape for layer, role, _, shape in rows if role == "kernel"}
    named = _names(layers, kernels)
    sources = []
    for layer, role, start, shape in rows:
        axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}.get(len(shape))
        if axes is None or (role == "bias") != (len(shape) == 1):
            raise ZooError(f"{where}: {layer}/{role} has shape {shape}; expected a kernel of 2 or 4 axes or a bias")
        role_here = "bias" if role == "bias" else "weight"
        sources.append(Source(f"{layer}/{role}", start, shape, axes, f"{named[layer]}.{role_here}"))
    channels = next(iter(kernels.values()))[-2] if kernels else 0
    side = 32 if dataset in ("CIFAR10", "SVHN", None) else 28
    n_classes = kernels[layers[-1]][-1] if layers and layers[-1] in kernels else 0
    if n_classes:
        network = registry.network(_NETWORK, (channels, side, side), n_classes)
        shapes = {source.parameter: tuple(source.shape[axis] for axis in source.axes) for source in sources}
        if shapes == {parameter.name: parameter.shape for parameter in network.layout.parameters}:
            return Wiring.of(network, sources)
    return Wiring(layout_of(sources), tuple(sources))


def _names(layers: list[str], kernels: dict[str, tuple[int, ...]]) -> dict[str, str]:
    """Return our names of the layers: counted by kind, in the order of the file."""
    names, counts = {}, {"convolution": 0, "linear": 0}
    for layer in layers:
        kind = "convolution" if len(kernels.get(layer, ())) == 4 else "linear"
        counts[kind] += 1
        names[layer] = f"{kind}{counts[kind]}"
    return names


def _grid(values: np.ndarray, model: np.ndarray, checkpoint: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    grid = np.full(shape, np.nan, dtype=np.float32)
    grid[model, checkpoint] = values
    return grid


def _one(rows: pa.Table, name: str) -> str | None:
    """Return the one value of a column, or None where there is no column or more than one value."""
    values = rows[name].unique().to_pylist() if name in rows.column_names else []
    return str(values[0]) if len(values) == 1 and values[0] is not None else None


def _splits(
    archive: Archive,
    request: Request,
    step: np.ndarray,
    model: np.ndarray,
    n_models: int,
    hyperparameters: dict[str, pa.Array],
) -> dict[str, SplitTable]:
    split_tables = {}
    files: dict[str, Path] = dict(request.splits)
    for name in archive.named("*_split.csv") if archive.kind == "folder" else []:
        files.setdefault("nfn", archive.file_of(name))
    for name, path in files.items():
        split_tables[name] = splits.nfn(path, step, model)
        activations = hyperparameters["activation"].to_pylist() if "activation" in hyperparameters else []
        for activation in sorted(set(activations)):
            label = "scalegmn" if name == "nfn" else f"scalegmn_{name}"
            split_tables[f"{label}_{activation}"] = splits.of_activation(split_tables[name], activations, activation)
    how = "runs in order of first appearance, random.seed(42), shuffled, 70/15/15"
    split_tables["hyper_representations"] = splits.run_wise(n_models, how=how)
    return split_tables
