"""Measures what 1,000 and 100,000 models cost the processes that make and read a zoo: memory, seconds, bytes, files.

Run it with `make scale`, or: python -m tests.benchmarks.scale [--models 1000 100000]

The zoo is `tetris_seed` with more seeds. Its shards hold random numbers instead of trained networks, written through
the store as a worker does; everything else is what `zoo-gen run` and a reader do. Each measurement is a process of its
own, whose memory is its peak (resident) less what the interpreter and the libraries take before.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from zoo_gen import engine, find_manifest, open_zoo, read_manifest
from zoo_gen.engine import driver
from zoo_gen.store import Extent, Store

AT_ONCE = 50  # models that a reader of all weights holds


def manifest_of(folder: Path, n_models: int) -> Path:
    """Write the manifest of `tetris_seed` with as many seeds, at the extent that the store chooses by itself."""
    text = find_manifest("tetris_seed").read_text().replace("[1, 1000]", f"[1, {n_models}]")
    path = folder / "scale.toml"
    path.write_text(text.replace("models_per_shard = 125", ""))
    return path


def fake_shards(folder: Path, shards: list[int], *, device: str, data_root: Path | None, run: str) -> dict[int, int]:
    """Stand in for `engine.train_shards`: random arrays, written through the store."""
    store = Store.open(folder)
    extent = store.extent
    for shard in shards:
        models = extent.models(shard)
        random = np.random.default_rng(shard)
        shapes = {name: (models.stop - models.start, *shape[1:]) for name, shape in extent.arrays().items()}
        arrays = {name: random.random(shape, np.float32) for name, shape in shapes.items()}
        store.write_shard(shard, arrays, device=device)
    return dict.fromkeys(shards, 0)


def peak() -> float:
    """Return the peak of this process's resident memory in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def drive(folder: Path, n_models: int) -> dict[str, float]:
    """Run the zoo with one worker process beside the driver, which is measured."""
    driver.train_shards = fake_shards
    before, began = peak(), time.perf_counter()
    engine.run(manifest_of(folder, n_models), folder / "zoo", workers=2)
    return {"driver, MB": peak() - before, "driver, s": time.perf_counter() - began}


def read(folder: Path, n_models: int) -> dict[str, float]:
    """Open the zoo, list and filter its table, read one model, then all of it, a few at once."""
    before, began = peak(), time.perf_counter()
    zoo = open_zoo(folder / "zoo")
    times = {"open, s": time.perf_counter() - began}
    began = time.perf_counter()
    assert len(zoo.models) == n_models
    times["list, s"] = time.perf_counter() - began
    began = time.perf_counter()
    chosen = zoo.models.filter(pc.and_(pc.equal(zoo.models["split"], "test"), pc.greater(zoo.models["test_loss"], 0.5)))
    times["filter, s"] = time.perf_counter() - began
    assert 0 < len(chosen) < n_models
    began = time.perf_counter()
    zoo.weights[n_models // 2]
    times["one model, s"] = time.perf_counter() - began
    table = peak() - before
    began, total = time.perf_counter(), 0.0
    for start in range(0, n_models, AT_ONCE):
        total += float(zoo.weights[start : start + AT_ONCE].sum())
    times["read all, s"] = time.perf_counter() - began
    return {**times, "reader with the table, MB": table, "reader of all weights, MB": peak() - before}


def size(folder: Path) -> dict[str, float]:
    """Count files and bytes."""
    sizes = [path.stat().st_size for path in (folder / "zoo").rglob("*") if path.is_file()]
    return {"files": len(sizes), "on disk, MB": sum(sizes) / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, nargs="+", default=[1_000, 100_000])
    parser.add_argument("--step", choices=["drive", "read", "size"])
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(globals()[arguments.step](*_arguments_of_step(arguments))))
        return
    columns: dict[int, dict[str, float]] = {}
    for n_models in arguments.models:
        with tempfile.TemporaryDirectory() as name:
            measured: dict[str, float] = {
                "shards": Extent.of(read_manifest(manifest_of(Path(name), n_models))).n_shards
            }
            for step in ("drive", "read", "size"):
                command = [sys.executable, "-m", "tests.benchmarks.scale", "--step", step]
                command += ["--folder", name, "--models", str(n_models)]
                answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
                measured |= json.loads(answer.splitlines()[-1])
            columns[n_models] = measured
    print("| | " + " | ".join(f"{n:,} models" for n in columns) + " |")
    print("|---|" + "---|" * len(columns))
    for what in next(iter(columns.values())):
        print(f"| {what} | " + " | ".join(f"{measured[what]:,.4g}" for measured in columns.values()) + " |")


def _arguments_of_step(arguments: argparse.Namespace) -> tuple[Path, ...]:
    return (arguments.folder,) if arguments.step == "size" else (arguments.folder, arguments.models[0])


if __name__ == "__main__":
    main()
