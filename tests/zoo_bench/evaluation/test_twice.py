"""Two runs of one command give the same scores, predictions and resamples to the last bit, whichever the encoder."""

import subprocess
import sys

import pytest

from tests.benchmarks.compared import content, results
from zoo_bench.encoders import ENCODERS, GROUPS, encoder_settings

BENCHMARK = """
name = "twice"
protocol = "standard"
zoos = ["tiny"]
targets = ["test_accuracy"]
checkpoints = "last"
reading = "own"
"""


def short(name):
    """Return an encoder that trains a few steps alone, where it trains in steps."""
    return f"{name}[steps=8]" if "steps" in encoder_settings(name) else name


@pytest.mark.slow
def test_two_runs_of_a_command_give_the_same_bits(tmp_path, tiny_zoo):
    names = [short(name) for name in GROUPS["small"]]
    assert set(GROUPS["small"]) <= set(ENCODERS)
    (tmp_path / "twice.toml").write_text(BENCHMARK)
    command = [
        sys.executable,
        "-m",
        "zoo_bench",
        "run",
        "twice.toml",
        "--zoos",
        str(tiny_zoo.parent),
        "--device",
        "cpu",
    ]
    command += [word for name in names for word in ("--encoder", name)]
    for folder in ("first", "second"):
        completed = subprocess.run(
            [*command, "--results", folder], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert completed.returncode == 0, completed.stderr
    first, second = results(tmp_path / "first"), results(tmp_path / "second")
    assert len(first) == len(names)
    assert {name: content(path) for name, path in first.items()} == {
        name: content(path) for name, path in second.items()
    }
