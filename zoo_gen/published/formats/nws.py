"""NWS (Eilertsen et al., ECAI 2020): a folder a run, snapshots as float64 without a header, and CSVs of the runs.

Numbers lie in the order in which TensorFlow made its variables: kernel, bias and, inline, beta, gamma, moving mean and
moving variance of a batch normalisation. Kernels are written channel by channel, which is torch's order already.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from zoo_gen.architecture.layers import Activate, Convolution, Flatten, Layer, Linear, Normalization, Pooling
from zoo_gen.architecture.network import Network
from zoo_gen.errors import ZooError
from zoo_gen.published import splits
from zoo_gen.published.archives.archive import Archive
from zoo_gen.published.archives.names import by_longest_end, path_ends
from zoo_gen.published.formats import images, networks, states, tables
from zoo_gen.published.reading import Reading, Request, Wiring, in_order
from zoo_gen.published.splits import SplitTable

SNAPSHOTS = 20
_ENUMS = {
    "optimizer": ("adam", "rmsprop", "momentum"),
    "activation": ("relu", "elu", "sigmoid", "tanh"),
    "initialization": ("constant", "normal", "glorot_uniform", "glorot_normal"),
}
_OURS = {"lrate": "learning_rate"}
_META = (
    "dataset",
    "lrate",
    "batch_size",
    "batch_norm",
    "augmentation",
    "optimizer",
    "activation",
    "initialization",
    "filter_size",
    "depth_conv",
    "depth_fc",
    "width_conv",
    "width_fc",
)
_BLOCKS, _OUTPUTS, _SIDE, _EPSILON = 3, 20, 32, 1e-5
_ERRORS = {"train": 1, "validation": 2, "test": 3}  # columns of error.bin: per cent wrong


def read(archive: Archive, request: Request) -> Reading:
    """Return what the archive holds."""
    rows, part_of_run = _runs(archive)
    runs = list(rows)
    members = {run: _snapshots(archive, run) for run in runs}
    snapshots = np.array(sorted({number for files in members.values() for number in files}), dtype=np.int32)
    if not len(snapshots):
        raise ZooError(f"{archive.path}: holds no weights/NNN.bin")
    present = np.array([[int(number) in members[run] for number in snapshots] for run in runs], dtype=bool)
    architectures = states.Architectures()
    wiring_of_model = np.zeros(len(runs), dtype=np.int64)
    metrics = {f"{part}_accuracy": np.full(present.shape, np.nan, dtype=np.float32) for part in _ERRORS}
    facts: list[dict[str, Any]] = []
    for model, run in enumerate(runs):
        row = rows[run]
        key = tuple(row[name] for name in ("batch_norm", "activation", *_META[8:]))
        number = architectures.number(key, partial(_wiring, row, where=archive.where(run)))
        wiring_of_model[model] = number
        _check(archive, run, row, architectures.wirings[number], members[run])
        facts += _metrics(archive, run, model, snapshots, present[model], metrics)
    hyperparameters = tables.columns_of(list(map(_hyperparameters, rows.values())))
    datasets = {str(row["dataset"]) for row in rows.values()}
    dataset = images.dataset_of(request.data or (datasets.pop() if len(datasets) == 1 else None))

    def weights_of(model: int, checkpoints: np.ndarray) -> np.ndarray:
        files = members[runs[model]]
        return np.stack(
            [np.frombuffer(archive.read(files[int(snapshots[column])]), dtype="<f8") for column in checkpoints]
        ).reshape(len(checkpoints), -1)

    by_column = tables.columns_of(facts) if facts else {}
    return Reading(
        name=archive.path.name.split(".")[0],
        wirings=tuple(architectures.wirings),
        wiring_of_model=wiring_of_model,
        models=pa.table({"run": pa.array(runs), **hyperparameters}),
        epochs=snapshots,
        present=present,
        metrics={name: values for name, values in metrics.items() if np.isfinite(values).any()},
        read=weights_of,
        states=pa.table({**by_column, "epoch": by_column["epoch"].cast(pa.int32())}) if facts else None,
        splits=_splits(request, runs, part_of_run),
        varying=tuple(name for name, column in hyperparameters.items() if len(column.unique()) > 1),
        classes=None if dataset is None else 10,
        data=images.scaled(dataset, size=_SIDE),
        epoch_means="snapshot",
        architecture="nws_cnn",
        exact=True,
        recomputable=False,
        notes=(
            "accuracies were measured with the statistics of each batch and, where augmentation is true, on altered "
            "images, so that weights alone do not give them again",
            "epochs are snapshots 1 to 20 of a run, evenly spaced over its epochs; states.parquet has their steps",
            "accuracies are 1 - error / 100; the last layer has 20 outputs whatever the number of classes",
            "networks flatten their images position by position, as TensorFlow does; grey images are given three times",
        ),
    )


def _runs(archive: Archive) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return the configuration of each run by its folder, and the part of those that a CSV lists.

    Runs that did not converge have a folder and no row; they keep their place, after the listed ones.
    """
    rows: dict[str, dict[str, Any]] = {}
    part_of: dict[str, str] = {}
    folders = {name.rpartition("/weights/")[0] for name in archive.named("weights/*.bin")}
    ends = path_ends({folder: folder for folder in folders})
    for member in sorted(archive.named("*.csv"), key=lambda name: ("test" in name.rpartition("/")[2], name)):
        table = None if member.endswith("meta.csv") else tables.read_csv(archive, member)
        if table is None or "path" not in table.column_names:
            continue
        file_name = member.rpartition("/")[2]
        part = next((each for each in ("train", "test") if each in file_name), "")
        for row in table.to_pylist():
            folder = by_longest_end(str(row["path"]).strip("/"), ends)
            if folder is None:
                raise ZooError(f"{archive.where(member)}: lists {row['path']}, which the archive does not have")
            if folder in rows:
                raise ZooError(f"{archive.where(member)}: lists {row['path']}, which another row lists too")
            rows[folder] = row
            if part:
                part_of[folder] = part
    for folder in sorted(folders - set(rows)):
        member = f"{folder}/meta.csv" if folder else "meta.csv"
        if member in archive.members:
            rows[folder] = tables.read_csv(archive, member).to_pylist()[0]
    for folder, row in rows.items():
        lacking = [name for name in _META if row.get(name) is None]
        if lacking:
            raise ZooError(f"{archive.where(folder)}: its row has no {lacking[0]}; expected {', '.join(_META)}")
    if not rows:
        raise ZooError(f"{archive.path}: holds neither a CSV with the paths of runs nor a meta.csv in their folders")
    return rows, part_of


