"""How long the encoders of the group `small` take to be fitted to a zoo, and what a fit in a process of its own adds.

    python -m zoo_gen run mini_mnist_mlp
    python -m tests.benchmarks.small zoos/mini_mnist_mlp [--encoder sne_small] [--checkpoints last]

Seconds of the CPU are printed beside those of the clock, which other work on the machine lengthens.
"""

import argparse
import time
import warnings

from zoo_bench.encoders import GROUPS, fit_encoder, learned_problems, make_encoder
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.evaluation.candidates import candidate
from zoo_bench.evaluation.processes.client import EncoderProcess, Template
from zoo_bench.protocol import protocols
from zoo_bench.protocol.standard import standard_benchmark
from zoo_bench.protocol.targets import problems
from zoo_bench.protocol.views import TrainingView
from zoo_gen import open_zoo

PROCESSES = 10


def fit(name, zoo, *, checkpoints):
    """Fit an encoder to one target, and print what it took."""
    cell = protocols.standard_cell(zoo, checkpoints=checkpoints)
    parts = [[TrainingView.of(view) for view in views] for views in (cell.train, cell.validation)]
    encoder = make_encoder(name, runtime=Runtime(device="cpu"))
    asked = [problem for problem in problems(standard_benchmark(zoo), zoo) if problem.target != "epoch"]
    problem = learned_problems(name, encoder, asked)[0]
    began, began_cpu = time.perf_counter(), time.process_time()
    fit_encoder(encoder, *parts, problem=problem, seed=0)
    seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    rows = sum(len(view.models) * len(view.checkpoints) for view in cell.train)
    print(f"{name} | {rows} rows of {cell.train[0].layout.size} | {seconds:.1f} s, {cpu:.1f} s of the CPU", flush=True)


def processes(name):
    """Start processes for an encoder, make it in each, and print what one takes."""
    chosen = candidate(name)
    with EncoderProcess(chosen, torch=chosen.torch) as process:  # which imports what the template still lacks
        process.make(Runtime(device="cpu"))
    began = time.perf_counter()
    for _ in range(PROCESSES):
        with EncoderProcess(chosen, torch=chosen.torch) as process:
            process.make(Runtime(device="cpu"))
    seconds = (time.perf_counter() - began) / PROCESSES
    print(f"{name} | a process, from its start to its end | {1000 * seconds:.0f} ms; a fit takes two", flush=True)


def main():
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("zoo")
    parser.add_argument("--encoder", action="append")
    parser.add_argument("--checkpoints", choices=["all", "last"], default="all")
    arguments = parser.parse_args()
    zoo = open_zoo(arguments.zoo)
    began = time.perf_counter()
    Template.started()
    print(f"the template process | once a run | {time.perf_counter() - began:.1f} s", flush=True)
    for name in ("pca", "mlp"):
        processes(name)
    for name in arguments.encoder or GROUPS["small"]:
        fit(name, zoo, checkpoints=arguments.checkpoints)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
