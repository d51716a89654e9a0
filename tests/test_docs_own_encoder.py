"""docs/own_encoder.md: its examples conform, are tuned, predict, and are saved and loaded as the page says."""

import inspect
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.linear_model import Ridge as SklearnRidge

import zoo_bench
from zoo_bench.cli import main
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.evaluation import mock
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.problem import Problem
from zoo_bench.protocol.views import TrainingView
from zoo_gen import open_zoo

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "own_encoder.md").read_text()


@pytest.fixture(autouse=True)
def in_the_folder_of_examples(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "examples")
    monkeypatch.chdir(DOCS / "examples")
    yield
    sys.modules.pop("ridge", None)


@pytest.fixture(scope="module")
def benchmark():
    return BenchmarkManifest(
        name="its", protocol="standard", zoos=("tiny",), targets=("epoch", "test_accuracy"), reading="own"
    )


@pytest.mark.usefixtures("dry_runs_share_zoos")
def test_the_supervised_example_conforms_and_predicts():
    findings = {finding.what: finding for finding in mock.mock("ridge:Ridge")}
    assert "FAILED" not in {finding.state for finding in findings.values()}
    assert "test_accuracy" in findings["predict"].detail


def test_the_supervised_example_is_ridge_regression(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    encoder = zoo_bench.fit("ridge:Ridge[penalty=3.0]", zoo, target="test_accuracy")
    train = TrainingView.of(zoo.view(zoo.split("train")))
    features = (encoder.encode(train) - encoder.mean) / encoder.deviation
    labels = train.target("test_accuracy").reshape(-1)
    # scikit-learn leaves the intercept unpunished; ours is a column like the others.
    other = SklearnRidge(alpha=3.0, fit_intercept=False).fit(
        np.column_stack([np.ones(len(features)), features]), labels
    )
    np.testing.assert_allclose(encoder.weights, other.coef_, rtol=1e-6, atol=1e-9)


@pytest.mark.thorough  # evaluation/test_tune.py has the quick form, with an encoder that ships
def test_it_is_tuned_on_validation_and_ranks_beside_others(tiny_zoo, benchmark, tmp_path):
    options = {"zoos": tiny_zoo.parent, "results": tmp_path, "progress": False}
    tuned = zoo_bench.tune("ridge:Ridge", benchmark, trials=3, **options)
    assert tuned.tuning.ranges == {"penalty": "1e-2..1e3 log", "quantiles": "5,11,21"}
    zoo_bench.evaluate([tuned.best, "weight_statistics"], benchmark, **options)
    board = zoo_bench.leaderboard(tmp_path)
    assert {row.encoder for row in board.results.standings.rows} == {tuned.best, "weight_statistics"}
    scores = board.to_pandas().query("ranks and encoder == @tuned.best")
    assert set(scores["by"]) == {"own"}  # its own predictions rank


def test_it_is_saved_and_loaded_by_the_command(tiny_zoo, tmp_path):
    run, first, second = CliRunner().invoke, tmp_path / "first.npz", tmp_path / "second.npz"
    save, load = ["--save", str(tmp_path / "saved")], ["--load", str(tmp_path / "saved")]
    for options, out in ((save, first), (load, second)):
        done = run(main, ["encode", str(tiny_zoo), "--encoder", "ridge:Ridge", *options, "--out", str(out)])
        assert done.exit_code == 0, done.output
    with np.load(first) as one, np.load(second) as other:
        np.testing.assert_array_equal(one["prediction"], other["prediction"])
        np.testing.assert_array_equal(one["embedding"], other["embedding"])


def test_the_example_with_a_fixed_target_predicts_it_alone(tiny_zoo, benchmark):
    (result,) = zoo_bench.evaluate(examples()["MeanAccuracy"](), benchmark, zoos=tiny_zoo.parent, progress=False)
    by_encoder = {
        score.target: score for score in result.cells[0].scores if score.by == "encoder" and score.metric == "mae"
    }
    assert set(by_encoder) == {"test_accuracy"}
    zoo = open_zoo(tiny_zoo)
    mean = np.mean(np.array(zoo.view(zoo.split("train")).metric("test_accuracy"), np.float64))
    truth = zoo.view(zoo.split("test")).metric("test_accuracy")
    assert by_encoder["test_accuracy"].value == pytest.approx(np.abs(truth - mean).mean(), abs=1e-6)


def test_the_example_that_selects_has_the_penalty_that_the_validation_models_like_best(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    encoder = zoo_bench.fit(examples()["Selected"], zoo, target="test_accuracy")
    train, validation = (TrainingView.of(zoo.view(zoo.split(part))) for part in ("train", "validation"))
    rows, others = encoder.encode(train), encoder.encode(validation)
    truth = validation.target("test_accuracy").reshape(-1)
    errors = {}
    for penalty in encoder.config["penalties"]:
        ridge = SklearnRidge(alpha=penalty, fit_intercept=False)
        ridge.fit(rows, train.target("test_accuracy").reshape(-1) - encoder.mean)
        errors[((ridge.predict(others) + encoder.mean - truth) ** 2).mean()] = ridge.coef_
    np.testing.assert_allclose(encoder.weights, errors[min(errors)], rtol=1e-4, atol=1e-7)


def examples():
    """What the Python of the page defines."""
    names: dict[str, object] = {"__name__": "__main__"}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        exec(compile(block, "own_encoder.md", "exec"), names)
    return names


def test_the_page_names_what_there_is():
    listed = set(re.findall(r"^\| `(\w+)", PAGE, re.MULTILINE))
    assert {"config", "fit", "encode", "predict", "can_learn", "save", "ranges", "runtime"} <= listed
    problem = re.search(r"\*\*`problem`\*\* has (.*?)\. Labels", PAGE, re.DOTALL)[1]
    assert set(re.findall(r"`(\w+)`", problem)) - {"predict"} == set(inspect.signature(Problem).parameters)
    assert hasattr(Runtime(), "torch_device")
    for attribute in ("weights", "epochs", "layout", "target", "metric", "hyperparameter", "zoo"):
        assert attribute in {*TrainingView.__dataclass_fields__, *dir(TrainingView)}
