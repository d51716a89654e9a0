"""Times the store's writing and reading against three other ways to keep the same weights, in one run.

Run it with `make benchmark`, or: python tests/benchmarks/store.py [--models N] [--repeat N]

A zoo of 2,485-parameter models with 51 checkpoints; weights are random walks, which hardly compress. The other ways are
one .pt file a checkpoint, one .safetensors file a model, and one .npy file of all. Everything is read from the
operating system's cache; times are the least of several. The store also writes its metrics, its table and a digest a
model, and waits until the disk has them; the others do not.
"""

import argparse
import importlib.util
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
import zarr

from zoo_gen import open_zoo, read_manifest
from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.store import Extent, Store, untrained

TEXT = """
name = "speed"
[data]
source = "digits"
[architecture]
name = "mlp"
widths = [64, 33, 10]
[training]
epochs = 50
batch_size = 32
optimizer = "adam"
learning_rate = 1e-3
activation = "relu"
initialization = "kaiming_uniform"
[axes]
product.seed = {{ range = [1, {models}] }}
[storage]
models_per_shard = 128
"""


@dataclass(frozen=True)
class Way:
    """How weights (model, checkpoint, parameter) are kept in a folder."""

    write: Callable[[Path, np.ndarray], None] | None  # none: what the way before has written is read
    read: Callable[[Path, range], np.ndarray]  # all of these models
    trajectory: Callable[[Path], Callable[[int], np.ndarray]]  # one model, from what is opened once


def store_way(manifest_path: Path, *, zarrs: bool, writes: bool) -> Way:
    def opened(folder: Path):
        with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"} if zarrs else {}):
            return open_zoo(folder).weights

    def write(folder: Path, weights: np.ndarray) -> None:
        manifest = read_manifest(manifest_path)
        extent = Extent.of(manifest)
        arrays = {n: np.zeros(shape, np.float32) for n, shape in extent.arrays().items()} | {"weights": weights}
        store = Store.create(folder, untrained(manifest, data_sha256="", device="cpu"))
        for shard in range(extent.n_shards):
            models = extent.models(shard)
            store.write_shard(shard, {array: values[models] for array, values in arrays.items()}, device="cpu")

    def trajectory(folder: Path) -> Callable[[int], np.ndarray]:
        weights = opened(folder)
        return lambda model: weights[model]

    return Way(write if writes else None, lambda folder, models: opened(folder)[models.start : models.stop], trajectory)


def pt_way(layout: ParameterLayout) -> Way:
    def write(folder: Path, weights: np.ndarray) -> None:
        for model, checkpoints in enumerate(weights):
            (folder / str(model)).mkdir(parents=True)
            for checkpoint, values in enumerate(checkpoints):
                tensors = {name: torch.from_numpy(array) for name, array in layout.split(values).items()}
                # Cloned, as the parameters of a module are: a view would save the whole array with it.
                state = {name: tensor.clone() for name, tensor in tensors.items()}
                torch.save(state, folder / str(model) / f"{checkpoint}.pt")

    def one(folder: Path, model: int) -> np.ndarray:
        checkpoints = range(len(list((folder / str(model)).iterdir())))
        states = (torch.load(folder / str(model) / f"{checkpoint}.pt") for checkpoint in checkpoints)
        return np.stack([torch.cat([tensor.flatten() for tensor in state.values()]).numpy() for state in states])

    return Way(write, lambda f, models: np.stack([one(f, m) for m in models]), lambda f: lambda m: one(f, m))


def safetensors_way(layout: ParameterLayout) -> Way:
    def write(folder: Path, weights: np.ndarray) -> None:
        folder.mkdir()
        for model, checkpoints in enumerate(weights):
            tensors = {name: np.ascontiguousarray(array) for name, array in layout.split(checkpoints).items()}
            safetensors.numpy.save_file(tensors, folder / f"{model}.safetensors")

    def one(folder: Path, model: int) -> np.ndarray:
        tensors = safetensors.numpy.load_file(folder / f"{model}.safetensors")
        arrays = (tensors[parameter.name] for parameter in layout.parameters)
        return np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)

    return Way(write, lambda f, models: np.stack([one(f, m) for m in models]), lambda f: lambda m: one(f, m))


def npy_way() -> Way:
    def write(folder: Path, weights: np.ndarray) -> None:
        folder.mkdir()
        np.save(folder / "weights.npy", weights)

    def trajectory(folder: Path) -> Callable[[int], np.ndarray]:
        mapped = np.load(folder / "weights.npy", mmap_mode="r")
        return lambda model: np.array(mapped[model])

    return Way(write, lambda f, models: np.load(f / "weights.npy")[models.start : models.stop], trajectory)


def measure(way: Way, folder: Path, weights: np.ndarray, *, repeat: int) -> dict[str, float]:
    """Return MB/s, ms and sizes of one way; what it reads is compared with what was written."""
    n_models, megabytes = len(weights), weights.nbytes / 1e6
    measured: dict[str, float] = {"write, MB/s": float("nan")}
    if way.write:
        seconds = []
        for _ in range(repeat):
            shutil.rmtree(folder, ignore_errors=True)
            seconds.append(timed(way.write, folder, weights))
        measured["write, MB/s"] = megabytes / min(seconds)
    assert np.array_equal(way.read(folder, range(n_models)), weights)
    measured["read all, MB/s"] = megabytes / min(timed(way.read, folder, range(n_models)) for _ in range(repeat))
    one, chosen = way.trajectory(folder), np.random.RandomState(1).randint(n_models, size=50).tolist()
    assert np.array_equal(one(chosen[0]), weights[chosen[0]])
    measured["one trajectory, ms"] = 1e3 * float(np.median([timed(one, model) for model in chosen]))
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return {**measured, "on disk, MB": sum(sizes) / 1e6, "files": len(sizes)}


def timed(action: Callable[..., object], *arguments: object) -> float:
    began = time.perf_counter()
    action(*arguments)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    random = np.random.RandomState(0)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        manifest_path = place / "speed.toml"
        manifest_path.write_text(TEXT.format(models=arguments.models))
        manifest = read_manifest(manifest_path)
        extent = Extent.of(manifest)
        shape = (extent.n_models, extent.n_checkpoints, extent.n_parameters)
        start = random.standard_normal((shape[0], 1, shape[2])).astype(np.float32)
        weights = start + 0.01 * np.cumsum(random.standard_normal(shape).astype(np.float32), axis=1)
        ways = {"store": store_way(manifest_path, zarrs=False, writes=True)}
        if importlib.util.find_spec("zarrs"):
            ways["store, zarrs"] = store_way(manifest_path, zarrs=True, writes=False)
        ways |= {".pt": pt_way(manifest.layout), ".safetensors": safetensors_way(manifest.layout), ".npy": npy_way()}
        measured = {}
        for way in ways:
            folder = place / ("store" if way.startswith("store") else way)
            measured[way] = measure(ways[way], folder, weights, repeat=arguments.repeat)
    print(f"{' x '.join(map(str, shape))} (model, checkpoint, parameter), {weights.nbytes / 1e6:.0f} MB of float32\n")
    print(f"{'':20}" + "".join(f"{way:>14}" for way in measured))
    for what in measured["store"]:
        print(f"{what:20}" + "".join(f"{each[what]:14,.4g}" for each in measured.values()))
    print()
    for what in ("write, MB/s", "read all, MB/s"):
        ratios = (each[what] / measured[".pt"][what] for each in measured.values())
        print(f"{what.split(',')[0] + ', times .pt':20}" + "".join(f"{ratio:14.1f}" for ratio in ratios))


if __name__ == "__main__":
    main()