def _snapshots(archive: Archive, run: str) -> dict[int, str]:
    prefix = f"{run}/weights/" if run else "weights/"
    names = (f"{prefix}{number:03d}.bin" for number in range(1, SNAPSHOTS + 1))
    return {number: name for number, name in enumerate(names, start=1) if name in archive.members}


def _wiring(row: Mapping[str, Any], *, where: str) -> Wiring:
    """Return the architecture that a configuration describes (public code, model.deepnn), and the order of its numbers.

    Convolutions come in three blocks, each ended by pooling; their width doubles from block to block, that of the
    linear layers halves from layer to layer. Convolutions are normalised before the activation, linear layers after.
    """
    has_norm = str(row["batch_norm"]).lower() in ("1", "true")
    function: Any = _named("activation", row["activation"], where=where)
    kernel, depth, n_linear = (int(row[name]) for name in ("filter_size", "depth_conv", "depth_fc"))
    width, units = int(row["width_conv"]), int(row["width_fc"])
    counts = [depth // _BLOCKS] * _BLOCKS
    for block in range(_BLOCKS - 1, 0, -1):  # what is left over goes to the last blocks
        counts[block] += sum(counts) < depth
    layers: list[Layer] = []

    inputs, number = 3, 0
    for block, count in enumerate(counts):
        outputs = width * 2**block
        for _ in range(count):
            number += 1
            layers.append(Convolution(f"convolution{number}", inputs, outputs, kernel, 1, kernel // 2, bias=True))
            layers += [Normalization(f"normalization{number}", outputs, _EPSILON)] if has_norm else []
            layers.append(Activate(f"activation{number}", function))
            inputs = outputs
        layers.append(Pooling(f"pooling{block + 1}", "max", 2, 2))
    layers.append(Flatten("flatten1", channels_last=True))
    inputs *= (_SIDE // 2**_BLOCKS) ** 2
    for index in range(n_linear):
        outputs = int(units * 2.0**-index)
        layers.append(Linear(f"linear{index + 1}", inputs, outputs, bias=True))
        layers.append(Activate(f"activation{number + index + 1}", function))
        layers += [Normalization(f"normalization{number + index + 1}", outputs, _EPSILON)] if has_norm else []
        inputs = outputs
    layers.append(Linear(f"linear{n_linear + 1}", inputs, _OUTPUTS, bias=True))
    network = Network(tuple(layers), (3, _SIDE, _SIDE))
    shapes = {parameter.name: parameter.shape for parameter in network.layout.parameters}
    names: list[str] = []
    for layer in layers:
        if isinstance(layer, Normalization):  # beta, gamma, moving mean, moving variance
            names += [f"{layer.name}.{role}" for role in ("bias", "weight", "running_mean", "running_var")]
        elif isinstance(layer, Convolution | Linear):
            names += [f"{layer.name}.{role}" for role in ("weight", "bias")]
    return Wiring.of(network, in_order((name, shapes[name], name) for name in names))


def _named(name: str, value: Any, *, where: str) -> str:
    """Return the name that a number of an enumeration stands for; one that is a name already stays."""
    known = _ENUMS[name]
    if isinstance(value, str) and not value.strip().lstrip("-").isdigit():
        return networks.activation(value) or value
    if not 0 <= int(value) < len(known):
        raise ZooError(f"{where}: {name} is {value}; expected 0 to {len(known) - 1}")
    return known[int(value)]


def _hyperparameters(row: Mapping[str, Any]) -> dict[str, Any]:
    columns = {_OURS.get(key, key): value for key, value in row.items() if key != "path"}
    for name in _ENUMS:
        columns[name] = _named(name, row[name], where="configuration")
    for name in ("batch_norm", "augmentation"):
        columns[name] = str(row[name]).lower() in ("1", "true")
    return columns


def _check(archive: Archive, run: str, row: Mapping[str, Any], wiring: Wiring, files: Mapping[int, str]) -> None:
    """Compare the sizes that the CSV, the files and the architecture give."""
    size = wiring.layout.size
    if row.get("weightn_conv") is not None and row.get("weightn_fc") is not None:
        listed = int(row["weightn_conv"]) + int(row["weightn_fc"])
        if listed != size:
            raise ZooError(f"{archive.where(run)}: is listed with {listed:,} weights; its architecture has {size:,}")
    for name in files.values():
        if archive.members[name].size != 8 * size:
            n_bytes = archive.members[name].size
            raise ZooError(
                f"{archive.where(name)}: has {n_bytes:,} bytes; expected {8 * size:,}, {size:,} float64 numbers"
            )


def _metrics(
    archive: Archive,
    run: str,
    model: int,
    snapshots: np.ndarray,
    present: np.ndarray,
    metrics: Mapping[str, np.ndarray],
) -> list[dict[str, Any]]:
    """Fill in the accuracies of a run's snapshots; return the rows of its table of states.

    Snapshot k is the row round(linspace(0, n - 1, 20))[k - 1] of the n epochs in error.bin.
    """
    name = f"{run}/error.bin" if run else "error.bin"
    facts: list[dict[str, Any]] = []
    if name not in archive.members:
        return [{"model": model, "epoch": int(number)} for number in snapshots[present]]
    content = archive.read(name)
    if len(content) % 40:
        raise ZooError(f"{archive.where(name)}: has {len(content)} bytes; expected rows of five float64 numbers")
    errors = np.frombuffer(content, dtype="<f8").reshape(-1, 5)
    count = len(errors)
    stat = f"{run}/stat.bin" if run else "stat.bin"
    if stat in archive.members:
        counted = np.frombuffer(archive.read(stat)[:8], dtype="<f8")
        count = min(count, int(counted[0])) if len(counted) else count
    rows_of_snapshots = np.round(np.linspace(0, count - 1, SNAPSHOTS)).astype(np.int64)
    for column in np.flatnonzero(present):
        row = errors[rows_of_snapshots[snapshots[column] - 1]]
        for part, position in _ERRORS.items():
            metrics[f"{part}_accuracy"][model, column] = 1.0 - row[position] / 100.0
        named = ("step", "train_error", "validation_error", "test_error", "smoothed_validation_error")
        values = {f"source.{key}": float(value) for key, value in zip(named, row, strict=True)}
        facts.append({"model": model, "epoch": int(snapshots[column]), **values})
    return facts


def _splits(request: Request, runs: list[str], part_of: Mapping[str, str]) -> dict[str, SplitTable]:
    numbered = {run: model for model, run in enumerate(runs)}
    split_tables = request.split_files(numbered)
    by_model = {numbered[run]: part_of[run] for run in runs if run in part_of}
    if by_model:
        split_tables["published"] = splits.of_parts(by_model, how="the CSVs of training and test runs")
    return split_tables
