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
    result = invoke("list")
    assert result.exit_code == 0
    assert "quickstart standard tetris_seed, digits_hyp" in " ".join(result.output.split())
    assert "weight_statistics_without_biases" in result.output


@pytest.mark.parametrize(
    ("options", "expected"),
    [((), "cpu"), (("--device", "auto"), "cpu"), (("--device", "cpu"), "cpu"), (("--device", "cuda:0"), "cuda:0")],
)
def test_missing_zoos_are_made_on_the_device_that_is_named(benchmark, tmp_path, monkeypatch, options, expected):
    """A zoo of a GPU has other bytes than one of a CPU, so none is made there because one happens to be there."""
    devices = []
    monkeypatch.setattr("zoo_bench.encoders.training.runtime.Runtime.torch_device", lambda runtime: None)
    monkeypatch.setattr("zoo_gen.engine.run", lambda *arguments, device, **options: devices.append(device))
    benchmark.write_text(BENCHMARK.replace('"tiny"', '"mini_digits_mlp"'))
    result = invoke("run", benchmark, "--zoos", tmp_path / "zoos", "--missing-zoos", "make", *options)
    assert devices == [expected]
    assert "mini_digits_mlp: no such zoo" in result.output  # as nothing was made


def test_run_then_leaderboard_then_nothing_to_do(benchmark, tiny_zoo, tmp_path):
    result = invoke("run", benchmark, "--zoos", tiny_zoo.parent, "--encoder", "weights", "--encoder", "pca")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].startswith("tiny_standard: weights, seed 0: evaluated in ")
    assert result.stderr == ""
    before = files_of(tmp_path / "results")
    again = invoke("run", benchmark, "--zoos", tiny_zoo.parent, "--encoder", "weights", "--encoder", "pca")
    assert again.stdout.splitlines()[0] == "tiny_standard: weights, seed 0: there already"
    assert files_of(tmp_path / "results") == before
    board = invoke("leaderboard", "--html", tmp_path / "page.html")
    assert board.exit_code == 0
    assert "test_accuracy" in board.stdout
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


SHORT = "tests.zoo_bench.encoders.short:hyper_representation"


def test_a_cpu_trains_in_bfloat16_where_it_is_told_to(benchmark, tiny_zoo, tmp_path):
    digests = []
    for number, options in enumerate(([], [], ["--cpu-bfloat16"])):
        results = tmp_path / str(number)
        common = ("--zoos", tiny_zoo.parent, "--device", "cpu", "--results", results)
        result = invoke("run", benchmark, "--encoder", SHORT, *common, *options)
        assert result.exit_code == 0, result.output
        (path,) = results.glob("*/*/seed-0.json")
        digests.append(json.loads(path.read_text())["predictions_sha256"])
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "quickstrat"], "unknown benchmark 'quickstrat'; did you mean 'quickstart'?"),
        (["run", "benchmark.toml", "--encoder", "wieghts"], "tiny: no such zoo; "),
        (["run", "benchmark.toml", "--seeds", "a"], "--seeds 'a': expected whole numbers"),
        (["leaderboard", "--html", "."], "Invalid value for '--html': File '.' is a directory."),
        (
            ["run", "benchmark.toml", "--device", "gpu"],
            "device 'gpu': expected cpu, cuda (all GPUs), cuda:N",
        ),
        (["leaderboard"], "results: holds no results"),
        (["leaderboard", "--results", "elsewhere"], "elsewhere: holds no results"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(benchmark, arguments, message):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("written", "instead", "message"),
    [
        ("protocol", "protokol", "unknown key 'protokol'; did you mean 'protocol'?"),
        ('"standard"', '"standrad"', "protocol: 'standrad' is not valid; expected 'standard'"),
        ('["tiny"]', '["tiny", "tiny"]', "zoos: 'tiny' is listed twice; expected each once"),
        ('["tiny"]', "[]", "zoos: tuple should have at least 1 item"),
    ],
)
def test_a_wrong_benchmark_names_the_place(benchmark, written, instead, message):
    benchmark.write_text(BENCHMARK.replace(written, instead))
    result = invoke("run", benchmark)
    assert result.exit_code == 2
    assert f"benchmark.toml: {message}" in result.stderr


def test_an_unknown_target_is_named(benchmark, tiny_zoo):
    benchmark.write_text(BENCHMARK.replace('"epoch"', '"epohc"'))
    result = invoke("run", benchmark, "--zoos", tiny_zoo.parent)
    assert result.exit_code == 2
    assert "unknown target 'epohc'; did you mean 'epoch'?" in result.stderr


def test_a_result_that_does_not_fit_the_schema_is_named(tmp_path, tiny_results):
    folder = tmp_path / "results"
    shutil.copytree(tiny_results[0], folder)
    path = folder / "tiny_standard" / "pca" / "seed-0.json"
    content = json.loads(path.read_text())
    content["seed"] = "zero"
    path.write_text(json.dumps(content))
    result = invoke("leaderboard", "--results", folder)
    assert result.exit_code == 2
    assert "seed-0.json: seed: " in result.stderr
    assert "expected a result of zoo-bench run" in result.stderr


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_named(benchmark, tiny_zoo, seed):
    result = invoke("run", benchmark, "--zoos", tiny_zoo.parent, f"--seeds={seed}")
    assert result.exit_code == 2
    assert result.stderr == f"error: seed {seed}: expected a whole number from 0 to 4294967295\n"


def test_a_seed_given_twice_is_evaluated_once(benchmark, tiny_zoo):
    result = invoke("run", benchmark, "--zoos", tiny_zoo.parent, "--encoder", "weights", "--seeds", "3,3")
    assert result.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["cells"][0]["scores"][0].update(metric="r3"), "cells.0.scores.0.metric: Input should"),
        (lambda content: content["cells"][0].update(scores=[]), "cells.0.scores: Tuple should have at least 1 item"),
        (lambda content: content.update(cells=[]), "cells: Tuple should have at least 1 item"),
        (lambda content: content.clear(), "encoder: Field required"),
    ],
)
def test_a_damaged_result_is_named(tmp_path, tiny_results, change, message):
    folder = tmp_path / "results"
    shutil.copytree(tiny_results[0], folder)
    path = folder / "tiny_standard" / "pca" / "seed-0.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    result = invoke("leaderboard", "--results", folder)
    assert result.exit_code == 2
    assert f"seed-0.json: {message}" in result.stderr
    assert "delete it to have it computed again" in result.stderr
    assert result.stderr.count("\n") == 1
