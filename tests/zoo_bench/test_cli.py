import json
import shutil

import pytest
from click.testing import CliRunner

from tests.conftest import files_of
from zoo_bench.cli import main

BENCHMARK = """
name = "tiny_standard"
protocol = "standard"
zoos = ["tiny"]
targets = ["epoch", "test_accuracy"]
"""


@pytest.fixture
def benchmark(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "benchmark.toml"
    path.write_text(BENCHMARK)
    return path


def invoke(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_list_shows_benchmarks_and_encoders():
    found = invoke("list")
    assert found.exit_code == 0
    assert "quickstart  standard  tetris_seed, digits_hyp" in found.output
    assert "weight_statistics_without_biases" in found.output


def test_run_then_leaderboard_then_nothing_to_do(benchmark, tiny_zoo, tmp_path):
    found = invoke("run", benchmark, "--zoos", tiny_zoo.parent, "--encoder", "weights", "--encoder", "pca")
    assert found.exit_code == 0, found.output
    assert found.stdout.splitlines()[0].startswith("tiny_standard: weights, seed 0: evaluated in ")
    assert found.stderr == ""
    before = files_of(tmp_path / "results")
    again = invoke("run", benchmark, "--zoos", tiny_zoo.parent, "--encoder", "weights", "--encoder", "pca")
    assert again.stdout.splitlines()[0] == "tiny_standard: weights, seed 0: there already"
    assert files_of(tmp_path / "results") == before
    board = invoke("leaderboard", "--html", tmp_path / "page.html")
    assert board.exit_code == 0
    assert "test_accuracy" in board.stdout
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "quickstrat"], "unknown benchmark 'quickstrat'; did you mean 'quickstart'?"),
        (["run", "benchmark.toml", "--encoder", "wieghts"], "tiny: no such zoo; make it with"),
        (["run", "benchmark.toml", "--seeds", "a"], "--seeds 'a': expected whole numbers"),
        (["run", "benchmark.toml", "--device", "gpu"], "device 'gpu': no such device; expected auto, cpu, cuda"),
        (["leaderboard"], "results: holds no results"),
        (["leaderboard", "--results", "elsewhere"], "elsewhere: holds no results"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(benchmark, arguments, message):
    found = invoke(*arguments)
    assert found.exit_code == 2
    assert message in found.stderr
    assert found.stderr.startswith("error: ")
    assert found.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("written", "instead", "message"),
    [
        ('"epoch"', '"epohc"', "targets: [0]: unknown target 'epohc'; did you mean 'epoch'?"),
        ("protocol", "protokol", "unknown key 'protokol'; did you mean 'protocol'?"),
        ('"standard"', '"standrad"', "protocol: 'standrad' is not valid; expected 'standard'"),
        ('["tiny"]', "[]", "zoos: tuple should have at least 1 item"),
    ],
)
def test_a_wrong_benchmark_names_the_place(benchmark, written, instead, message):
    benchmark.write_text(BENCHMARK.replace(written, instead))
    found = invoke("run", benchmark)
    assert found.exit_code == 2
    assert f"benchmark.toml: {message}" in found.stderr


def test_a_result_that_does_not_fit_the_schema_is_named(tmp_path, tiny_results):
    folder = tmp_path / "results"
    shutil.copytree(tiny_results[0], folder)
    path = folder / "tiny_standard" / "pca" / "seed-0.json"
    content = json.loads(path.read_text())
    content["seed"] = "zero"
    path.write_text(json.dumps(content))
    found = invoke("leaderboard", "--results", folder)
    assert found.exit_code == 2
    assert "seed-0.json: seed: " in found.stderr
    assert "expected a result of zoo-bench run" in found.stderr
