"""What variants of the hyper-representation reach on the networks that select, so that no test label chooses one.

    zoo-gen run small_cnn_zoo_4096_fashion --device cuda
    python -m tests.benchmarks.hyper_representation_variants zoos/small_cnn_zoo_4096_fashion [--variant NAME]

A line a variant: R2 of the standard probes on the validation models, and the seconds of the fit.
"""

import argparse
import time

import numpy as np

from zoo_bench.encoders import make_encoder
from zoo_bench.encoders.hyper_representation.augment import Augmentation
from zoo_bench.encoders.hyper_representation.encoder import HyperRepresentation
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.protocol import protocols
from zoo_bench.protocol.views import TrainingView
from zoo_bench.scores.metrics import missing
from zoo_bench.scores.probes import Embeddings, Labels, probe
from zoo_gen import open_zoo

TARGETS = ("test_accuracy", "epoch", "generalization_gap")
STEPS = {"steps": 2000, "epochs": 20, "evaluate_every": 2}
FAST = STEPS | {"schedule": "cosine", "learning_rate": 5e-4}
NARROW = FAST | {"blocks": 2, "width": 256, "feedforward": 512, "latent": 512, "head_layers": 2}
NARROW |= {"learning_rate": 1e-3, "dropout": 0.0, "steps": 6000}
NORMALIZED = {"standardize": True, "warm_up_share": 0.05}
VARIANTS = {
    "the paper's": {"settings": STEPS},
    "normalized, rate 1e-4": {"settings": FAST | {"learning_rate": 1e-4}, **NORMALIZED},
    "normalized": {"settings": FAST, **NORMALIZED},
    "normalized, gamma 0.5": {"settings": FAST | {"gamma": 0.5}, **NORMALIZED},
    "normalized, gamma 0.05": {"settings": FAST | {"gamma": 0.05}, **NORMALIZED},
    "normalized, no permutations": {"settings": FAST, "augmentation": Augmentation(permute=False), **NORMALIZED},
    "normalized, noise 0.1, clean target": {
        "settings": FAST,
        "augmentation": Augmentation(noise=0.1),
        "target": "clean",
        **NORMALIZED,
    },
    "normalized, noise 0.05, no dropout": {
        "settings": FAST | {"dropout": 0.0},
        "augmentation": Augmentation(noise=0.05),
        **NORMALIZED,
    },
    "normalized, 2 blocks of 256": {"settings": NARROW, **NORMALIZED},
    "normalized, 2 blocks of 256, E_c": {"settings": NARROW, "loss": "E_c", **NORMALIZED},
}
ENCODERS = ("weight_statistics", "hyper_representation_normalized")  # as they ship, for comparison


def report(name, cell, *, device):
    """Fit one variant or encoder and print its line."""
    encoder = HyperRepresentation(**VARIANTS[name]) if name in VARIANTS else make_encoder(name)
    encoder.runtime = Runtime(device=device)
    views = [[TrainingView.of(view) for view in part] for part in (cell.train, cell.validation)]
    began = time.monotonic()
    encoder.fit(*views, seed=0)
    seconds = time.monotonic() - began
    train, validation = (np.concatenate([encoder.encode(view) for view in part]) for part in views)
    labels = {
        target: Labels(*(np.concatenate([view.target(target).reshape(-1) for view in part]) for part in views))
        for target in TARGETS
    }
    predicted = probe(Embeddings(train, validation, validation), labels, kind="standard")
    scores = []
    for target in TARGETS:
        labelled_rows = ~missing(labels[target].validation)
        truth, values = labels[target].validation[labelled_rows], predicted[target].values[labelled_rows]
        scores.append(f"{target} {1 - ((truth - values) ** 2).mean() / truth.var():.3f}")
    print(f"{name:36} {seconds:6.0f} s  {'  '.join(scores)}", flush=True)


def main():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("zoo")
    parser.add_argument("--variant", action="append", help=f"of {', '.join([*ENCODERS, *VARIANTS])}; all by default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, help="instead of those of the variants, to try the command")
    arguments = parser.parse_args()
    if arguments.steps:
        for variant in VARIANTS.values():
            variant["settings"] = {**variant["settings"], "steps": arguments.steps}
    cell = protocols.standard_cell(open_zoo(arguments.zoo))
    for name in arguments.variant or (*ENCODERS, *VARIANTS):
        report(name, cell, device=arguments.device)


if __name__ == "__main__":
    main()
