"""Compares what `zoo-gen plan` expects with what `zoo-gen run` takes, zoo by zoo; both run as commands.

Run it with: python -m tests.benchmarks.plan [--device cuda] [--zoos tetris_seed,mini_digits_cnn] [--workers 2]

A run on a CPU is measured twice: by the clock, and by the seconds that the cores gave it, shared by the workers, which
is what a plan expects and what other work on the machine does not change. Each command compiles its kernels itself, in
a cache of its own, as on a machine that never trained the zoo. Zoos of real images are looked for where `ZOO_DATA_ROOT`
says. A zoo may also be the path of a manifest.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CPU = "tetris_seed,digits_hyp,mini_digits_mlp,mini_digits_cnn,mini_sine_inr"
CACHES = ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH")  # of compiled kernels
GPU = "tetris_seed,digits_hyp,sne_sine_inr,medium_mnist_small_cnn_gap"


def command(*arguments: str) -> tuple[str, float, float]:
    """Run a command of zoo-gen; return what it prints, the seconds by the clock, and those that the cores gave it."""
    line = [sys.executable, "-m", "zoo_gen", *arguments]
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | dict.fromkeys(CACHES, cache)
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True, env=environment)
        after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
    return done.stdout, seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--zoos", help="names or paths, separated by commas")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    on_cpu = arguments.device == "cpu"
    zoos = (arguments.zoos or (CPU if on_cpu else GPU)).split(",")
    options = ["--device", arguments.device, *(["--workers", str(arguments.workers)] if on_cpu else [])]
    titles = f"{'planned':>9} {'measured':>9} {'by the clock':>13} {'planned / measured':>19} {'the plan took':>14}"
    print(f"{'zoo':32} {titles}")
    for zoo in zoos:
        text, planning, _ = command("plan", zoo, *options)
        line = re.search(r"^seconds +([\d,]+) with (?:(\d+) workers?)?", text, re.MULTILINE)
        assert line is not None, text
        planned, workers = float(line[1].replace(",", "")), int(line[2] or 1)
        with tempfile.TemporaryDirectory() as folder:
            _, clock, cores = command("run", zoo, "--out", folder, *options)
        measured = cores / workers if on_cpu else clock
        print(
            f"{Path(zoo).stem:32} {planned:8,.0f}s {measured:8,.1f}s {clock:12,.1f}s {planned / measured:19.2f} "
            f"{planning:13.1f}s",
            flush=True,
        )


if __name__ == "__main__":
    main()
