"""Results on validation models, and searches on these alone: test models are not looked at, and no board shows them."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from sklearn.decomposition import PCA

import zoo_bench
from zoo_bench.cli import main
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.results import read_result, tunings_path
from zoo_gen import open_zoo
from zoo_gen.errors import ZooError

TARGETS = ("test_accuracy", "learning_rate")


@pytest.fixture(scope="module")
def benchmark():
    return BenchmarkManifest(name="tiny_standard", protocol="standard", zoos=("tiny",), targets=TARGETS)


def evaluated(encoder, benchmark, zoos, **options):
    return zoo_bench.evaluate(encoder, benchmark, zoos=zoos, progress=False, **options)


def test_validation_models_are_scored_in_place_of_test_models(tiny_zoo, benchmark):
    zoo = open_zoo(tiny_zoo)
    predictions = evaluated("pca", benchmark, tiny_zoo.parent, on="validation").predictions()
    assert set(predictions["model_id"]) == set(zoo.split("validation").tolist())
    accuracy = predictions[predictions.target == "test_accuracy"]
    stored = [
        float(zoo.test_accuracy[m, zoo.checkpoint(e)]) for m, e in zip(accuracy.model_id, accuracy.epoch, strict=True)
    ]
    np.testing.assert_array_equal(accuracy["truth"], stored)


def test_a_setting_is_what_the_library_does_with_it(tiny_zoo, benchmark):
    (result,) = evaluated("pca[dimension=3]", benchmark, tiny_zoo.parent)
    assert (result.encoder, result.cells[0].dimension, result.encoder_config) == (
        "pca[dimension=3]",
        3,
        {"dimension": 3},
    )
    zoo = open_zoo(tiny_zoo)
    rows = zoo.view(zoo.split("train")).weights.reshape(-1, 100)
    encoder = zoo_bench.fit("pca[dimension=3]", zoo)
    components = encoder._components.components_
    np.testing.assert_allclose(np.abs(components), np.abs(PCA(3, random_state=0).fit(rows).components_), atol=1e-5)


def test_results_on_validation_models_stand_apart_and_are_on_no_board(tiny_zoo, benchmark, tmp_path):
    evaluated("pca", benchmark, tiny_zoo.parent, results=tmp_path, on="validation")
    path = tmp_path / "tiny_standard" / "pca" / "validation-seed-0.json"
    assert read_result(path).on == "validation"
    with pytest.raises(ZooError, match="holds results on validation models alone"):
        zoo_bench.load_results(tmp_path)
    test = evaluated("pca", benchmark, tiny_zoo.parent, results=tmp_path)[0]
    assert (test.on, "on" in json.loads((path.parent / "seed-0.json").read_text())) == ("test", True)
    assert [(result.encoder, result.on) for result in zoo_bench.load_results(tmp_path)] == [("pca", "test")]
    shown = CliRunner().invoke(main, ["leaderboard", "--results", str(tmp_path)])
    assert "on no leaderboard: 1 result on validation models" in shown.output
    assert dict(zoo_bench.validate(tmp_path, zoos=tiny_zoo.parent, rerun="pca")) == {
        path: [],
        path.with_name("seed-0.json"): [],
    }


def test_a_result_on_validation_models_under_the_name_of_another_is_found(tiny_zoo, benchmark, tmp_path):
    evaluated("weight_statistics", benchmark, tiny_zoo.parent, results=tmp_path, on="validation")
    for path in list((tmp_path / "tiny_standard" / "weight_statistics").iterdir()):
        path.rename(path.with_name(path.name.removeprefix("validation-")))
    with pytest.raises(ZooError, match="is a result on validation models; expected one on test models"):
        zoo_bench.load_results(tmp_path)
    ((_, problems),) = zoo_bench.validate(tmp_path, zoos=tiny_zoo.parent)
    assert problems[0] == (
        "is the result of weight_statistics, seed 0, on validation models; "
        "expected at tiny_standard/weight_statistics/validation-seed-0.json"
    )
    with pytest.raises(ZooError, match="was scored on validation models"):
        zoo_bench.leaderboard(evaluated("weight_statistics", benchmark, tiny_zoo.parent, on="validation"))


def poisoned(tiny_zoo, folder):
    """Copy the tiny zoo with other labels of its test models: metrics, and hyper-parameters."""
    shutil.copytree(tiny_zoo, folder / "tiny")
    zoo = open_zoo(folder / "tiny")
    test = zoo.split("test")
    for name in zoo.metrics:
        array = zoo.array(name)
        group = type(array).open(folder / "tiny" / "weights.zarr" / name)
        for model in test.tolist():
            group[model] = np.full(array.shape[1:], -1e9, np.float32)
    for path in sorted((folder / "tiny" / "models").iterdir()):
        table = pq.read_table(path)
        rates = [
            0.04 - row["learning_rate"] if row["split"] == "test" else row["learning_rate"] for row in table.to_pylist()
        ]
        column = table.column_names.index("learning_rate")
        pq.write_table(table.set_column(column, "learning_rate", [rates]), path, write_page_checksum=True)
    return folder


def test_a_search_does_not_depend_on_the_labels_of_test_models(tiny_zoo, benchmark, tmp_path):
    zoos = poisoned(tiny_zoo, tmp_path / "poisoned")
    zoos_opened = open_zoo(tiny_zoo), open_zoo(zoos / "tiny")
    for part, equal in (("validation", True), ("test", False)):
        truth = [np.array(zoo.view(zoo.split(part)).metric("test_accuracy")) for zoo in zoos_opened]
        assert np.array_equal(*truth) == equal  # or the poison does nothing
    tuned = [
        zoo_bench.tune("pca", benchmark, trials=2, zoos=folder, results=tmp_path / str(number), progress=False)
        for number, folder in enumerate((tiny_zoo.parent, zoos))
    ]
    assert len(tuned[0].tuning.trials) == 2
    values, ranks = (
        [[getattr(trial, name) for trial in each.tuning.trials] for each in tuned] for name in ("value", "mean_rank")
    )
    assert values[0] == values[1]
    assert ranks[0] == ranks[1]
    assert tuned[0].best == tuned[1].best
    assert tuned[0].results.predictions().equals(tuned[1].results.predictions())


def test_the_best_trial_is_the_one_that_a_board_of_them_puts_first(tiny_zoo, benchmark, tmp_path):
    tuned = zoo_bench.tune(
        "pca",
        benchmark,
        trials=3,
        ranges={"dimension": "2,8,40"},
        search="grid",
        zoos=tiny_zoo.parent,
        results=tmp_path,
        progress=False,
    )
    scores = tuned.results.to_pandas().query("ranks").pivot(index="target", columns="encoder", values="value")
    assert list(scores.mean().sort_index()) == pytest.approx(
        [t.value for t in sorted(tuned.tuning.trials, key=lambda t: t.encoder)]
    )
    ranks = {trial.encoder: trial.mean_rank for trial in tuned.tuning.trials}
    assert tuned.best == min(ranks, key=ranks.get)
    assert set(scores.columns) == set(ranks) == {f"pca[dimension={n}]" for n in (2, 8, 40)}


def test_results_say_how_large_the_search_was_that_chose_their_settings(tiny_zoo, benchmark, tmp_path):
    options = {"zoos": tiny_zoo.parent, "results": tmp_path, "progress": False}
    tuned = zoo_bench.tune("pca", benchmark, trials=2, **options)
    again = zoo_bench.tune("pca", benchmark, trials=2, **options)  # is there already
    assert again.tuning == tuned.tuning
    other = zoo_bench.tune("pca", benchmark, trials=2, seed=1, **options)
    (best,) = zoo_bench.evaluate(tuned.best, benchmark, **options)
    assert best.tunings[0] == tuned.tuning
    assert best.signed() == best
    (plain,) = zoo_bench.evaluate("pca", benchmark, **options)
    assert plain.tunings == (tuned.tuning, other.tuning)  # the first trial of each has no settings
    (untuned,) = zoo_bench.evaluate("pca[dimension=7]", benchmark, **options)
    assert untuned.tunings == ()
    assert all(problems == [] for _, problems in zoo_bench.validate(tmp_path, zoos=tiny_zoo.parent))
    tunings_path(tmp_path, benchmark="tiny_standard", encoder="pca").write_text("{")
    with pytest.raises(ZooError, match="cannot be read"):
        zoo_bench.evaluate("pca[dimension=9]", benchmark, **options)


def test_trials_that_fail_are_kept_with_their_reason(tiny_zoo, benchmark, tmp_path, monkeypatch):
    (tmp_path / "picky.py").write_text(
        "class Picky:\n"
        "    ranges = {'size': '1,2,3'}\n"
        "    def __init__(self, size: int = 1):\n"
        "        self.config = {'size': size}\n"
        "    def fit(self, train, validation, *, seed):\n"
        "        if self.config['size'] == 2:\n"
        "            raise ValueError('not two')\n"
        "        return self\n"
        "    def encode(self, view):\n"
        "        return view.weights[:, 0, : self.config['size']]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    tuned = zoo_bench.tune(
        "picky:Picky", benchmark, trials=3, search="grid", zoos=tiny_zoo.parent, results=tmp_path, progress=False
    )
    two = tuned.tuning.trials[1]
    assert (two.encoder, two.mean_rank, "not two" in two.message) == ("picky:Picky[size=2]", None, True)
    assert tuned.tuning.ranges == {"size": "1,2,3"}
    assert len(tuned.results) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune", "weights", "quickstart", "--trials", "2"], "encoder 'weights': declares no ranges"),
        (["tune", "pca", "quickstart", "--trials", "2", "--range", "dim=1,2"], "unknown setting 'dim'"),
        (
            ["tune", "pca", "quickstart", "--trials", "2", "--range", "dimension=a,b"],
            "dimension=a: input should be a valid integer",
        ),
        (["tune", "pcaa", "quickstart", "--trials", "2"], "unknown encoder 'pcaa'; did you mean 'pca'"),
        (
            ["tune", "pca", "quickstart", "--trials", "2", "--results", __file__],
            "test_tune.py: is a file; expected a folder",
        ),
        (["run", "quickstart", "--encoder", "pca", "--set", "dim=2"], "encoder 'pca': unknown setting 'dim'"),
        (["run", "quickstart", "--encoder", "pca", "--set", "dimension"], "'dimension': expected KEY=VALUE"),
    ],
)
def test_wrong_settings_are_one_line_before_anything_is_computed(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.splitlines()) == 1


def test_the_commands_run_on_validation_models_with_settings_and_tune(tiny_zoo, tmp_path):
    run = CliRunner().invoke
    places = ["--zoos", str(tiny_zoo.parent), "--results", str(tmp_path)]
    result = run(
        main, ["run", str(tiny_zoo), "--encoder", "pca", "--set", "dimension=4", "--on", "validation", *places]
    )
    assert result.output.startswith("tiny: pca[dimension=4], seed 0, on validation models: evaluated in")
    assert (tmp_path / "tiny" / "pca__dimension__4__" / "validation-seed-0.json").exists()
    result = run(
        main, ["tune", "pca", str(tiny_zoo), "--trials", "2", "--range", "dimension=4,5", "--search", "grid", *places]
    )
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[-2].startswith("best of 2 on validation models: pca[dimension=")
    assert lines[-1].startswith(f"on test models: zoo-bench run {tiny_zoo} --encoder 'pca[dimension=")
