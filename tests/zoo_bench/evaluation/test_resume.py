"""A run that is killed at any moment and started again ends with the same page."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from zoo_bench.evaluation.validate import validate
from zoo_bench.standings import boards, page

BENCHMARK = """
name = "its"
protocol = "cross_dataset"
zoos = ["tiny", "other"]
targets = ["epoch", "test_accuracy"]
"""
COSTS = ("fit_seconds", "encode_seconds", "probe_seconds", "memory_bytes")
ENCODERS = ("weights", "pca", "weight_statistics", "last_layer_statistics")


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_zoo):
    """A folder with a benchmark and its two zoos."""
    from zoo_gen import engine

    folder = tmp_path_factory.mktemp("killed")
    (folder / "its.toml").write_text(BENCHMARK)
    text = (tiny_zoo / "manifest.toml").read_text()
    for name, noise in (("tiny", "0.1"), ("other", "0.3")):
        (folder / f"{name}.toml").write_text(
            text.replace('"tiny"', f'"{name}"').replace("noise = 0.1", f"noise = {noise}")
        )
        engine.run(folder / f"{name}.toml", folder / "zoos" / name, workers=1)
    return folder


def start(place, results, *, workers):
    command = [sys.executable, "-c", "from zoo_bench.cli import main; main()", "run", "its.toml", "--seeds", "0,1"]
    command += ["--results", str(results), "--workers", str(workers)]
    command += [word for name in ENCODERS for word in ("--encoder", name)]
    return subprocess.Popen(
        command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def same_costs(loaded, costs):
    """Results with the costs of others, which no two runs share."""
    cells = tuple(
        cell.model_copy(update={name: getattr(other, name) for name in COSTS})
        for cell, other in zip(loaded.result.cells, costs.result.cells, strict=True)
    )
    return replace(loaded, result=loaded.result.model_copy(update={"cells": cells, "seconds": costs.result.seconds}))


def page_of(loaded):
    return page.html(boards.boards(loaded), loaded)


@pytest.mark.parametrize(("workers", "kills"), [(1, 2), (2, 3), pytest.param(2, 20, marks=pytest.mark.slow)])
def test_a_run_killed_anywhere_and_started_again_gives_the_same_page(place, workers, kills):
    undisturbed, killed = (place / f"{name}-{workers}-{kills}" for name in ("undisturbed", "killed"))
    began = time.monotonic()
    assert start(place, undisturbed, workers=workers).wait(timeout=300) == 0
    whole = time.monotonic() - began
    moments = random.Random(kills)
    deaths = 0
    for number in range(kills):
        process = start(place, killed, workers=workers)
        # Runs are quicker or slower than the first one; that one of them dies in the middle is sure.
        while number == 0 and process.poll() is None and not any(killed.glob(".cells/**/*.*")):
            time.sleep(0.01)
        try:
            process.wait(timeout=0 if number == 0 else moments.uniform(0.35, 0.9) * whole)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)  # the driver alone; its workers must end by themselves
            process.wait()
            deaths += 1
    assert deaths
    assert start(place, killed, workers=workers).wait(timeout=300) == 0
    expected, found = boards.load(undisturbed), boards.load(killed)
    assert page_of([same_costs(its, other) for its, other in zip(found, expected, strict=True)]) == page_of(expected)
    # Costs come from results: what is stored gives the same bytes however often it is made.
    assert page_of(boards.load(killed)) == page_of(found)
    assert not any(problems for _, problems in validate(killed, zoos=place / "zoos"))
    assert not (killed / ".cells").exists()
