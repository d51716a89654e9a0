"""Times the store's writing and reading against one .pt file a checkpoint, on the same weights.

Run it with `make benchmark`, or: python tests/benchmarks/store.py [--models N]

A zoo of 2,485-parameter models with 51 checkpoints; weights are random walks, which hardly compress. Both ways are
read from the operating system's cache.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from zoo_gen import open_zoo, read_manifest, store
from zoo_gen.store import Extent

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


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=512)
    n_models = parser.parse_args().models
    random = np.random.RandomState(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest_path = folder / "speed.toml"
        manifest_path.write_text(TEXT.format(models=n_models))
        manifest = read_manifest(manifest_path)
        extent = Extent.of(manifest)
        start = random.standard_normal((n_models, 1, extent.n_parameters)).astype(np.float32)
        steps = random.standard_normal((n_models, extent.n_checkpoints, extent.n_parameters)).astype(np.float32)
        weights = start + 0.01 * np.cumsum(steps, axis=1)
        arrays = {n: np.zeros(shape, np.float32) for n, shape in extent.arrays().items()} | {"weights": weights}

        def write_store() -> None:
            store.create(folder / "zoo", manifest_path, data_sha256="", device="cpu")
            for shard in range(extent.n_shards):
                models = extent.models(shard)
                part = {array: values[models] for array, values in arrays.items()}
                diverged = np.zeros(models.stop - models.start, bool)
                store.write_shard(folder / "zoo", manifest, shard, part, diverged=diverged, device="cpu")

        def write_files() -> None:
            layout = open_zoo(folder / "zoo").layout
            for model in range(n_models):
                (folder / "files" / str(model)).mkdir(parents=True)
                for checkpoint in range(extent.n_checkpoints):
                    tensors = {k: torch.from_numpy(v) for k, v in layout.split(weights[model, checkpoint]).items()}
                    # Cloned, as the parameters of a module are: a view would save the whole array with it.
                    state = {k: tensor.clone() for k, tensor in tensors.items()}
                    torch.save(state, folder / "files" / str(model) / f"{checkpoint}.pt")

        def read_files(models: range) -> np.ndarray:
            found = np.empty((len(models), *weights.shape[1:]), np.float32)
            for row, model in enumerate(models):
                for checkpoint in range(extent.n_checkpoints):
                    state = torch.load(folder / "files" / str(model) / f"{checkpoint}.pt")
                    found[row, checkpoint] = torch.cat([tensor.flatten() for tensor in state.values()]).numpy()
            return found

        times = {"write": (timed(write_store), timed(write_files))}
        zoo = open_zoo(folder / "zoo")
        assert np.array_equal(zoo.weights[:], weights)
        assert np.array_equal(read_files(range(2)), weights[:2])
        times["read all"] = (timed(lambda: zoo.weights[:]), timed(lambda: read_files(range(n_models))))
        some = random.randint(n_models, size=20).tolist()
        one = [(timed(lambda m=m: zoo.weights[m]), timed(lambda m=m: read_files(range(m, m + 1)))) for m in some]
        size = {
            way: sum(p.stat().st_size for p in (folder / way).rglob("*") if p.is_file()) for way in ("zoo", "files")
        }
        count = {way: sum(p.is_file() for p in (folder / way).rglob("*")) for way in ("zoo", "files")}

    megabytes = weights.nbytes / 1e6
    print(
        f"{n_models} models x {extent.n_checkpoints} checkpoints x {extent.n_parameters}, {megabytes:.0f} MB of float32"
    )
    print(f"\n{'':20} {'store':>10} {'.pt files':>10} {'ratio':>7}")
    for what, (ours, theirs) in times.items():
        print(f"{what + ', MB/s':20} {megabytes / ours:10.0f} {megabytes / theirs:10.0f} {theirs / ours:7.1f}")
    ours, theirs = np.median(one, axis=0) * 1e3
    print(f"{'one trajectory, ms':20} {ours:10.2f} {theirs:10.2f} {theirs / ours:7.1f}")
    ours, theirs = size["zoo"] / 1e6, size["files"] / 1e6
    print(f"{'size on disk, MB':20} {ours:10.0f} {theirs:10.0f} {theirs / ours:7.2f}")
    ours, theirs = count["zoo"], count["files"]
    print(f"{'files':20} {ours:10} {theirs:10} {theirs / ours:7.0f}")


if __name__ == "__main__":
    main()
