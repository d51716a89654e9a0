import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import zoo_bench
from zoo_bench.cli import main
from zoo_bench.evaluation import completeness
from zoo_bench.evaluation.validate import validate
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.results import Result, read_result, write_result
from zoo_bench.results.records import (
    predictions_path,
    read_predictions,
    resamples_path,
    write_predictions,
    write_resamples,
)
from zoo_bench.results.scoring import score_cell
from zoo_gen.errors import ZooError


@pytest.fixture
def results(tmp_path, tiny_results):
    """A copy of the results to spoil."""
    shutil.copytree(tiny_results[0], tmp_path / "results")
    return tmp_path / "results"


def path_of(results, encoder="pca"):
    return results / "tiny_standard" / encoder / "seed-0.json"


def problems(results, **options):
    return {path.parent.name: lines for path, lines in validate(results, **options)}


def spoil(path, change, *, sign=False):
    content = json.loads(path.read_text())
    change(content)
    result = Result.model_validate(content)
    path.write_text((result.signed() if sign else result).model_dump_json(indent=2))


def test_what_run_wrote_is_right(results, tiny_zoo):
    assert not any(problems(results, zoos=tiny_zoo.parent).values())
    result = CliRunner().invoke(main, ["validate", "--results", str(results), "--zoos", str(tiny_zoo.parent)])
    assert result.exit_code == 0
    assert result.output.count(": right") == 4


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["cells"][0]["scores"][0].update(value=0.999),
        lambda content: content.update(seconds=content["seconds"] + 0.1),
        lambda content: content["cells"][0]["source"].update(revision="0" * 64),
        lambda content: content.update(encoder_digest="0" * 64),
    ],
)
def test_a_changed_digit_anywhere_is_caught(results, change):
    spoil(path_of(results), change)
    found_problems = problems(results)
    assert any("something was changed" in line for line in found_problems["pca"])
    assert not found_problems["weights"]


@pytest.mark.parametrize("field", ["value", "low", "high"])
def test_a_changed_score_is_caught_even_if_the_digest_is_made_anew(results, field):
    path = path_of(results)
    spoil(path, lambda content: content["cells"][0]["scores"][0].update({field: 0.9}), sign=True)
    (line,) = problems(results)["pca"]
    assert line.startswith(f"tiny: epoch, r2: {field} is 0.9; the predictions give ")


def test_changed_predictions_are_caught(results, tiny_zoo):
    path = predictions_path(path_of(results))
    table = pq.read_table(path)
    values = table["truth"].to_numpy().copy()
    values[0] += 1
    place = table.column_names.index("truth")
    pq.write_table(table.set_column(place, "truth", pa.array(values, from_pandas=True)), path)
    lines = problems(results, zoos=tiny_zoo.parent)["pca"]
    assert any(line.startswith("predictions_sha256: seed-0.predictions.parquet has ") for line in lines)
    assert any("tiny: epoch, r2: value is" in line for line in lines)
    assert any("tiny: epoch: the true values are not those of" in line for line in lines)


def test_changed_resamples_are_caught(results):
    path = resamples_path(path_of(results))
    rows = pq.read_table(path).to_pylist()
    rows[0]["values"] = (np.array(rows[0]["values"]) + 0.01).tolist()
    pq.write_table(pa.Table.from_pylist(rows), path)
    lines = problems(results)["pca"]
    assert any("tiny: epoch, r2: its resamples are not those of the predictions" in line for line in lines)


def test_without_resamples_results_are_validated_and_read_as_with_them(results):
    with_them = zoo_bench.load_results(results)
    for path in results.rglob("*.resamples.parquet"):
        path.unlink()
    assert not any(problems(results).values())
    for one, other in zip(zoo_bench.load_results(results).loaded, with_them.loaded, strict=True):
        assert one.resamples.keys() == other.resamples.keys()
        for key, values in one.resamples.items():
            np.testing.assert_array_equal(values, other.resamples[key])


def test_mixed_splits_are_caught(results):
    def change(content):
        content["cells"][0]["test"]["split_sha256"] = "f" * 64

    spoil(path_of(results), change, sign=True)
    messages = [line for lines in problems(results).values() for line in lines]
    assert any("split_sha256 of tiny is" in line and line.endswith("; expected one") for line in messages)


def test_seeds_of_two_versions_of_an_encoder_are_caught(results):
    path = path_of(results)
    for suffix in (".json", ".predictions.parquet", ".resamples.parquet", ".floors.parquet"):
        shutil.copy(path.with_suffix(suffix), path.with_name(f"seed-1{suffix}"))
    other = path.with_name("seed-1.json")
    spoil(other, lambda content: content.update(seed=1), sign=True)
    assert dict(validate(results))[other] == []
    spoil(other, lambda content: content.update(encoder_digest="0" * 64), sign=True)
    (line,) = dict(validate(results))[other]
    assert line.startswith("encoder_digest: is 000000000000, in seed-0.json ")


def test_a_result_in_another_place_is_caught(results):
    path_of(results).parent.rename(results / "tiny_standard" / "other")
    (line,) = problems(results)["other"]
    assert line == "is the result of pca, seed 0, on test models; expected at tiny_standard/pca/seed-0.json"


