import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, mean_squared_error, r2_score

from zoo_bench.scores import kendall, metrics
from zoo_bench.scores.metrics import METRICS, RESAMPLES, estimate

REFERENCE = {
    "r2": r2_score,
    "kendall_tau": lambda truth, predicted: stats.kendalltau(truth, predicted, variant="b").statistic,
    "spearman": lambda truth, predicted: stats.spearmanr(truth, predicted).statistic,
    "mae": mean_absolute_error,
    "mse": mean_squared_error,
    "accuracy": accuracy_score,
    "macro_f1": lambda truth, predicted: f1_score(truth, predicted, average="macro"),
}


def rows(seed: int = 0, *, n_models: int = 12, levels: int = 6):
    """Rows of models of different lengths, shuffled, with many ties."""
    random = np.random.RandomState(seed)
    models = random.permutation(np.repeat(np.arange(n_models) * 7, random.randint(1, 9, size=n_models)))
    truth = random.randint(0, levels, size=len(models)).astype(float)
    predicted = np.where(random.random_sample(len(models)) < 0.6, truth, random.randint(0, levels, size=len(models)))
    return truth, predicted, models


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", range(5))
def test_values_equal_scipys_and_scikit_learns(metric, seed):
    truth, predicted, models = rows(seed)
    actual = estimate(metric, truth, predicted, models)
    assert actual.value == pytest.approx(REFERENCE[metric](truth, predicted), rel=1e-12)
    assert actual.low <= actual.value <= actual.high


@pytest.mark.parametrize("metric", METRICS)
def test_intervals_equal_a_bootstrap_that_really_copies_the_rows_of_models(metric):
    truth, predicted, models = rows()
    actual = estimate(metric, truth, predicted, models)
    names = np.unique(models)
    # The same draws, unrolled: each resample lists the rows of every drawn model as often as it was drawn.
    draws = metrics.draws_of(len(names)).astype(int)
    resampled = []
    for draw in draws[:150]:
        picked = np.concatenate(
            [np.tile(np.nonzero(models == name)[0], n) for name, n in zip(names, draw, strict=True)]
        )
        resampled.append(REFERENCE[metric](truth[picked], predicted[picked]))
    assert draws.shape == (RESAMPLES, len(names))
    assert (draws.sum(axis=1) == len(names)).all()
    np.testing.assert_allclose(actual.resampled[:150], resampled, rtol=1e-9)
    assert (actual.low, actual.high) == pytest.approx(tuple(np.quantile(actual.resampled, [0.025, 0.975])), rel=1e-12)


def test_estimates_of_equal_rows_are_computed_once_and_those_of_others_are_their_own(monkeypatch):
    truth, predicted, models = rows(11)
    computed = []
    mae = METRICS["mae"]
    monkeypatch.setitem(METRICS, "mae", lambda *given: computed.append(1) or mae(*given))
    first, again = (estimate("mae", *(column.copy() for column in (truth, predicted, models))) for _ in range(2))
    assert len(computed) == 1
    assert again.value == first.value == mean_absolute_error(truth, predicted)
    with pytest.raises(ValueError, match="read-only"):
        again.resampled[0] = 1.0
    predicted[3] += 1.0
    assert estimate("mae", truth, predicted, models).value == mean_absolute_error(truth, predicted)
    kept = truth > 2
    assert estimate("mae", truth, predicted, models, above=2).value == mean_absolute_error(truth[kept], predicted[kept])


def test_intervals_are_wider_than_those_of_rows_when_checkpoints_are_alike():
    random = np.random.RandomState(0)
    level = random.standard_normal(40)
    truth = np.repeat(level, 25)
    predicted = np.repeat(level + random.standard_normal(40), 25)
    by_model = estimate("r2", truth, predicted, np.repeat(np.arange(40), 25))
    by_row = estimate("r2", truth, predicted, np.arange(1000))
    assert by_model.high - by_model.low > 3 * (by_row.high - by_row.low)


@pytest.mark.slow
def test_intervals_hold_the_truth_about_as_often_as_they_say():
    hits = []
    for seed in range(200):
        random = np.random.RandomState(seed)
        level = random.standard_normal(100)
        truth, noise = np.repeat(level, 5), np.repeat(random.standard_normal(100), 5)
        # A prediction of half the level plus noise of 0.5 has R2 = 1 - (0.25 + 0.25) / 1 in the population.
        actual = estimate("r2", truth, 0.5 * truth + 0.5 * noise, np.repeat(np.arange(100), 5))
        hits.append(actual.low <= 0.5 <= actual.high)
    assert 0.88 <= np.mean(hits) <= 0.99


@pytest.mark.parametrize("metric", ["r2", "kendall_tau"])
def test_a_constant_target_is_undefined(metric):
    actual = estimate(metric, np.full(20, 0.1), np.arange(20.0), np.arange(20))
    assert np.isnan([actual.value, actual.low, actual.high]).all()


def test_r2_survives_a_large_offset():
    truth, predicted, models = rows()
    near = estimate("r2", truth, predicted, models)
    far = estimate("r2", truth + 1e6, predicted + 1e6, models)
    assert far.value == pytest.approx(near.value, rel=1e-6)
    assert metrics.CONFIDENCE == 0.95


def tau_of_all_pairs(truth, predicted, weights):
    """Tau-b by its definition: signs of all pairs of rows, a pair counting as often as both rows are drawn."""
    signs = [np.sign(values[:, None] - values).astype(float) for values in (truth, predicted)]
    tables = (signs[0] * signs[1], *(side**2 for side in signs))
    balance, *untied = (np.einsum("dr,dr->d", weights @ table, weights) for table in tables)
    with np.errstate(invalid="ignore"):
        return np.where(np.minimum(*untied) > 0, balance / np.sqrt(untied[0] * untied[1]), np.nan)


