"""Which penalties of probes the validation networks of a zoo choose, and whether one lies at an edge of its grid.

    python -m zoo_gen run mini_mnist_mlp
    python -m tests.benchmarks.edges zoos/mini_mnist_mlp [--encoder weights]

What nothing lies beyond is no edge: the mean alone or the shares of the names, and least squares of numbers.
"""

import argparse
import warnings

from zoo_bench.encoders import learned_problems, make_encoder
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.evaluation.fit_input import FitInput
from zoo_bench.evaluation.rows import InThisProcess, encode_views
from zoo_bench.protocol import protocols
from zoo_bench.protocol.standard import standard_benchmark
from zoo_bench.protocol.targets import problems, targets
from zoo_bench.scores.probes import Embeddings, Labels, probe
from zoo_bench.scores.standard_probes import LOGISTIC_PENALTIES, MEAN_ALONE, RIDGE_PENALTIES
from zoo_gen import open_zoo

ENCODERS = (
    "weight_statistics",
    "weight_statistics_without_biases",
    "pca",
    "last_layer_statistics",
    "pooled_layer_statistics",
    "weights",
)
STRONGEST, WEAKEST = RIDGE_PENALTIES[1], LOGISTIC_PENALTIES[-1]  # of numbers, and of names


def report(name, folder, *, device):
    """Print the penalties of all targets."""
    zoo = open_zoo(folder)
    cell = protocols.standard_cell(zoo)
    benchmark = standard_benchmark(zoo)
    encoder = make_encoder(name, runtime=Runtime(device=device, compile=False))
    problem = learned_problems(name, encoder, problems(benchmark, zoo))[0]
    FitInput.of(cell, problem, seed=0).fit(encoder)
    embedder = InThisProcess(name, encoder)
    train, validation, test = (
        encode_views(embedder, views) for views in (cell.train, cell.validation, cell.tests[0].views)
    )
    labels = {
        target.name: Labels(target.of_rows(cell.train), target.of_rows(cell.validation))
        for target in targets(benchmark, zoo)
    }
    numbers = {target.name for target in targets(benchmark, zoo) if target.is_number}
    chosen = probe(Embeddings(train, validation, test), labels, kind="standard")
    penalties = {target: prediction.penalty for target, prediction in chosen.items()}
    at_edge = [name for name, penalty in penalties.items() if penalty == (STRONGEST if name in numbers else WEAKEST)]
    shown = ", ".join(f"{t} {'the mean alone' if p == MEAN_ALONE else f'{p:g}'}" for t, p in penalties.items())
    verdict = f"AT THE EDGE: {', '.join(at_edge)}" if at_edge else "inside"
    print(f"{zoo.name} | {name}, {train.shape[1]} dimensions, {len(train)} rows | {shown} | {verdict}", flush=True)


def main():
    """Read the command line and report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("zoos", nargs="+")
    parser.add_argument("--encoder", action="append")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    print(f"numbers: {RIDGE_PENALTIES[-1]:g}, which is least squares, to {STRONGEST:g}, and the mean alone")
    print(f"names: {WEAKEST:g} to {LOGISTIC_PENALTIES[0]:g}, which leaves the shares of the names")
    for zoo in arguments.zoos:
        for name in arguments.encoder or ENCODERS:
            report(name, zoo, device=arguments.device)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
