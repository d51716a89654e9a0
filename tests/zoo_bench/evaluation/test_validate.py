import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from zoo_bench.cli import main
from zoo_bench.evaluation.validate import validate
from zoo_bench.results import Result
from zoo_bench.results.records import predictions_path, resamples_path


@pytest.fixture
def results(tmp_path, tiny_results):
    """A copy of the results to spoil."""
    shutil.copytree(tiny_results[0], tmp_path / "results")
    return tmp_path / "results"


def path_of(results, encoder="pca"):
    return results / "tiny_standard" / encoder / "seed-0.json"


def problems(results, **options):
    return {path.parent.name: found for path, found in validate(results, **options)}


def spoil(path, change, *, sign=False):
    content = json.loads(path.read_text())
    change(content)
    result = Result.model_validate(content)
    path.write_text((result.signed() if sign else result).model_dump_json(indent=2))


def test_what_run_wrote_is_right(results, tiny_zoo):
    assert not any(problems(results, zoos=tiny_zoo.parent).values())
    found = CliRunner().invoke(main, ["validate", "--results", str(results), "--zoos", str(tiny_zoo.parent)])
    assert found.exit_code == 0
    assert found.output.count(": right") == 4


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
    found = problems(results)
    assert any("something was changed" in line for line in found["pca"])
    assert not found["weights"]


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


def test_mixed_splits_are_caught(results):
    def change(content):
        content["cells"][0]["test"]["split_sha256"] = "f" * 64

    spoil(path_of(results), change, sign=True)
    found = [line for lines in problems(results).values() for line in lines]
    assert any("split_sha256 of tiny is" in line and line.endswith("; expected one") for line in found)


def test_a_missing_file_is_one_line(results):
    predictions_path(path_of(results)).unlink()
    (line,) = problems(results)["pca"]
    assert "seed-0.predictions.parquet: cannot be read" in line


def test_the_command_fails_on_a_wrong_result(results):
    spoil(path_of(results), lambda content: content.update(seconds=1.0))
    found = CliRunner().invoke(main, ["validate", "--results", str(results)])
    assert found.exit_code == 2
    assert "pca/seed-0.json: WRONG" in found.output
    assert "error: 1 results are wrong" in found.output
