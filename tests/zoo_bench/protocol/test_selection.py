"""Scores of predictions of validation models, against scipy and scikit-learn, and what is refused."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import r2_score

from zoo_bench.protocol.problem import Problem
from zoo_bench.protocol.selection import Selection
from zoo_gen.errors import ZooError


def numbers(count=400, *, noise=0.5, seed=0):
    random = np.random.default_rng(seed)
    truth = random.uniform(size=count)
    return truth, truth + noise * random.normal(size=count)


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("metric", ["r2", "kendall_tau"])
def test_a_score_is_r2_or_its_mean_with_tau(metric, noise):
    truth, predicted = numbers(noise=noise)
    expected = max(r2_score(truth, predicted), -1)
    if metric == "kendall_tau":
        expected = (expected + stats.kendalltau(truth, predicted).statistic) / 2
    score = Selection("a", metric, truth).score(predicted)
    assert 1 - score == pytest.approx(1 - expected, rel=0.05 / np.sqrt(len(truth)))


def test_digits_that_a_single_label_would_change_are_rounded_off():
    truth, predicted = numbers()
    scores = set()
    for row in range(100):
        changed = predicted.copy()
        changed[row] += 0.02 if row % 2 else -0.02
        scores.add(Selection("a", "r2", truth).score(changed))
    assert len(scores) <= 2


def test_rows_without_a_label_count_for_nothing():
    truth, predicted = numbers()
    holes = truth.copy()
    holes[::7] = np.nan
    selection = Selection("a", "r2", holes)
    present = np.isfinite(holes)
    assert selection.left_out == (~present).sum()
    assert selection.score(predicted) == Selection("a", "r2", truth[present]).score(predicted[present])
    names = np.array(["tanh", "relu", "", "relu"])
    assert Selection("a", "accuracy", names).score(np.array(["tanh", "tanh", "tanh", "relu"])) == pytest.approx(
        2 / 3, abs=0.03
    )


def test_all_is_defined_where_labels_are_alike_or_predictions_are_wild():
    alike = Selection("a", "r2", np.full(200, 0.5))
    assert alike.score(np.full(200, 0.5)) == 1
    assert alike.score(np.full(200, 0.6)) > alike.score(np.full(200, 0.9))
    truth, _ = numbers()
    for wild in (np.full(400, 1e300), np.full(400, np.inf), np.full(400, np.nan)):
        assert Selection("a", "r2", truth).score(wild) == pytest.approx(-1, abs=0.02)


def test_a_part_of_the_rows_is_always_the_same_part_and_not_a_few():
    truth, predicted = numbers()
    selection, rows = Selection("a", "r2", truth), np.arange(0, 400, 2)
    assert selection.score(predicted[rows], rows=rows) == Selection("a", "r2", truth[rows]).score(predicted[rows])
    with pytest.raises(ZooError, match="other rows to score than before"):
        selection.score(predicted[rows], rows=rows + 1)
    for few in (rows[:3], np.arange(127)):
        with pytest.raises(ZooError, match=r"\d+ rows to score; expected 128 or more of the 400 rows"):
            Selection("a", "r2", truth).score(predicted[few], rows=few)


@pytest.mark.parametrize(
    ("predicted", "rows", "message"),
    [
        (np.zeros(3), None, r"have shape \(3,\); expected \(400,\), a value a row"),
        (np.zeros((400, 1)), None, r"have shape \(400, 1\); expected \(400,\)"),
        (np.zeros(400).astype(str), None, "are of type <U32; expected numbers"),
        (np.zeros(400), np.zeros(400, int), "no list of different numbers"),
        (np.zeros(400), np.arange(1, 401), "400 rows to score; expected 400 or more of the 400 rows|128 or more"),
    ],
)
def test_predictions_that_do_not_fit_are_refused_in_one_line(predicted, rows, message):
    with pytest.raises(ZooError, match=message):
        Selection("a", "r2", numbers()[0]).score(predicted, rows=rows)


def test_a_problem_without_a_target_has_no_scores():
    with pytest.raises(ZooError, match="a problem without a target has no scores"):
        Problem(target=None).validation_score(np.zeros(3))
    with pytest.raises(ZooError, match="a is missing for all validation models"):
        Selection("a", "r2", np.full(3, np.nan)).score(np.zeros(3))