@pytest.mark.parametrize(
    ("most_models", "n_models"),
    [
        *((200, n_models) for n_models in (30, 200, 201)),
        *(pytest.param(2000, n_models, marks=pytest.mark.slow) for n_models in (2000, 2001)),
    ],
)
@pytest.mark.parametrize("levels", [1, 2, 30, 5000])
@pytest.mark.parametrize("most_rows", [0, kendall.MOST_ROWS])
def test_resampled_tau_is_that_of_all_pairs_below_and_above_the_bounds(
    monkeypatch, most_models, n_models, levels, most_rows
):
    monkeypatch.setattr(kendall, "MOST_MODELS", most_models)
    monkeypatch.setattr(kendall, "MOST_ROWS", most_rows)
    random = np.random.RandomState(levels)
    members = random.permutation(np.arange(max(n_models, 1200)) % n_models)
    truth = random.randint(0, levels, len(members))
    predicted = np.round(random.standard_normal(len(members)), 2)
    draws = metrics.draws_of(n_models)[:2]
    expected = tau_of_all_pairs(truth, predicted, draws[:, members])  # whichever of the two comes first
    for pair in ((truth, predicted), (predicted, truth)):
        taus = kendall.resampled_tau(*pair, members, n_models=n_models)(draws)
        np.testing.assert_allclose(taus, expected, rtol=1e-9)


def test_a_resample_without_rows_is_undefined_however_many_models_there_are():
    for n_models in (30, kendall.MOST_MODELS + 1):
        taus = kendall.resampled_tau(np.arange(3.0), np.arange(3.0), np.arange(3), n_models=n_models)
        draws = np.zeros((2, n_models))
        draws[0, :3] = 1.0
        np.testing.assert_array_equal(taus(draws), [1.0, np.nan])


@pytest.mark.parametrize("rows_a_model", [[9], [9, 5, 1]])
@pytest.mark.parametrize("most_rows", [0, kendall.MOST_ROWS])
def test_many_rows_are_compared_in_parts(monkeypatch, rows_a_model, most_rows):
    monkeypatch.setattr(kendall, "MOST_ROWS", most_rows)
    members = np.repeat(np.arange(900), np.resize(rows_a_model, 900))[:900]
    random = np.random.RandomState(0)
    truth = np.where(random.random_sample(900) < 0.7, 0.1, random.random_sample(900))
    predicted = random.permutation(np.where(random.random_sample(900) < 0.7, 0.1, random.random_sample(900)))
    monkeypatch.setattr(kendall, "_PAIRS_AT_ONCE", 500)
    actual = estimate("kendall_tau", truth, predicted, members)
    assert actual.value == pytest.approx(stats.kendalltau(truth, predicted).statistic, rel=1e-12)


def test_tau_above_chance_counts_only_rows_above_it():
    truth, predicted, models = rows(2)
    actual = estimate("kendall_tau", truth, predicted, models, above=2.0)
    assert actual.value == pytest.approx(stats.kendalltau(truth[truth > 2], predicted[truth > 2]).statistic, rel=1e-12)
    assert np.isnan(estimate("kendall_tau", truth, predicted, models, above=9.0).value)


def test_the_ceiling_is_what_the_best_predictions_without_ties_reach():
    truth = rows(3)[0]
    untied = truth + np.linspace(0, 0.5, len(truth))
    assert metrics.tau_ceiling(truth) == pytest.approx(stats.kendalltau(truth, untied).statistic, rel=1e-12)
    assert np.isnan(metrics.tau_ceiling(np.ones(4)))


def test_a_difference_is_significant_when_it_is_there_and_only_then():
    random = np.random.RandomState(0)
    truth, models = random.standard_normal(300), np.arange(300)
    one, alike, worse = (
        estimate("r2", truth, truth + noise * random.standard_normal(300), models).resampled[None]
        for noise in (0.5, 0.5, 0.8)
    )
    assert metrics.difference(one, worse).low > 0
    assert metrics.difference(one, worse).p < 0.01
    assert metrics.difference(one, alike).low < 0 < metrics.difference(one, alike).high
    # scipy's own paired bootstrap over the same models gives about the same interval.
    errors = [random.standard_normal(300) * noise for noise in (0.5, 0.8)]
    actual = metrics.difference(*(estimate("mae", truth, truth + e, models).resampled[None] for e in errors))
    data = (np.abs(errors[0]) - np.abs(errors[1]),)
    theirs = stats.bootstrap(data, np.mean, method="percentile", random_state=np.random.RandomState(1))
    assert (actual.low, actual.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.02)


def test_the_mean_over_targets_resamples_them_together():
    truth, predicted, models = rows()
    both = [estimate("mae", truth, predicted, models), estimate("mae", truth, -predicted, models)]
    mean = metrics.mean_of(both)
    assert mean.value == pytest.approx((both[0].value + both[1].value) / 2)
    np.testing.assert_allclose(mean.resampled, (both[0].resampled + both[1].resampled) / 2)


def test_no_number_of_resamples_makes_a_difference_impossible():
    difference = metrics.difference(np.ones((1, RESAMPLES)), np.zeros((1, RESAMPLES)))
    assert difference.p == 2 / (1 + RESAMPLES)


def test_a_mean_is_undefined_in_a_resample_that_leaves_one_target_undefined():
    draws = np.linspace(0, 1, RESAMPLES)
    with_a_gap = np.where(np.arange(RESAMPLES) == 3, np.nan, draws)
    mean = metrics.mean_of([metrics.summary(0.5, draws), metrics.summary(0.5, with_a_gap)])
    assert np.flatnonzero(np.isnan(mean.resampled)).tolist() == [3]
