"""Metrics on every kind of truth that a zoo can have: constant, of two values, tied, far from 0 and partly missing."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from zoo_bench.scores import metrics

# Values whose means and squares do not fit into floating point, of very different sizes, and a missing one.
VALUES = st.sampled_from([0.1, 0.1 + 1e-9, 0.3, 1 / 3, -2.5, 7.0, 1e6, 1e6 + 0.1, float("nan")])
FEW = st.sampled_from([0.1, 0.3])


@st.composite
def tables(draw):
    """True values, predictions and models of a few rows."""
    kind = draw(st.sampled_from([VALUES, FEW, st.just(0.1), st.just(float("nan"))]))
    size = draw(st.integers(1, 12))
    truth, predicted, models = (
        draw(st.lists(values, min_size=size, max_size=size))
        for values in (kind, st.sampled_from([0.1, 0.2, 5.0, -1e3]), st.integers(0, 4))
    )
    return np.array(truth), np.array(predicted), np.array(models)


def resampled_rows(truth, models, count=20):
    """Yield the rows of each of the first resamples, a model's as often as it is drawn, missing truth left out."""
    names = np.unique(models)
    for draw in metrics.draws_of(len(names))[:count].astype(int):
        rows = [
            row for row, model in enumerate(models) for _ in range(draw[names.tolist().index(model)])
        ]  # a plain loop, row by row
        yield [row for row in rows if not np.isnan(truth[row])]


def exact_r2(truth, predicted, rows):
    values = [Fraction(truth[row]) for row in rows]
    if len(set(values)) < 2:
        return np.nan
    mean = sum(values) / len(values)
    error = sum((Fraction(truth[row]) - Fraction(predicted[row])) ** 2 for row in rows)
    return float(1 - error / sum((value - mean) ** 2 for value in values))


@given(tables())
def test_r2_of_every_resample_is_that_of_exact_arithmetic(table):
    truth, predicted, models = table
    actual = metrics.estimate("r2", truth, predicted, models)
    whole = exact_r2(truth, predicted, np.flatnonzero(~np.isnan(truth)))
    assert actual.value == pytest.approx(whole, rel=1e-6, abs=1e-9, nan_ok=True)
    if np.isnan(whole):
        assert np.isnan([actual.low, actual.high]).all()
        return
    expected = [exact_r2(truth, predicted, rows) for rows in resampled_rows(truth, models)]
    np.testing.assert_allclose(actual.resampled[: len(expected)], expected, rtol=1e-6, atol=1e-9)
    assert np.isfinite([actual.low, actual.high]).all()


@pytest.mark.parametrize(("metric", "reference"), [("kendall_tau", stats.kendalltau), ("spearman", stats.spearmanr)])
@given(table=tables())
def test_rank_correlations_of_every_resample_are_scipys(metric, reference, table):
    truth, predicted, models = table

    def expected_of(rows):
        true, guessed = truth[rows], predicted[rows]
        varies = len(rows) > 1 and np.ptp(true) > 0 and np.ptp(guessed) > 0
        return reference(true, guessed).statistic if varies else np.nan

    actual = metrics.estimate(metric, truth, predicted, models)
    whole = expected_of(np.flatnonzero(~np.isnan(truth)))
    assert actual.value == pytest.approx(whole, rel=1e-9, abs=1e-12, nan_ok=True)
    if not np.isnan(whole):
        expected = [expected_of(rows) for rows in resampled_rows(truth, models)]
        np.testing.assert_allclose(actual.resampled[: len(expected)], expected, rtol=1e-9, atol=1e-12)
        assert -1 <= actual.low <= actual.high <= 1


@given(tables())
def test_missing_truth_changes_nothing_but_who_is_counted(table):
    truth, predicted, models = table
    known = ~np.isnan(truth)
    if len(np.unique(models[known])) < len(np.unique(models)):
        return  # the others draw from fewer models
    for metric in ("r2", "kendall_tau", "spearman", "mae", "mse"):
        one = metrics.estimate(metric, truth, predicted, models)
        other = metrics.estimate(metric, truth[known], predicted[known], models[known])
        np.testing.assert_array_equal([one.value, one.low, one.high], [other.value, other.low, other.high])


def test_two_values_never_give_a_number_that_rounding_made():
    """Five models with a learning rate of 1e-3 or 1e-2: some resamples draw one of the values alone."""
    truth = np.array([1e-3, 1e-2, 1e-3, 1e-2, 1e-2])
    actual = metrics.estimate("r2", truth, np.array([0.004, 0.006, 0.004, 0.005, 0.006]), np.arange(5))
    assert np.isnan(actual.resampled).any()
    assert np.nanmin(actual.resampled) > -10


def test_a_missing_name_is_left_out():
    truth, predicted = np.array(["adam", "", "sgd", "sgd"]), np.array(["adam", "sgd", "sgd", "adam"])
    assert metrics.estimate("accuracy", truth, predicted, np.arange(4)).value == pytest.approx(2 / 3)


def test_a_prediction_that_is_no_number_leaves_the_metric_undefined():
    truth, predicted = np.arange(4.0), np.array([0.0, np.nan, 1.0, 2.0])
    for metric in ("r2", "kendall_tau", "spearman", "mae"):
        assert np.isnan(metrics.estimate(metric, truth, predicted, np.arange(4)).value)
    missing = np.array([0.0, np.nan, 1.0, 2.0])  # of a row that is not counted, nothing is asked
    assert metrics.estimate("r2", missing, predicted, np.arange(4)).value == 1.0
