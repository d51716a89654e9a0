"""How well an encoder that was fitted to a small zoo predicts test models, and others that compute the same function.

    python -m zoo_gen run mini_mnist_mlp
    python -m tests.benchmarks.equivalents zoos/mini_mnist_mlp --encoder 'scale_graph_network_small[steps=120]'

One fit in this process on final checkpoints, without a benchmark's bookkeeping. `zoo-bench run robustness_small` is the
whole protocol. Intervals are 95 % of 1,000 resamples of the test models.
"""

import argparse
import time
import warnings

import numpy as np
import torch
from scipy import stats

from zoo_bench.encoders import fit_encoder, make_encoder
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.protocol import protocols
from zoo_bench.protocol.equivalents import equivalent_tests
from zoo_bench.protocol.problem import Problem
from zoo_bench.protocol.views import HiddenRows, TrainingView
from zoo_gen import open_zoo

TARGET = "test_accuracy"


def scores(predicted, values):
    """Return tau-b and R2 with the interval of tau."""
    draws = np.random.default_rng(0).integers(len(values), size=(1000, len(values)))
    taus = [stats.kendalltau(predicted[draw], values[draw]).statistic for draw in draws]
    low, high = np.nanquantile(taus, [0.025, 0.975]) if np.isfinite(taus).any() else (np.nan, np.nan)
    tau = stats.kendalltau(predicted, values).statistic
    r2 = 1 - np.mean((predicted - values) ** 2) / values.var()
    return f"tau {tau:.3f} [{low:.3f}, {high:.3f}], R2 {r2:.3f}"


def main():
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("zoo")
    parser.add_argument("--encoder", action="append", required=True)
    arguments = parser.parse_args()
    zoo = open_zoo(arguments.zoo)
    cell = protocols.standard_cell(zoo, checkpoints="last")
    parts = [[TrainingView.of(view) for view in views] for views in (cell.train, cell.validation)]
    problem = Problem(target=TARGET, loss="bce", metric="kendall_tau")
    for name in arguments.encoder:
        encoder = make_encoder(name, runtime=Runtime(device="cpu"))
        began = time.process_time()
        fit_encoder(encoder, *parts, problem=problem, seed=0)
        seconds = time.process_time() - began
        print(f"{name} | fitted in {seconds:.1f} s of the CPU | {encoder.parameter_count} parameters", flush=True)
        for test in equivalent_tests(cell.tests[0]):
            (view,) = test.views
            rows = HiddenRows.of(view)
            predicted = rows.in_order(encoder.predict(rows.view))
            values = TrainingView.of(view).target(TARGET).reshape(-1)
            print(f"  {test.condition} | {len(values)} | {scores(predicted, values)}", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main()
