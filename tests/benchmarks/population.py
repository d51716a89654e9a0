"""Times `zoo-gen run tetris_seed` against plain torch loops that train the same models, one after another.

Run it with `make benchmark`, or: python tests/benchmarks/population.py [--models N]

All ways do the same work: 75 epochs on 2,000 images at batch 32, and an evaluation on training and test images after
every epoch. The loops train a few models and are scaled; ours trains all thousand, starts its processes and writes the
zoo to disk.
"""

import argparse
import tempfile
import time
from pathlib import Path

import joblib
import torch

from zoo_gen import engine, find_manifest, grid, load_image_data, read_manifest
from zoo_gen.modules import build_module
from zoo_gen.population.random import data_order
from zoo_gen.population.train import populations, single_threaded

MANIFEST = read_manifest(find_manifest("tetris_seed"))


def plain_loop(seeds: list[int]) -> float:
    """Train models one after another with torch.nn and torch.optim; return the seconds a model."""
    data = load_image_data(MANIFEST.data)
    images, labels = data.tensors("train")
    parts = [(images, labels), data.tensors("test")]
    began = time.perf_counter()
    for seed in seeds:
        torch.manual_seed(seed)
        model = build_module(MANIFEST.layers, activation="tanh")
        optimizer = torch.optim.Adam(model.parameters(), lr=MANIFEST.training.learning_rate)
        for epoch in range(1, MANIFEST.training.epochs + 1):
            order = data_order(torch.tensor([seed]), epoch, len(labels))[0]
            for batch in order.split(MANIFEST.training.batch_size):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
                optimizer.step()
            with torch.no_grad():
                for inputs, truth in parts:
                    logits = model(inputs)
                    torch.nn.functional.cross_entropy(logits, truth)
                    (logits.argmax(dim=1) == truth).float().mean()
    return (time.perf_counter() - began) / len(seeds)


def plain_loop_one_a_core(n_models: int) -> float:
    """Run as many plain loops at once as there are cores, one thread each; return the seconds a model."""
    cores = joblib.cpu_count()

    def loop(seeds: list[int]) -> None:
        torch.set_num_threads(1)
        plain_loop(seeds)

    with joblib.Parallel(n_jobs=cores) as parallel:
        parallel(joblib.delayed(loop)([0]) for _ in range(cores))  # starts the processes, and is not timed
        began = time.perf_counter()
        parallel(joblib.delayed(loop)(list(range(n_models))) for _ in range(cores))
        return (time.perf_counter() - began) / (n_models * cores)


def stacked_on_one_core() -> float:
    """Train and evaluate one shard for an epoch, stacked, on one core; return the seconds a model for all epochs."""
    models = grid.table_of_models(MANIFEST).slice(0, MANIFEST.storage.models_per_shard or 100)
    with single_threaded():
        data, settings = load_image_data(MANIFEST.data), engine.regime(MANIFEST, device="cpu")
        _, population = next(populations(MANIFEST.architecture, data, models, settings))
        population.train_epoch(1)
        began = time.perf_counter()
        for epoch in range(2, 12):
            population.train_epoch(epoch)
            population.evaluate("train")
            population.evaluate("test")
        seconds = (time.perf_counter() - began) / 10
    return seconds * MANIFEST.training.epochs / len(models)


def zoo_gen_run() -> float:
    """Make the whole zoo; return the seconds a model."""
    with tempfile.TemporaryDirectory() as folder:
        summary = engine.run(find_manifest("tetris_seed"), Path(folder) / "tetris_seed")
    return summary.seconds / summary.trained_models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=4, help="models that each plain loop trains")
    n_models = parser.parse_args().models
    print(f"torch {torch.__version__}, {joblib.cpu_count()} cores; tetris_seed, 75 epochs with evaluation\n")
    seconds = {
        "plain loop, one process": plain_loop(list(range(n_models))),
        "plain loops, one a core": plain_loop_one_a_core(n_models),
        "stacked, one core": stacked_on_one_core(),
        "zoo-gen run, all cores, store written": zoo_gen_run(),
    }
    slowest, parallel = seconds["plain loop, one process"], seconds["plain loops, one a core"]
    print(f"{'way':38} {'models/s':>9} {'x plain loop':>13} {'x loops, one a core':>20}")
    for way, each in seconds.items():
        print(f"{way:38} {1 / each:9.2f} {slowest / each:13.1f} {parallel / each:20.1f}")


if __name__ == "__main__":
    main()
