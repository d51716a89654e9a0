"""R2 of what supervised encoders, fitted as they are shipped, predict of their own training networks: a row a fit.

    python -m zoo_gen run mini_mnist_mlp
    python -m tests.benchmarks.calibration zoos/mini_mnist_mlp [--encoder 'sne[epochs=10]'] [--checkpoints last]
    python -m tests.benchmarks.calibration zoos/medium_mnist_small_cnn_gap --group large --device cuda --out table.md

Beside it stands R2 on the validation networks, by whose score the state is chosen. An R2 below 0 on the training
networks means predictions of the wrong size, whatever their order; the command then ends with 1.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from zoo_bench.encoders import ENCODERS, GROUPS, make_encoder
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.evaluation.fit_input import FitInput
from zoo_bench.evaluation.rows import InThisProcess, predict_views
from zoo_bench.protocol import protocols
from zoo_bench.protocol.problem import Problem
from zoo_bench.protocol.targets import target_named
from zoo_gen import open_zoo
from zoo_gen.errors import ZooError, one_line

COLUMNS = (
    "encoder, zoo, checkpoints, training rows, target, R2 of training rows, R2 of validation rows, seconds, device"
)


def r2(truth, predicted):
    """R2 of predictions (row,), of the rows that have a value."""
    present = np.isfinite(truth)
    truth, predicted = truth[present], predicted[present]
    return 1 - ((truth - predicted) ** 2).mean() / truth.var()


def row(name, folder, *, checkpoints, device):
    """Fit one encoder to test accuracy, or to the frequency of sine waves; return the cells of its row, and its R2."""
    zoo = open_zoo(folder)
    cell = protocols.standard_cell(zoo, checkpoints=checkpoints)
    target = target_named(zoo, "test_accuracy" if "test_accuracy" in zoo.metrics else "frequency")
    encoder = make_encoder(name, runtime=Runtime(device=device, compile=False))
    problem = Problem(target=target.name, checkpoints=checkpoints, targets=(target.name,))
    rows = sum(len(view.models) * len(view.checkpoints) for view in cell.train)
    began = time.perf_counter()
    try:
        FitInput.of(cell, problem, seed=0).fit(encoder)
        seconds = time.perf_counter() - began
        mean, other = (
            r2(target.of_rows(views), predict_views(InThisProcess(name, encoder), views))
            for views in (cell.train, cell.validation)
        )
    except ZooError as error:  # as of an encoder that does not read this zoo
        return [name, zoo.name, checkpoints, str(rows), target.name, one_line(error), "", "", device], np.nan
    shown = [f"{mean:.3f}", f"{other:.3f}", f"{seconds:.0f}"]
    return [name, zoo.name, checkpoints, str(rows), target.name, *shown, device], mean


def main():
    """Read the command line and print the table, each row as soon as it is known."""
    supervised = [name for name in ENCODERS if hasattr(make_encoder(name), "predict")]
    small = [name for name in supervised if name in GROUPS["small"]]
    groups = {"small": small, "large": [name for name in supervised if name not in small], "every": supervised}
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("zoos", nargs="+")
    parser.add_argument("--encoder", action="append", help="one of the supervised encoders, with settings or without")
    parser.add_argument("--group", choices=groups, default="every", help="of them, where no encoder is named")
    parser.add_argument("--checkpoints", choices=["all", "last"], default="last")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="a file that the rows are added to")
    arguments = parser.parse_args()
    columns = COLUMNS.split(", ")
    say(columns, arguments.out)
    say(["---"] * len(columns), arguments.out)
    wrong = 0
    for zoo in arguments.zoos:
        for name in arguments.encoder or groups[arguments.group]:
            cells, line = row(name, zoo, checkpoints=arguments.checkpoints, device=arguments.device)
            say(cells, arguments.out)
            wrong += line <= 0
    return int(wrong > 0)


def say(cells, out):
    """Print a row of the table, and add it to a file."""
    line = f"| {' | '.join(cells)} |"
    print(line, flush=True)
    if out is not None:
        with out.open("a") as file:
            file.write(f"{line}\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    sys.exit(main())
