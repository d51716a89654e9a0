"""Times training on a CPU with freed memory kept for the next blocks, and as glibc does by itself.

Run it with: python -m tests.benchmarks.allocation [--rounds 3]

Each measurement has a process of its own, because what an allocator has done before changes what it does next, and
ways take turns. That a process names a setting of glibc's, be it the usual one, makes the package leave all to glibc.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from tests.benchmarks.encoders import LAYOUTS, our_step
from zoo_bench.encoders.hyper_representation.configurations import PAPER
from zoo_gen import engine
from zoo_gen.machine.memory import freed_memory_kept
from zoo_gen.manifest import find_manifest

ZOOS = ("mini_sine_inr",)
STEPS = ("tetris_seed", "mnist_seed")  # of hyper-representations
WAYS = {"glibc's own": {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=7"}, "freed memory kept": {}}


def seconds_of(work: str) -> float:
    """Return the seconds that a zoo takes one process, or the second training step of a hyper-representation."""
    if work in ZOOS:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            engine.run(find_manifest(work), Path(folder) / work, workers=1)
            return time.perf_counter() - began
    configuration = PAPER[work]
    step, _ = our_step(configuration, LAYOUTS[configuration.parameters], torch.device("cpu"), bfloat16=False)
    with freed_memory_kept():  # as `train` does
        step()
        began = time.perf_counter()
        step()
        return time.perf_counter() - began


def measured(work: str, way: str) -> tuple[float, float]:
    """Return seconds and the highest resident memory, GB, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.allocation", "--work", work]
    output = subprocess.run(command, env={**os.environ, **WAYS[way]}, check=True, capture_output=True, text=True).stdout
    seconds, peak = output.splitlines()[-1].split()
    return float(seconds), float(peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", choices=(*ZOOS, *STEPS), help="measure this alone, here")
    arguments = parser.parse_args()
    if arguments.work:
        seconds = seconds_of(arguments.work)
        users = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)  # a zoo is trained in a child
        print(seconds, max(resource.getrusage(user).ru_maxrss for user in users) / 1e6)
        return
    print(f"torch {torch.__version__}, CPU, {torch.get_num_threads()} threads; the best of {arguments.rounds}\n")
    for work in (*ZOOS, *STEPS):
        best = {way: (float("inf"), 0.0) for way in WAYS}
        for _ in range(arguments.rounds):
            for way in WAYS:
                best[way] = min(best[way], measured(work, way))
        (plain, plain_peak), (keeping, keeping_peak) = best.values()
        print(
            f"{work:14} {plain:7.2f} s, {plain_peak:5.2f} GB as glibc does; "
            f"kept {keeping:7.2f} s, {keeping_peak:5.2f} GB  x {plain / keeping:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
