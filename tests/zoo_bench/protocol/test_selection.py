"""Scores of predictions of validation models, against scipy and scikit-learn, and what can be learned from them."""

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
    assert 1 - score == pytest.approx(1 - expected, rel=0.6 / np.sqrt(len(truth)))


def test_a_score_is_told_where_it_is_better_than_the_best_by_its_uncertainty():
    truth, _ = numbers()
    selection, random = Selection("a", "r2", truth), np.random.default_rng(1).normal(size=len(truth))
    values = [selection.score(truth + noise * random) for noise in (0.3, 0.5, 0.299, 0.2, 0.25, 0.1, 0.0)]
    alone = [Selection("a", "r2", truth).score(truth + noise * random) for noise in (0.3, 0.2, 0.1, 0.0)]
    assert values == [alone[0], alone[0], alone[0], alone[1], alone[1], alone[2], alone[3]]
    assert values[-1] == pytest.approx(1)


@pytest.mark.parametrize("width", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("rows", [1, 20, 150])
def test_labels_cannot_be_worked_out_from_scores(width, rows):
    """Changes of one, some or all predictions, kept where the score rises: 1,000 scores tell nothing of 150 labels."""
    truth, random = numbers(150)[0], np.random.default_rng(2)
    selection, predicted = Selection("a", "r2", truth), np.full(150, truth.mean())
    best = selection.score(predicted)
    for _ in range(999):
        changed = predicted.copy()
        changed[random.choice(150, rows, replace=False)] += width * truth.std() * random.choice([-1, 1], rows)
        if (score := selection.score(changed)) > best:
            best, predicted = score, changed
    assert r2_score(truth, predicted) < 0.1


def test_rows_without_a_label_count_for_nothing():
    truth, predicted = numbers()
    holes = truth.copy()
    holes[::7] = np.nan
    selection = Selection("a", "r2", holes)
    present = np.isfinite(holes)
    assert selection.left_out == (~present).sum()
    assert selection.score(predicted) == Selection("a", "r2", truth[present]).score(predicted[present])
    names = np.array(["tanh", "relu", "", "relu"])
    guessed = np.array(["tanh", "tanh", "tanh", "relu"])
    assert Selection("a", "accuracy", names).score(guessed) == Selection("a", "accuracy", names[names != ""]).score(
        guessed[names != ""]
    )


def test_all_is_defined_where_labels_are_alike_or_predictions_are_wild():
    alike = [Selection("a", "r2", np.full(200, 0.5)).score(np.full(200, value)) for value in (0.5, 0.6, 0.9)]
    assert alike[0] == pytest.approx(1)
    assert alike[0] > alike[1] > alike[2]
    truth, _ = numbers()
    for wild in (np.full(400, 1e300), np.full(400, np.inf), np.full(400, np.nan)):
        assert Selection("a", "r2", truth).score(wild) == pytest.approx(-1, abs=0.1)


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
