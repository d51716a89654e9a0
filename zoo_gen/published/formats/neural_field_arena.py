"""Neural Field Arena (Papa et al., 2024): <name>_<start>-<end>.hdf5 with params (model, parameter) and labels.

The order of the numbers is a JSON list of (key, shape), in a dataset `param_config` or in a file; flax keeps matrices
as (in, out) and the list has biases before kernels.
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zoo_gen.architecture.layers import Layer
from zoo_gen.architecture.network import Network
from zoo_gen.errors import ZooError, needing, one_line
from zoo_gen.published import splits
from zoo_gen.published.archives.archive import Archive
from zoo_gen.published.formats import images, networks
from zoo_gen.published.reading import Reading, Request, Source, Wiring, in_order, layout_of

_SHARD = re.compile(r"(.*)_(\d+)-(\d+)\.(?:hdf5|h5)")
_MOST_CONFIG = 2**20
_OMEGA = 30.0  # what our sine activation is


def read(archive: Archive, request: Request) -> Reading:
    """Return what the archive holds."""
    shards = [(match, name) for name in archive.members if (match := _SHARD.fullmatch(name.rpartition("/")[2]))]
    if not shards:
        raise ZooError(f"{archive.path}: holds no <name>_<start>-<end>.hdf5")
    shards.sort(key=lambda pair: (int(pair[0][2]), pair[1]))
    names = [name for _, name in shards]
    paths = [archive.on_disk(name, request.scratch) for name in names]
    opened = [request.enter(_open(path, archive.where(name))) for path, name in zip(paths, names, strict=True)]
    arrays = [_dataset(file, "params", archive.where(name)) for file, name in zip(opened, names, strict=True)]
    size = arrays[0].shape[1]
    for array, name in zip(arrays, names, strict=True):
        if array.shape[1:] != (size,):
            raise ZooError(f"{archive.where(name)}: params have shape {array.shape}; expected (model, {size})")
    starts = np.cumsum([0, *(len(array) for array in arrays)])
    config = _config(archive, opened[0])
    wiring = _wiring(config, size, _nef(archive), where=archive.where(names[0]))
    labels = [_labels(file) for file in opened]
    columns: dict[str, Any] = {}
    if all(label is not None for label in labels):
        values = np.concatenate([label for label in labels if label is not None])
        columns["label"] = pa.array(values)
    n_models = int(starts[-1])
    dataset = images.dataset_of(request.data or archive.path.name) or images.dataset_of(names[0])

    def weights_of(model: int, checkpoints: np.ndarray) -> np.ndarray:
        shard = int(np.searchsorted(starts, model, side="right")) - 1
        return np.asarray(arrays[shard][model - starts[shard]])[None]

    runs = [
        f"{name.rpartition('/')[2]}#{row}"
        for name, array in zip(names, arrays, strict=True)
        for row in range(len(array))
    ]
    tables = request.split_files({run: model for model, run in enumerate(runs)})
    how = "seed 42, shuffled, 70/15/15; the publication takes fractions of the models in order"
    tables["fractions"] = splits.table(
        range(int(0.7 * n_models)),
        range(int(0.7 * n_models), int(0.85 * n_models)),
        range(int(0.85 * n_models), n_models),
        how="models in order, fractions 0.7 and 0.85",
    )
    tables["run_wise"] = splits.run_wise(n_models, how=how)
    return Reading(
        name=shards[0][0][1] if shards[0][0][1] != "nefs" else archive.path.name.split(".")[0],
        wirings=(wiring,),
        wiring_of_model=np.zeros(n_models, dtype=np.int64),
        models=pa.table({"run": pa.array(runs), **columns}),
        epochs=np.array([1], dtype=np.int32),
        present=np.ones((n_models, 1), dtype=bool),
        metrics={},
        read=weights_of,
        splits=tables,
        varying=("label",) if "label" in columns else (),
        data=images.of_fields(dataset),
        epoch_means="state",
        architecture="siren" if wiring.network else "neural_field",
    )


def _open(path: Path, where: str) -> Any:
    with needing("neural_field_arena", extra="convert"):
        import h5py
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ZooError(f"{where}: cannot be read as HDF5 ({one_line(error)})") from None


def _dataset(file: Any, name: str, where: str) -> Any:
    """Return a dataset of the file itself: links to other files are not followed."""
    import h5py

    if name not in file or not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ZooError(f"{where}: has no dataset {name} of its own; it has {', '.join(list(file)[:10])}")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise ZooError(f"{where}: {name} is no array of this file")
    if dataset.dtype.kind not in "fiu" or dataset.ndim < 1:
        raise ZooError(f"{where}: {name} holds {dataset.dtype}; expected numbers")
    return dataset


def _labels(file: Any) -> np.ndarray | None:
    if "labels" not in file:
        return None
    labels = np.asarray(_dataset(file, "labels", str(file.filename))[:])
    if labels.ndim == 1:
        return labels
    return labels.argmax(axis=1) if labels.ndim == 2 and labels.shape[1] > 1 else labels[:, 0]


def _config(archive: Archive, file: Any) -> list[tuple[str, tuple[int, ...]]] | None:
    """Return the list of (key, shape): from the shard, or from a JSON file of such a list in the archive."""
    texts: list[str | bytes] = []
    if "param_config" in file:
        value = np.asarray(file["param_config"][()]).reshape(-1)
        texts += [value[0]] if len(value) else []
    texts += [archive.read(name) for name in archive.named("*.json") if archive.members[name].size < _MOST_CONFIG]
    for text in texts:
        try:
            rows = [(str(key), tuple(int(length) for length in shape)) for key, shape in json.loads(text)]
        except (ValueError, TypeError, RecursionError):
            continue
        if rows:
            return rows
    return None


def _nef(archive: Archive) -> dict[str, Any]:
    """Return the configuration of the network, if there is one."""
    for name in archive.named("nef.json", "nef_cfg.json"):
        try:
            content = json.loads(archive.read(name, most=_MOST_CONFIG))
        except (ValueError, RecursionError):
            continue
        if isinstance(content, dict):
            return content
    return {}


def _wiring(config: list[tuple[str, tuple[int, ...]]] | None, size: int, nef: dict[str, Any], *, where: str) -> Wiring:
    if config is None:
        whole = in_order([("params", (size,), "params.weight")])
        return Wiring(layout_of(whole), whole)
    modules = list(dict.fromkeys(key.rpartition(".")[0] for key, _ in config))
    modules.sort(key=lambda module: module.startswith("output"))  # the output is sorted to its place by its name alone
    linear_of = {module: f"linear{number + 1}" for number, module in enumerate(modules)}
    parts = ((key, shape, key.rpartition(".")) for key, shape in config)
    in_flax = in_order(
        (key, shape, f"{linear_of[module]}.{'weight' if role == 'kernel' else role}")
        for key, shape, (module, _, role) in parts
    )
    sources = [replace(each, axes=(1, 0)) if len(each.shape) == 2 else each for each in in_flax]
    if sources[-1].stop != size:
        raise ZooError(f"{where}: its param_config describes {sources[-1].stop:,} numbers; params have {size:,}")
    layers = _layers(sources, nef)
    if layers is None:
        return Wiring(layout_of(sources), tuple(sources))
    return Wiring.of(Network(tuple(layers), (layers[0].inputs,)), sources)  # type: ignore[union-attr]


def _layers(sources: list[Source], nef: dict[str, Any]) -> list[Layer] | None:
    """Return the layers of a SIREN whose frequency is ours; other fields keep their parameters only."""
    omega = (nef.get("params") or {}).get("omega_0")
    if str(nef.get("name", "")).upper() != "SIREN" or omega is None or float(omega) != _OMEGA:
        return None
    kernels = {source.parameter: source.shape for source in sources if source.parameter.endswith(".weight")}
    return networks.siren_layers([kernels[f"linear{number}.weight"] for number in range(1, len(kernels) + 1)])
