"""Which of two readings ranks, and what is said of rows without a true value."""

import numpy as np
import pytest
from sklearn.metrics import r2_score

from zoo_bench.results.records import TargetPrediction
from zoo_bench.results.scoring import score_cell


def prediction(target, *, by="probe", noise=0.1, missing=0):
    random = np.random.RandomState(sum(map(ord, target + by)))
    truth = random.random_sample(40)
    predicted = truth + noise * random.standard_normal(40)
    truth[:missing] = np.nan
    models, epochs = np.repeat(np.arange(20), 2), np.tile([0, 1], 20)
    return TargetPrediction("zoo", target, by, None, models, epochs, truth, predicted)


def ranking(predictions, **options):
    scored = score_cell(predictions, **{"rank_by": "r2", "chance": None, "reading": "own"} | options)
    return {(one.score.target, one.score.by) for one in scored if one.score.ranks}


def test_the_encoders_own_prediction_ranks_where_there_is_one_and_the_benchmark_says_so():
    several = [prediction("epoch"), prediction("test_accuracy"), prediction("test_accuracy", by="encoder")]
    assert ranking(several) == {("epoch", "probe"), ("test_accuracy", "encoder")}
    assert ranking(several, reading="probe") == {("epoch", "probe"), ("test_accuracy", "probe")}


@pytest.mark.parametrize("learned", [0, 1, 2])
def test_the_mean_over_classes_is_the_encoders_own_where_it_learned_them_all(learned):
    classes = [f"test_class_f1_{number}" for number in range(2)]
    several = [prediction(name) for name in classes]
    several += [prediction(name, by="encoder", noise=0.3) for name in classes[:learned]]
    scored = score_cell(several, rank_by="r2", chance=None, reading="own")
    means = {
        one.score.by: one.score for one in scored if (one.score.target, one.score.metric) == ("test_class_f1", "r2")
    }
    assert {by for by, score in means.items() if score.ranks} == {"encoder" if learned == 2 else "probe"}
    assert set(means) == ({"probe", "encoder"} if learned == 2 else {"probe"})
    for by, score in means.items():
        by_one = [p for p in several if p.by == by]
        assert score.value == pytest.approx(np.mean([r2_score(p.truth, p.predicted) for p in by_one]))


def test_rows_without_a_true_value_are_left_out_and_counted():
    several = prediction("test_accuracy", missing=3)
    scores = {one.score.metric: one.score for one in score_cell([several], rank_by="r2", chance=0.1, reading="probe")}
    assert {score.left_out for score in scores.values()} == {3}
    assert scores["r2"].value == pytest.approx(r2_score(several.truth[3:], several.predicted[3:]))


def test_above_chance_is_left_out_where_nobody_knows_the_classes():
    several = prediction("test_accuracy")
    metrics = {one.score.metric for one in score_cell([several], rank_by="r2", chance=None, reading="probe")}
    assert "kendall_tau_above_chance" not in metrics
    assert "kendall_tau" in metrics
