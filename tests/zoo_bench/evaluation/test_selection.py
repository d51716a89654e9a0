"""What encoders may know of the validation models: how predictions of them score, and no label."""

import dataclasses

import numpy as np
import pytest

import zoo_bench
from tests.zoo_bench.evaluation import cheats
from zoo_bench.evaluation import run as engine
from zoo_bench.evaluation.candidate import Candidate
from zoo_bench.evaluation.fit_input import FitInput
from zoo_bench.evaluation.fitting import fitted_process
from zoo_bench.protocol import protocols
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.problem import Problem
from zoo_bench.protocol.selection import Selection
from zoo_gen import open_zoo
from zoo_gen.errors import ZooError

PROBLEM = Problem(metric="r2", checkpoints="all", targets=("test_accuracy", "epoch"))


def evaluated(encoder, zoo, folder, *targets):
    benchmark = BenchmarkManifest(name="its", protocol="standard", zoos=("tiny",), targets=targets)
    name = f"{encoder.__module__}:{encoder.__qualname__}"
    ((result, _),) = engine.run(benchmark, [name], zoos=zoo.parent, results=folder, seeds=[0])
    return result


def config_after_fit(encoder, cell):
    with fitted_process(Candidate.of(encoder), cell, PROBLEM, seed=0, runtime=None) as (_, facts, _):
        return facts["config"]


@pytest.fixture(scope="module")
def cell(tiny_zoo):
    return protocols.standard_cell(open_zoo(tiny_zoo))


def test_who_asks_for_labels_of_validation_models_learns_from_training_models_alone(tmp_path, tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    result = evaluated(cheats.LearnsSelection, tiny_zoo, tmp_path, "test_accuracy")
    assert not result.failures
    assert result.encoder_config["models"] == sorted(zoo.split("train").tolist())
    assert "a part of the training models" in result.encoder_config["validation_models"]
    honest = evaluated(cheats.Forest, tiny_zoo, tmp_path, "test_accuracy")
    assert "validation_models" not in honest.encoder_config
    in_this_process = zoo_bench.fit(cheats.LearnsSelection, tiny_zoo)
    assert in_this_process.config["models"] == sorted(zoo.split("train").tolist())


def test_nothing_that_leads_to_a_label_is_told(cell):
    config = config_after_fit(cheats.LooksAtSelection, cell)
    assert not config["told"]
    assert set(config["refused"]) == {name for name, *_ in cheats.LABELS}
    assert all("of validation models is not told" in line for line in config["refused"].values())
    assert config["models"] == len(cell.train[0].models)  # who goes on without labels keeps all training models


def test_who_cannot_go_on_without_labels_gets_other_models_and_all_of_theirs(cell):
    config = config_after_fit(cheats.InsistsOnSelection, cell)
    assert set(config["told"]) == {name for name, *_ in cheats.LABELS}
    assert config["models"] + config["others"] == len(cell.train[0].models)


def test_rows_to_select_on_come_in_one_order_that_says_nothing(cell):
    (view,) = cell.validation
    first, again = (FitInput.of(cell, PROBLEM, seed=seed).validation[0] for seed in (0, 1))
    rows = view.weights.reshape(-1, view.layout.size)
    np.testing.assert_array_equal(first.weights, again.weights)
    assert sorted(map(bytes, first.weights[:, 0])) == sorted(map(bytes, rows))
    assert not np.array_equal(first.weights[:, 0], rows)
    other = FitInput.of(cell, dataclasses.replace(PROBLEM, targets=("test_accuracy",)), seed=0).validation[0]
    assert not np.array_equal(first.weights, other.weights)


def test_scores_are_those_of_the_rows_in_the_order_that_is_shown(cell):
    """The true labels, sorted as the rows are, have the best score; in the zoo's order they do not."""
    cell = protocols.standard_cell(cell.zoo, checkpoints="last")  # no two rows are the same there
    (view,) = cell.validation
    fit_input = FitInput.of(cell, PROBLEM, seed=0)
    known = {
        bytes(row): label for row, label in zip(view.weights.reshape(-1, view.layout.size), _truth(view), strict=True)
    }
    labels = np.array([known[bytes(row)] for row in fit_input.validation[0].weights[:, 0]])
    assert fit_input.selection.score(_truth(view)) < 0.9
    assert fit_input.selection.score(labels) == pytest.approx(1)


def test_an_encoder_selects_by_scores_of_numbers_and_of_names(tmp_path, tiny_zoo):
    result = evaluated(cheats.Selects, tiny_zoo, tmp_path, "test_accuracy", "optimizer")
    assert not result.failures
    assert {score.target for score in result.cells[0].scores if score.by == "encoder"} == {"test_accuracy", "optimizer"}
    assert len(set(result.encoder_config["scores"])) > 1
    assert "validation_models" not in result.encoder_config


def test_the_scores_that_a_process_is_told_are_those_of_the_labels(cell):
    config = config_after_fit(cheats.Selects, cell)
    (view,) = cell.validation
    random, encoder = np.random.default_rng(0), cheats.Selects()
    encoder.names = None
    rows = encoder.encode(dataclasses.replace(FitInput.of(cell, PROBLEM, seed=0).validation[0], weights=_flat(view)))
    selection = Selection("test_accuracy", "r2", _truth(view))
    for score in config["scores"]:
        assert score == selection.score(encoder._values((random.normal(size=2), random.normal()), rows))


def test_scores_have_an_end(tmp_path, tiny_zoo):
    with pytest.raises(ZooError, match=r"SelectsForever': fit: asked for more than 1000 scores of validation models"):
        evaluated(cheats.SelectsForever, tiny_zoo, tmp_path, "test_accuracy")


def _truth(view):
    return view.metric("test_accuracy").astype(float).ravel()


def _flat(view):
    return view.weights.reshape(-1, 1, view.layout.size)
