"""R2 of what supervised encoders, fitted as they are shipped, predict of their own training networks: a line a fit.

    python -m zoo_gen run mini_mnist_mlp
    python -m tests.benchmarks.calibration zoos/mini_mnist_mlp [--encoder 'sne[epochs=10]'] [--checkpoints last]

Beside it stands R2 on the validation networks, by whose score the state is chosen. An R2 below 0 on the training
networks means predictions of the wrong size, whatever their order.
"""

import argparse
import time
import warnings

import numpy as np

from zoo_bench.encoders import ENCODERS, make_encoder
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.evaluation.fit_input import FitInput
from zoo_bench.evaluation.rows import InThisProcess, predict_views
from zoo_bench.protocol import protocols
from zoo_bench.protocol.problem import Problem
from zoo_bench.protocol.targets import target_named
from zoo_gen import open_zoo


def r2(truth, predicted):
    """R2 of predictions (row,)."""
    return 1 - ((truth - predicted) ** 2).mean() / truth.var()


def report(name, folder, *, checkpoints, device):
    """Fit one encoder to test accuracy, or to the frequency of sine waves, and print its R2."""
    zoo = open_zoo(folder)
    cell = protocols.standard_cell(zoo, checkpoints=checkpoints)
    target = target_named(zoo, "test_accuracy" if "test_accuracy" in zoo.metrics else "frequency")
    encoder = make_encoder(name, runtime=Runtime(device=device, compile=False))
    problem = Problem(target=target.name, checkpoints=checkpoints, targets=(target.name,))
    began = time.perf_counter()
    FitInput.of(cell, problem, seed=0).fit(encoder)
    seconds = time.perf_counter() - began
    own, other = (
        r2(target.of_rows(views), predict_views(InThisProcess(name, encoder), views))
        for views in (cell.train, cell.validation)
    )
    rows = sum(len(view.models) * len(view.checkpoints) for view in cell.train)
    print(
        f"{name} | {zoo.name}, {checkpoints}, {rows} rows | {target.name}: R2 of training rows {own:.3f}, "
        f"of validation rows {other:.3f} | {seconds:.0f} s on {device} | {'right' if own > 0 else 'WRONG'}",
        flush=True,
    )


def main():
    """Read the command line and report."""
    supervised = [name for name in ENCODERS if hasattr(make_encoder(name), "predict")]
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("zoos", nargs="+")
    parser.add_argument("--encoder", action="append", help="one of the supervised encoders, with settings or without")
    parser.add_argument("--checkpoints", choices=["all", "last"], default="last")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    for zoo in arguments.zoos:
        for name in arguments.encoder or supervised:
            report(name, zoo, checkpoints=arguments.checkpoints, device=arguments.device)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    main()
