"""zoo-bench leaderboard: which results are compared, JSON, and results that cannot be read."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import zoo_bench
from zoo_bench.cli import main
from zoo_bench.results import read_result, this_machine, write_result
from zoo_bench.results.machine import software
from zoo_gen.errors import ZooError


@pytest.fixture
def results(tmp_path, tiny_results):
    """A copy of the results to move and spoil."""
    shutil.copytree(tiny_results[0], tmp_path / "results")
    return tmp_path / "results"


def invoke(*arguments):
    return CliRunner().invoke(main, ["leaderboard", *map(str, arguments)])


def test_results_of_two_folders_are_one_board(results, tmp_path):
    (tmp_path / "other" / "tiny_standard").mkdir(parents=True)
    (results / "tiny_standard" / "pca").rename(tmp_path / "other" / "tiny_standard" / "pca")
    both = invoke("--results", results, "--results", tmp_path / "other", "--json")
    assert both.exit_code == 0
    content = json.loads(both.stdout)
    encoders = {row["encoder"] for row in content["standings"]}
    assert "pca" in encoders
    assert len(encoders) > 1
    assert content["compared_on"] == ["tiny_standard"]
    assert {row["encoder"] for row in content["scores"]} == encoders


def test_encoders_that_are_chosen_are_compared_by_themselves(results):
    alone = json.loads(invoke("--results", results, "--encoder", "pca", "--json").stdout)
    assert [(row["encoder"], row["rank"]) for row in alone["standings"]] == [("pca", 1.0)]
    wrong = invoke("--results", results, "--encoder", "pac")
    assert wrong.exit_code == 2
    assert "error: unknown encoder 'pac'; did you mean 'pca'" in wrong.stderr
    assert invoke("--results", results, "--benchmark", "other").exit_code == 2


def test_a_result_that_cannot_be_read_is_one_line_and_the_others_are_shown(results):
    path = results / "tiny_standard" / "pca" / "seed-0.json"
    path.write_text(path.read_text()[:100])
    result = invoke("--results", results)
    assert result.exit_code == 2
    assert "weight_statistics" in result.stdout
    assert "pca" not in result.stdout
    (line,) = result.stderr.splitlines()
    assert str(path) in line


@pytest.mark.parametrize("table", ["predictions", "resamples"])
def test_a_table_without_one_of_its_rows_is_one_line_and_the_others_are_shown(results, table):
    path = results / "tiny_standard" / "pca" / f"seed-0.{table}.parquet"
    rows = pq.read_table(path)
    pq.write_table(rows.slice(0, len(rows) - 1), path)
    result = invoke("--results", results)
    assert result.exit_code == 2
    assert "weight_statistics" in result.stdout
    assert "pca" not in result.stdout
    (line,) = result.stderr.splitlines()
    assert f"seed-0.json: {table}_sha256: {path.name} has " in line
    assert line.endswith("; expected a result as zoo-bench run wrote it")


def test_a_result_without_the_table_of_its_floors_is_one_line_and_the_others_are_shown(results):
    for path in results.rglob("*.resamples.parquet"):  # as results are shipped
        path.unlink()
    (results / "tiny_standard" / "pca" / "seed-0.floors.parquet").unlink()
    result = invoke("--results", results)
    assert result.exit_code == 2
    assert "pca/seed-0.json: seed-0.floors.parquet is not there" in result.stderr
    assert "weight_statistics" in result.stdout


def test_a_score_that_was_edited_is_one_line_and_the_others_are_shown(results):
    path = results / "tiny_standard" / "pca" / "seed-0.json"
    content = json.loads(path.read_text())
    content["cells"][0]["scores"][0]["value"] = 1.0
    path.write_text(json.dumps(content))
    result = invoke("--results", results)
    assert result.exit_code == 2
    assert "pca" not in result.stdout
    (line,) = result.stderr.splitlines()
    assert f"{path}: sha256: the content has " in line


def test_two_results_of_one_encoder_and_seed_are_refused(results, tmp_path):
    shutil.copytree(results, tmp_path / "other")
    assert invoke("--results", results, "--results", tmp_path / "other").exit_code == 0  # the same ones
    path = tmp_path / "other" / "tiny_standard" / "pca" / "seed-0.json"
    write_result(read_result(path).model_copy(update={"seconds": 1.0}).signed(), path)
    result = invoke("--results", results, "--results", tmp_path / "other")
    assert result.exit_code == 2
    assert f"is another result of pca, seed 0, than {results}" in result.stderr


def test_results_of_no_folder_are_none_and_one_name_needs_no_list(results):
    with pytest.raises(ZooError, match="no folder of results is given"):
        zoo_bench.load_results()
    chosen = zoo_bench.load_results(results).only(encoders="pca", benchmarks="tiny_standard")
    assert [result.encoder for result in chosen] == ["pca"]


def test_results_name_python_torch_and_the_machine(tiny_loaded):
    result = tiny_loaded[0].result
    assert {"python", "torch", "numpy", "zoo-gen"} <= set(result.versions)
    assert result.versions == software()
    assert result.cells[0].machine.processor == this_machine().processor
