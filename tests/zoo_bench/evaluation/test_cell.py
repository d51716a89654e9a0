import shutil
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import kendalltau
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from zoo_bench.evaluation import run as engine
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.results import read_result, records, result_path
from zoo_bench.scores.paper_probes import RIDGE_PENALTIES
from zoo_bench.standings import page, text
from zoo_bench.standings.boards import boards, load
from zoo_gen import open_zoo
from zoo_gen.errors import ZooError

STRANGER = """
import numpy as np

class Norms:
    config = {"order": 2}

    def fit(self, train, validation, *, seed):
        return self

    def encode(self, view):
        return np.linalg.norm(view.weights, axis=2).reshape(-1, 1)

class Largest(Norms):
    config = {"target": "test_accuracy"}

    def predict(self, view):
        return view.weights.max(axis=(1, 2))

class Half(Largest):
    def predict(self, view):
        return view.weights[:, :, 0]

class Elsewhere(Largest):
    config = {"target": "frequency"}

class Wrong(Norms):
    def encode(self, view):
        return np.zeros((3, 1))

class Infinite(Norms):
    def encode(self, view):
        return np.full((view.weights.shape[0] * view.weights.shape[1], 1), np.inf)

class Empty(Norms):
    def encode(self, view):
        return np.zeros((view.weights.shape[0] * view.weights.shape[1], 0))

class Unequal(Norms):
    def encode(self, view):
        return np.zeros((view.weights.shape[0] * view.weights.shape[1], view.weights.shape[0]))

class Complex(Norms):
    def encode(self, view):
        return Norms.encode(self, view) * 1j

class InPlace(Norms):
    def encode(self, view):
        view.weights[:] = 0
        return Norms.encode(self, view)

class FailsToFit(Norms):
    def fit(self, train, validation, *, seed):
        raise RuntimeError("no convergence")

class WithoutSeed(Norms):
    def fit(self, train, validation):
        return self

class FailsToBeMade(Norms):
    def __init__(self):
        raise ValueError("no file of weights")

class ListOfSettings(Norms):
    config = [1]

class NumpySettings(Norms):
    config = {"rate": np.float32(1)}
"""


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A module outside the package with encoders of somebody else."""
    (tmp_path / "stranger.py").write_text(STRANGER)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("stranger", None)


def run(benchmark, names, zoos, results, **options):
    return list(engine.run(benchmark, names, zoos=zoos, results=results, seeds=[0], **options))


def test_a_score_equals_the_protocol_done_by_hand(tmp_path, tiny_zoo):
    """The whole path for one number: raw weights, ridge chosen on validation, R2 of the accuracy of test models."""
    zoo = open_zoo(tiny_zoo)
    weights, accuracy = zoo.weights[:].astype(float), zoo.test_accuracy[:].astype(float)
    x = {part: weights[zoo.split(part)].reshape(-1, 100) for part in ("train", "validation", "test")}
    x = {part: np.column_stack([rows, np.ones(len(rows))]) for part, rows in x.items()}  # the intercept is penalised
    y = {part: accuracy[zoo.split(part)].ravel() for part in ("train", "validation", "test")}
    models = [Ridge(alpha=a, fit_intercept=False, solver="svd").fit(x["train"], y["train"]) for a in RIDGE_PENALTIES]
    errors = [((model.predict(x["validation"]) - y["validation"]) ** 2).mean() for model in models]
    expected = r2_score(y["test"], models[int(np.argmin(errors))].predict(x["test"]))

    benchmark = BenchmarkManifest(
        name="its", protocol="standard", zoos=("tiny",), targets=("epoch", "test_accuracy"), probe="paper"
    )
    ((result, _),) = run(benchmark, ["weights"], tiny_zoo.parent, tmp_path)
    score = next(s for s in result.cells[0].scores if (s.target, s.metric) == ("test_accuracy", "r2"))
    assert score.value == pytest.approx(expected, rel=1e-3)
    assert score.low < score.value < score.high


def test_results_say_where_they_come_from(tiny_zoo, tiny_results, tiny_benchmark):
    zoo = open_zoo(tiny_zoo)
    folder, results = tiny_results
    for result in results:
        assert read_result(result_path(folder, benchmark="tiny_standard", encoder=result.encoder, seed=0)) == result
        assert result.benchmark_digest == tiny_benchmark.digest
        (cell,) = result.cells
        assert cell.source == cell.test
        test = cell.test
        assert (test.revision, test.split_sha256, test.digest) == (zoo.revision, zoo.split_sha256, zoo.digest)
        assert (cell.train_models, cell.validation_models, cell.test_models) == (24, 8, 8)
        assert all(score.low <= score.high for score in cell.scores if score.value is not None)


def test_only_what_is_missing_or_changed_is_computed(tmp_path, tiny_zoo, tiny_benchmark, tiny_results):
    folder = tmp_path / "results"
    shutil.copytree(tiny_results[0], folder)
    names = ["weights", "pca"]
    assert [new for _, new in run(tiny_benchmark, names, tiny_zoo.parent, folder)] == [False, False]
    result_path(folder, benchmark="tiny_standard", encoder="pca", seed=0).unlink()
    assert [new for _, new in run(tiny_benchmark, names, tiny_zoo.parent, folder)] == [False, True]
    other = tiny_benchmark.model_copy(update={"targets": ("epoch",)})
    other.__dict__.pop("digest", None)
    assert [new for _, new in run(other, names, tiny_zoo.parent, folder, rerun="never")] == [False, False]
    assert [new for _, new in run(other, names, tiny_zoo.parent, folder)] == [True, True]
    assert [new for _, new in run(other, names, tiny_zoo.parent, folder, rerun="always")] == [True, True]


def test_a_second_computation_gives_the_same_scores(tmp_path, tiny_zoo, tiny_benchmark, tiny_results):
    """Of the two among the four that compute something before the probes do."""
    first = {result.encoder: result for result in tiny_results[1]}
    for result, _ in run(tiny_benchmark, ["weight_statistics", "pca"], tiny_zoo.parent, tmp_path, rerun="always"):
        assert result.cells[0].scores == first.pop(result.encoder).cells[0].scores
    assert set(first) == {"weights", "weight_statistics_without_biases"}


def test_a_strangers_encoder_is_evaluated(tmp_path, tiny_zoo, tiny_benchmark, stranger):
    ((result, _),) = run(tiny_benchmark, ["stranger:Norms"], tiny_zoo.parent, tmp_path / "results")
    assert result.encoder_config == {"order": 2}
    assert result.cells[0].dimension == 1
    assert result_path(tmp_path / "results", benchmark="tiny_standard", encoder="stranger:Norms", seed=0).exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stranger:Wrong", r"encode returned shape \(3, 1\); expected \(120, dimension\)"),
        ("stranger:Half", "predict returned shape"),
        ("stranger:Infinite", "encode returned numbers that are not finite"),
        ("stranger:Empty", r"encode returned embeddings of dimensions \[0\]; expected one, at least 1"),
        ("stranger:Unequal", r"encode returned embeddings of dimensions \[40, 120\]; expected one"),
        ("stranger:Complex", "encode returned values of type complex64; expected real numbers"),
        ("stranger:InPlace", r"encode: ValueError: .*read-only \(stranger\.py, line 48\)"),
        ("stranger:FailsToFit", r"fit: RuntimeError: no convergence \(stranger\.py, line 53\)"),
        ("stranger:WithoutSeed", "fit: TypeError: .*unexpected keyword argument 'seed'"),
        ("stranger:FailsToBeMade", r"cannot be made \(ValueError: no file of weights\); .* \(stranger\.py, line 61\)"),
        ("stranger:ListOfSettings", r"cannot be used: config is \[1\]; expected a dictionary of plain data"),
        ("stranger:NumpySettings", "cannot be used: config: Object of type float32 is not JSON serializable; exp"),
    ],
)
def test_an_encoder_that_fails_is_named(tmp_path, tiny_zoo, tiny_benchmark, stranger, name, message):
    with pytest.raises(ZooError, match=f"encoder '{name}': {message}"):
        run(tiny_benchmark, [name], tiny_zoo.parent, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_what_a_supervised_encoder_predicts_is_scored_beside_the_probes(tmp_path, tiny_zoo, tiny_benchmark, stranger):
    ((result, _),) = run(tiny_benchmark, ["stranger:Largest"], tiny_zoo.parent, tmp_path / "results")
    by_encoder = {score.metric: score for score in result.cells[0].scores if score.by == "encoder"}
    zoo = open_zoo(tiny_zoo)
    predicted = zoo.weights[:][zoo.split("test")].max(axis=2).ravel().astype(float)
    truth = zoo.test_accuracy[:][zoo.split("test")].ravel().astype(float)
    assert by_encoder["r2"].value == pytest.approx(r2_score(truth, predicted))
    assert by_encoder["kendall_tau"].value == pytest.approx(kendalltau(truth, predicted).statistic)
    assert {score.target for score in by_encoder.values()} == {"test_accuracy"}
    assert not any(score.ranks for score in by_encoder.values())
    assert {score.by for score in result.cells[0].scores} == {"probe", "encoder", "recipe", "mean"}


def test_a_target_that_the_benchmark_does_not_ask_for_is_not_scored(tmp_path, tiny_zoo, tiny_benchmark, stranger):
    ((result, _),) = run(tiny_benchmark, ["stranger:Elsewhere"], tiny_zoo.parent, tmp_path / "results")
    assert {score.by for score in result.cells[0].scores} == {"probe", "recipe", "mean"}


def test_the_leaderboard_shows_own_predictions_in_rows_of_their_own(tmp_path, tiny_zoo, tiny_benchmark, stranger):
    for name in ("stranger:Largest", "stranger:Norms"):
        run(tiny_benchmark, [name], tiny_zoo.parent, tmp_path / "results")
    loaded = load(tmp_path / "results")
    shown = boards(loaded)
    lines = [line for line in text.text(shown, loaded).splitlines() if "test_accuracy, by encoders" in line]
    assert any("R²" in line for line in lines)
    assert all(" - " in line or line.endswith("-") for line in lines)
    assert 'data-target="test_accuracy" data-metric="r2" data-by="encoder"' in page.html(shown, loaded)


def test_a_missing_zoo_says_how_to_make_it(tmp_path, tiny_benchmark):
    with pytest.raises(ZooError, match="tiny: no such zoo; "):
        run(tiny_benchmark, ["weights"], tmp_path, tmp_path / "results")


def test_predictions_of_floors_lie_apart(tiny_results):
    """Who reads the predictions of a target by its name gets each test row once."""
    path = next(tiny_results[0].glob("*/pca/seed-0.json"))
    rows = pq.read_table(records.predictions_path(path)).to_pylist()
    keys = [(row["cell"], row["target"], row["model_id"], row["epoch"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert {row["by"] for row in rows} == {"probe"}
    assert {row["by"] for row in pq.read_table(records.floors_path(path)).to_pylist()} == {"recipe", "mean"}
