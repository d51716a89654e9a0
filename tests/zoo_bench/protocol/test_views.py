import gc
import sys

import numpy as np
import pytest

from zoo_bench.evaluation import run
from zoo_bench.protocol.views import HiddenRows, TrainingView
from zoo_bench.results import result_path
from zoo_bench.results.records import read_predictions
from zoo_gen import open_zoo
from zoo_gen.errors import ZooError

CHEATS = """
import numpy as np

class Cheat:
    config = {}

    def fit(self, train, validation, *, seed):
        self.train = train
        return self

class ReadsAccuracy(Cheat):
    def encode(self, view):
        return view.metric("test_accuracy").reshape(-1, 1)

class ReadsEpochs(Cheat):
    def encode(self, view):
        return np.tile(view.epochs, len(view.weights)).reshape(-1, 1)

class AsksTheZoo(Cheat):
    def encode(self, view):
        return view.zoo.test_accuracy[:].reshape(-1, 1)

class ReadsModels(Cheat):
    def encode(self, view):
        return np.repeat(view.models, 5).reshape(-1, 1)

class AsksTheZooOfTheTrainingModels(Cheat):
    def encode(self, view):
        return self.train[0].zoo.test_accuracy[:].reshape(-1, 1)

class CountsRows(Cheat):
    # The epoch from the place of a row: five checkpoints a model.
    def encode(self, view):
        return (np.arange(len(view.weights)) % 5).reshape(-1, 1).astype(float)

class PredictsFromLabels(Cheat):
    config = {"target": "test_accuracy"}

    def encode(self, view):
        return view.weights[:, 0, :1]

    def predict(self, view):
        return view.metric("test_accuracy").reshape(-1)
"""


@pytest.fixture
def cheats(tmp_path, monkeypatch):
    (tmp_path / "cheats.py").write_text(CHEATS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("cheats", None)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("ReadsAccuracy", "'WeightsView' object has no attribute 'metric'"),
        ("ReadsEpochs", "'WeightsView' object has no attribute 'epochs'"),
        ("AsksTheZoo", "'WeightsView' object has no attribute 'zoo'"),
        ("ReadsModels", "'WeightsView' object has no attribute 'models'"),
        ("AsksTheZooOfTheTrainingModels", "'ZooFacts' object has no attribute 'test_accuracy'"),
        ("PredictsFromLabels", "'WeightsView' object has no attribute 'metric'"),
    ],
)
def test_who_reads_labels_of_what_it_encodes_is_refused(tmp_path, tiny_zoo, tiny_benchmark, cheats, name, what):
    with pytest.raises(ZooError, match=what):
        list(run.run(tiny_benchmark, [f"cheats:{name}"], zoos=tiny_zoo.parent, results=tmp_path / "r", seeds=[0]))


def test_the_place_of_a_row_tells_nothing(tmp_path, tiny_zoo, tiny_benchmark, cheats):
    with pytest.raises(ZooError, match=r"row \d+ \(model \d+, epoch \d\) changed"):  # it is another one each time
        list(run.run(tiny_benchmark, ["cheats:CountsRows"], zoos=tiny_zoo.parent, results=tmp_path, seeds=[0]))


def reachable(start):
    """All objects that can be reached from one, but for modules, classes and functions."""
    seen, waiting = {}, [start]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type(sys) | type | type(reachable)):
            continue
        seen[id(thing)] = thing
        waiting += gc.get_referents(thing)
    return seen.values()