def test_a_missing_file_is_one_line(results):
    predictions_path(path_of(results)).unlink()
    (line,) = problems(results)["pca"]
    assert "seed-0.predictions.parquet: cannot be read" in line


def test_the_command_fails_on_a_wrong_result(results):
    spoil(path_of(results), lambda content: content.update(seconds=1.0))
    result = CliRunner().invoke(main, ["validate", "--results", str(results)])
    assert result.exit_code == 2
    assert "pca/seed-0.json: WRONG" in result.output
    assert "error: wrong or incomplete results: 1, see above" in result.output


def rewrite(results, encoder="pca", **changes):
    """Give the result of an encoder another manifest, signed anew."""
    path = path_of(results, encoder)
    content = json.loads(path.read_text())
    manifest = content["manifest"] | changes
    digest = BenchmarkManifest.model_validate(manifest).digest
    content |= {"manifest": manifest, "benchmark_digest": digest, "sha256": ""}
    path.write_text(Result.model_validate(content).signed().model_dump_json(indent=2))


def test_a_missing_zoo_is_caught(results):
    rewrite(results, zoos=["tiny", "other"])
    assert problems(results)["pca"] == ["other: has 0 of 1 cells; expected every cell of tiny_standard"]


def test_a_missing_target_is_caught_with_the_zoo_and_without(results, tiny_zoo):
    path = path_of(results)
    others = [prediction for prediction in read_predictions(path) if prediction.target != "optimizer"]
    digest = write_predictions(others, path)

    def change(content):
        (cell,) = content["cells"]
        cell["scores"] = [score for score in cell["scores"] if score["target"] != "optimizer"]
        content["predictions_sha256"] = digest

    spoil(path, change, sign=True)
    alone = "tiny: optimizer: is missing; other results of tiny_standard have it"
    assert problems(results)["pca"] == [alone]
    with_zoo = "tiny: optimizer: is missing; expected every target of tiny_standard"
    assert problems(results, zoos=tiny_zoo.parent)["pca"] == [with_zoo]


def test_a_target_that_the_manifest_names_is_missed_even_if_no_result_has_it(results):
    rewrite(results, targets=["epoch", "test_loss"])
    assert problems(results)["pca"] == ["tiny: test_loss: is missing; expected every target of tiny_standard"]


def test_a_manifest_that_is_not_the_benchmarks_is_caught(results):
    spoil(path_of(results), lambda content: content["manifest"].update(checkpoints="last"), sign=True)
    (line,) = problems(results)["pca"]
    assert line.startswith("manifest: has the digest ")


def test_another_metric_than_the_manifests_may_not_rank(results):
    spoil(path_of(results), lambda content: content.update(reading="own"), sign=True)
    assert "reading: is 'own'; the benchmark's manifest says 'probe'" in problems(results)["pca"]


@pytest.mark.parametrize(
    ("seeds", "missing"),
    [({0}, "1, 2"), ({5}, "0, 1, 2, 3, 4"), ({0, 1, 2, 4}, "3"), ({0, 1, 2}, ""), ({0, 1, 2, 3}, "")],
)
def test_the_rules_ask_for_three_seeds_none_left_out(seeds, missing):
    lines = list(completeness.of_seeds(seeds))
    assert len(lines) == bool(missing)
    assert not missing or f"and not {missing}; " in lines[0]


def test_predictions_that_are_the_truth_are_caught_by_fitting_again(results, tiny_zoo):
    path = path_of(results)
    made_up = [replace(each, predicted=each.truth) for each in read_predictions(path)]
    content = read_result(path)
    (cell,) = content.cells
    scored = score_cell(made_up, rank_by="r2", chance=cell.chance, reading="probe")
    digests = {
        "predictions_sha256": write_predictions(made_up, path),
        "resamples_sha256": write_resamples([each.resampled for each in scored], resamples_path(path)),
    }
    cell = cell.model_copy(update={"scores": tuple(each.score for each in scored)})
    write_result(content.model_copy(update={"cells": (cell,), **digests}).signed(), path)
    for name in ("weights", "weight_statistics_without_biases"):
        shutil.rmtree(results / "tiny_standard" / name)
    assert problems(results, zoos=tiny_zoo.parent)["pca"] == []  # nothing in the files tells
    by_encoder = problems(results, zoos=tiny_zoo.parent, rerun="pca")
    assert any(
        line.startswith("tiny: epoch, r2 by the probe: is 1.0; fitting again gives 0.") for line in by_encoder["pca"]
    )
    assert problems(results, zoos=tiny_zoo.parent, rerun="weight_statistics")["weight_statistics"] == []


def test_an_encoder_to_fit_again_needs_results_and_zoos(results):
    with pytest.raises(ZooError, match="holds no results of 'mlp'"):
        list(validate(results, rerun="mlp"))
    assert problems(results, rerun="pca")["pca"] == [
        "an encoder can be fitted again only where the zoos are; expected their folder"
    ]


def test_a_result_of_an_earlier_schema_is_one_line_that_says_to_run_again(results):
    path = path_of(results)
    path.write_text(path.read_text().replace('"schema_version": 4', '"schema_version": 3'))
    (line,) = problems(results)["pca"]
    assert "is of schema 3, whose scores other probes and ranks made; expected 4" in line
    assert line.endswith("run it again")
