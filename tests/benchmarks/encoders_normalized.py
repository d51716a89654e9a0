"""Hyper-representations with and without standardised weights, against weights, their statistics and PCA.

    python -m tests.benchmarks.encoders_normalized zoos/mini_mnist_cnn --size small --seeds 0,1,2
    python -m tests.benchmarks.encoders_normalized zoos/small_cnn_zoo_fashion --size paper --seeds 0 --device cuda

It prints R2 of ridge probes on the test models of each zoo, all checkpoints: one line an encoder and seed.
"""

import argparse
import time

import numpy as np

from zoo_bench.encoders import make_encoder
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.protocol import protocols
from zoo_bench.protocol.views import TrainingView
from zoo_bench.scores import probes
from zoo_gen import open_zoo

TARGETS = ("test_accuracy", "epoch", "generalization_gap")
SEEDLESS = ("weights", "weight_statistics", "weight_statistics_without_biases", "pca")
SIZES = {
    "small": ("hyper_representation_small", "hyper_representation_normalized_small"),
    "paper": ("hyper_representation", "hyper_representation_normalized"),
}


def targets(views: list[TrainingView]) -> np.ndarray:
    """Return the targets of all rows of some views (row, target)."""
    return np.concatenate([np.stack([view.target(name).ravel() for name in TARGETS], axis=1) for view in views])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoos", nargs="+", help="folders of zoos, each of one architecture")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    seeds = [int(seed) for seed in given.seeds.split(",")]
    trials = [(name, 0) for name in SEEDLESS] + [(name, seed) for seed in seeds for name in SIZES[given.size]]
    for path in given.zoos:
        cell = protocols.standard_cell(open_zoo(path))
        parts = [
            [TrainingView.of(view) for view in part] for part in (cell.train, cell.validation, cell.tests[0].views)
        ]
        train, validation, test = parts
        truth = targets(test)
        print(f"{cell.zoo.name}: {', '.join(TARGETS)}")
        for name, seed in trials:
            began = time.monotonic()
            encoder = make_encoder(name, runtime=Runtime(device=given.device)).fit(train, validation, seed=seed)
            rows = (np.concatenate([encoder.encode(view) for view in part]) for part in parts)
            probed = probes.ridge(probes.Features.standardized(*rows), targets(train), targets(validation))
            predicted = np.stack([prediction.values for prediction in probed], axis=1)
            r2 = 1 - ((truth - predicted) ** 2).sum(axis=0) / ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
            scores = "  ".join(f"{value:6.3f}" for value in r2)
            print(f"  {name:40} seed {seed}  {scores}  {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
