import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, r2_score

from zoo_bench import metrics
from zoo_bench.metrics import METRICS, RESAMPLES, estimate

REFERENCE = {
    "r2": r2_score,
    "kendall_tau": lambda truth, predicted: stats.kendalltau(truth, predicted, variant="b").statistic,
    "accuracy": accuracy_score,
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
    found = estimate(metric, truth, predicted, models, seed=0)
    assert found.value == pytest.approx(REFERENCE[metric](truth, predicted), rel=1e-12)
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize("metric", METRICS)
def test_intervals_equal_a_bootstrap_that_really_copies_the_rows_of_models(metric):
    truth, predicted, models = rows()
    found = estimate(metric, truth, predicted, models, seed=3)
    names = np.unique(models)
    # The same draws, unrolled: each resample lists the rows of every drawn model as often as it was drawn.
    draws = np.random.RandomState(3).multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    resampled = []
    for draw in draws:
        picked = np.concatenate(
            [np.tile(np.nonzero(models == name)[0], n) for name, n in zip(names, draw, strict=True)]
        )
        resampled.append(REFERENCE[metric](truth[picked], predicted[picked]))
    low, high = np.quantile(resampled, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)


def test_intervals_are_wider_than_those_of_rows_when_checkpoints_are_alike():
    random = np.random.RandomState(0)
    level = random.standard_normal(40)
    truth = np.repeat(level, 25)
    predicted = np.repeat(level + random.standard_normal(40), 25)
    by_model = estimate("r2", truth, predicted, np.repeat(np.arange(40), 25), seed=0)
    by_row = estimate("r2", truth, predicted, np.arange(1000), seed=0)
    assert by_model.high - by_model.low > 3 * (by_row.high - by_row.low)


@pytest.mark.slow
def test_intervals_hold_the_truth_about_as_often_as_they_say():
    hits = []
    for seed in range(200):
        random = np.random.RandomState(seed)
        level = random.standard_normal(100)
        truth, noise = np.repeat(level, 5), np.repeat(random.standard_normal(100), 5)
        # A prediction of half the level plus noise of 0.5 has R2 = 1 - (0.25 + 0.25) / 1 in the population.
        found = estimate("r2", truth, 0.5 * truth + 0.5 * noise, np.repeat(np.arange(100), 5), seed=seed)
        hits.append(found.low <= 0.5 <= found.high)
    assert 0.88 <= np.mean(hits) <= 0.99


@pytest.mark.parametrize("metric", ["r2", "kendall_tau"])
def test_a_constant_target_is_undefined(metric):
    found = estimate(metric, np.full(20, 0.1), np.arange(20.0), np.arange(20), seed=0)
    assert np.isnan([found.value, found.low, found.high]).all()


def test_r2_survives_a_large_offset():
    truth, predicted, models = rows()
    near = estimate("r2", truth, predicted, models, seed=0)
    far = estimate("r2", truth + 1e6, predicted + 1e6, models, seed=0)
    assert far.value == pytest.approx(near.value, rel=1e-6)
    assert metrics.CONFIDENCE == 0.95
