"""statistics_boosting learns from every checkpoint that is tested, and predicts test accuracy from them well."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from zoo_bench.encoders.baselines.statistics_boosting import MOST_TREES, StatisticsBoosting
from zoo_bench.encoders.baselines.tensor_statistics import view_statistics
from zoo_bench.evaluation.rows import InThisProcess, predict_views
from zoo_bench.protocol.problem import Problem
from zoo_bench.protocol.protocols import standard_cell
from zoo_bench.protocol.targets import Target
from zoo_bench.protocol.views import TrainingView
from zoo_gen import engine, open_zoo
from zoo_gen.manifest import find_manifest

SMALL = """
name = "small"
description = "a zoo for a test"

[data]
source = "digits"

[architecture]
name = "mlp"
widths = [64, 8, 10]

[training]
epochs = 5
batch_size = 64
initialization = "xavier_uniform"
optimizer = "adam"
activation = "relu"

[axes.product]
learning_rate = [1e-4, 5e-4, 2e-3, 1e-2]
seed = { range = [1, 21] }

[split]
train = 0.6
validation = 0.2
test = 0.2
"""


def read(views):
    """Return the statistics of all tensors (row, feature), and the test accuracy (row,)."""
    rows = [view_statistics(view) for view in views]
    return np.concatenate([each.reshape(-1, each.shape[2]) for each in rows]), Target("test_accuracy").of_rows(views)


def r2_on_test_models(zoo, *, most_trees=MOST_TREES):
    """Return R2 of predicted test accuracy over all checkpoints of the test models."""
    cell = standard_cell(zoo)
    parts = [[TrainingView.of(view) for view in views] for views in (cell.train, cell.validation)]
    problem = Problem(target="test_accuracy", checkpoints="all", metric="r2")
    encoder = StatisticsBoosting(most_trees=most_trees).fit(*parts, problem=problem, seed=0)
    views = cell.tests[0].views
    predicted = predict_views(InThisProcess("statistics_boosting", encoder), views)
    return r2_score(Target("test_accuracy").of_rows(views), predicted)


@pytest.mark.thorough  # test_baselines.py has the quick form, on weights that no network computes with
def test_accuracies_of_a_small_zoo_are_predicted_better_than_by_a_ridge_on_the_same_statistics(tmp_path):
    (tmp_path / "small.toml").write_text(SMALL)
    engine.run(tmp_path / "small.toml", tmp_path / "small", workers=1)
    zoo = open_zoo(tmp_path / "small")
    train, test = (read(views) for views in (standard_cell(zoo).train, standard_cell(zoo).tests[0].views))
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13))).fit(*train)
    assert r2_on_test_models(zoo, most_trees=400) > max(0.9, r2_score(test[1], ridge.predict(test[0])))


@pytest.mark.slow
def test_accuracies_of_digits_hyp_are_predicted(tmp_path):
    engine.run(find_manifest("digits_hyp"), tmp_path / "digits_hyp")
    assert r2_on_test_models(open_zoo(tmp_path / "digits_hyp")) > 0.95
