"""A run that is killed at any moment and started again ends with the same page."""

import random
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from click.testing import CliRunner

from tests import waiting
from zoo_bench.cli import main
from zoo_bench.evaluation.validate import validate
from zoo_bench.standings import boards, page

BENCHMARK = """
name = "two"
protocol = "cross_dataset"
zoos = ["tiny", "other"]
targets = ["epoch", "test_accuracy"]
"""
COSTS = ("fit_seconds", "encode_seconds", "probe_seconds", "memory_bytes", "networks_per_second")
ENCODERS = ("pca", "weight_statistics")


@pytest.fixture(scope="module")
def place(tmp_path_factory, three_zoos):
    """A folder with a benchmark and its two zoos."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "two.toml").write_text(BENCHMARK)
    (folder / "zoos").mkdir()
    for name in ("tiny", "other"):
        (folder / "zoos" / name).symlink_to(three_zoos / name)
    return folder


def options(place, results):
    """The words of the command after zoo-bench."""
    words = ["run", str(place / "two.toml"), "--seeds", "0", "--zoos", str(place / "zoos"), "--results", str(results)]
    return [*words, *(word for name in ENCODERS for word in ("--encoder", name))]


def finish(place, results):
    """Run the command to its end in this process."""
    done = CliRunner().invoke(main, options(place, results))
    assert done.exit_code == 0, done.output


def start(place, results, *, workers):
    command = [sys.executable, "-c", "from zoo_bench.cli import main; main()", *options(place, results)]
    command += ["--workers", str(workers)]
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


@pytest.fixture(scope="module")
def undisturbed(place):
    """The results of a run that nobody kills."""
    results = place / "undisturbed"
    finish(place, results)
    return results


@pytest.mark.parametrize(
    ("workers", "kills"),
    [  # test_run.py has the quick form, in this process
        pytest.param(2, 1, marks=pytest.mark.thorough),
        *(pytest.param(*long, marks=pytest.mark.slow) for long in ((1, 10), (2, 20))),
    ],
)
def test_a_run_killed_anywhere_and_started_again_gives_the_same_page(place, undisturbed, workers, kills):
    killed = place / f"killed-{workers}-{kills}"
    moments = random.Random(kills)
    deaths = 0
    seen: set[str] = set()
    while deaths < kills:
        process = start(place, killed, workers=workers)
        # It dies once it has written a few more files, whole or temporary, wherever that is.
        last = len(seen) + moments.randint(1, 12)

        def enough(process=process, last=last):
            seen.update(waiting.paths_below(killed))
            return process.poll() is not None or len(seen) >= last

        waiting.until(enough)
        process.kill()  # the driver alone; its workers must end by themselves
        code = process.wait()
        if code == -signal.SIGKILL:
            deaths += 1
            continue
        assert code == 0  # it was complete before it could be killed: the other kills meet a new folder
        shutil.rmtree(killed)
        seen.clear()
    finish(place, killed)
    expected, resumed = boards.load(undisturbed), boards.load(killed)
    with_costs = [same_costs(result, other) for result, other in zip(resumed, expected, strict=True)]
    assert page_of(with_costs) == page_of(expected)
    # Costs come from results: what is stored gives the same bytes however often it is made.
    assert page_of(boards.load(killed)) == page_of(resumed)
    assert not any(problems for _, problems in validate(killed, zoos=place / "zoos"))
    assert not (killed / ".cells").exists()