def test_no_way_leads_from_a_view_to_the_zoo(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    view = zoo.view(zoo.split("train"))
    for shown in (HiddenRows.of(view).view, TrainingView.of(view)):
        assert not [
            reached for reached in reachable(shown) if type(reached).__name__ in ("Zoo", "ZooView", "Array", "Table")
        ]


def test_a_training_view_has_the_labels_of_its_own_models_alone(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    models = zoo.split("validation")
    view, shown = zoo.view(models), TrainingView.of(zoo.view(models))
    np.testing.assert_array_equal(shown.weights, view.weights)
    for name in (*zoo.metrics, "generalization_gap"):
        np.testing.assert_array_equal(shown.metric(name), view.metric(name))
    np.testing.assert_array_equal(shown.hyperparameter("optimizer"), view.hyperparameter("optimizer"))
    assert shown.epochs.tolist() == view.epochs.tolist()
    assert shown.zoo.metrics == zoo.metrics
    with pytest.raises(ZooError, match="unknown metric 'val_accuracy'"):
        shown.metric("val_accuracy")
    with pytest.raises(ZooError, match="unknown column 'depth'"):
        shown.hyperparameter("depth")


@pytest.mark.parametrize("column", ["test_accuracy", "status", "sha256", "train_loss", "generalization_gap"])
def test_a_training_view_has_nothing_that_follows_from_later_epochs(tiny_zoo, column):
    view = TrainingView.of(open_zoo(tiny_zoo).view([3, 17, 5], epochs=[0, 1]))
    with pytest.raises(ZooError, match=f"unknown column '{column}'"):
        view.hyperparameter(column)
    assert view.hyperparameter("model_id").tolist() == [3, 17, 5]
    assert view.metric("test_accuracy").shape == (3, 2)


def test_a_training_view_has_the_targets_of_benchmarks(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    view = zoo.view([39, 5])
    learned = TrainingView.of(view)
    rate = view.hyperparameter("learning_rate")
    expected = {
        "epoch": [[0, 1, 2, 3, 4]] * 2,
        "test_accuracy": zoo.test_accuracy[:][[39, 5]],
        "generalization_gap": zoo.train_accuracy[:][[39, 5]] - zoo.test_accuracy[:][[39, 5]],
        "test_class_f1_2": zoo.test_class_f1[:][[39, 5]][:, :, 2],
        "log10_learning_rate": [[np.log10(value)] * 5 for value in rate],
        "optimizer": [["sgd"] * 5, ["adam"] * 5],
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(learned.target(name), values)
    running = zoo.metric("running_accuracy")[:][[39, 5]]
    assert np.isnan(running[:, 0]).all()
    running[:, 0] = zoo.train_accuracy[:][[39, 5], 0]  # nothing ran before epoch 0
    np.testing.assert_array_equal(learned.target("running_gap"), running - zoo.test_accuracy[:][[39, 5]])


def test_the_order_of_rows_is_another_one_each_time(tiny_zoo):
    view = open_zoo(tiny_zoo).view([3, 17, 5])
    np.random.seed(0)
    orders = {tuple(HiddenRows.of(view).order) for _ in range(5)}
    assert len(orders) == 5


def test_rows_come_back_in_order(tiny_zoo):
    view = open_zoo(tiny_zoo).view([3, 17, 5])
    rows = HiddenRows.of(view)
    assert rows.view.weights.shape == (15, 1, 100)
    np.testing.assert_array_equal(rows.in_order(rows.view.weights[:, 0]), view.weights.reshape(15, 100))
    assert not np.array_equal(rows.view.weights[:, 0], view.weights.reshape(15, 100))
    with pytest.raises(ValueError, match="read-only"):
        rows.view.weights[:] = 0


def test_the_stored_truth_is_the_zoos(tmp_path, tiny_zoo, tiny_results):
    zoo = open_zoo(tiny_zoo)
    path = result_path(tiny_results[0], benchmark="tiny_standard", encoder="weights", seed=0)
    predictions = {prediction.target: prediction for prediction in read_predictions(path)}
    accuracy = predictions["test_accuracy"]
    rows = zoo.test_accuracy[:].astype(float)
    assert accuracy.truth.tolist() == [
        rows[model, epoch] for model, epoch in zip(accuracy.models, accuracy.epochs, strict=True)
    ]
    assert set(predictions["optimizer"].truth) == {"adam", "sgd"}
