import numpy as np
import pytest

from tests.zoo_bench.encoders.layouts import CNN, DEEP_CNN, INR, PLAIN, FakeView, random_view
from zoo_bench.encoders import make_encoder
from zoo_bench.encoders.baselines.layer_statistics import LastLayerStatistics, PooledLayerStatistics
from zoo_bench.encoders.baselines.statistics_boosting import StatisticsBoosting
from zoo_bench.encoders.baselines.tensor_statistics import view_statistics
from zoo_bench.protocol.problem import Problem


def seven(values):
    values = np.asarray(values, dtype=np.float64).ravel()
    variance = values.var(ddof=1) if values.size > 1 else 0.0
    return [values.mean(), variance, *np.quantile(values, (0, 0.25, 0.5, 0.75, 1))]


@pytest.mark.parametrize("layout", [CNN, INR, PLAIN], ids=lambda layout: str(layout.size))
def test_statistics_equal_numpy_tensor_by_tensor(layout):
    """The last bias of the INR is a single number."""
    view = random_view(layout, models=4, checkpoints=2)
    actual = view_statistics(view)
    assert actual.shape == (4, 2, 7 * len(layout.parameters))
    for model, checkpoint in np.ndindex(4, 2):
        tensors = layout.split(view.weights[model, checkpoint])
        expected = np.concatenate([seven(tensors[parameter.name]) for parameter in layout.parameters])
        np.testing.assert_allclose(actual[model, checkpoint], expected, rtol=1e-4, atol=1e-6)


def layers_of(view, model):
    tensors = view.layout.split(view.weights[model, 0])
    return [
        np.array(
            [
                seven(tensors[f"{name}.{role}"]) if f"{name}.{role}" in tensors else [0.0] * 7
                for role in ("weight", "bias")
            ]
        )
        for name in view.layout.layers
    ]


@pytest.mark.parametrize("layout", [CNN, DEEP_CNN, INR, PLAIN], ids=lambda layout: str(layout.size))
def test_layer_statistics_have_one_length_for_all_architectures(layout):
    view = random_view(layout, models=3)
    last, pooled = (
        encoder.fit([view], [view], seed=0).encode(view) for encoder in (LastLayerStatistics(), PooledLayerStatistics())
    )
    for model in range(3):
        layers = np.array([layer.ravel() for layer in layers_of(view, model)])
        np.testing.assert_allclose(last[model], layers[-1], rtol=1e-4, atol=1e-6)
        expected = np.concatenate([layers.mean(axis=0), layers.max(axis=0), layers[0], layers[-1]])
        np.testing.assert_allclose(pooled[model], expected, rtol=1e-4, atol=1e-6)


def test_layers_without_bias_count_zeros():
    view = random_view(PLAIN, models=3)
    assert (LastLayerStatistics().encode(view)[:, 7:] == 0).all()


def test_boosting_predicts_what_statistics_tell():
    """The target is a smooth function of the weights' scale, which every variance shows."""
    train, validation, test = (random_view(CNN, models=n, seed=n) for n in (200, 60, 61))
    encoder = StatisticsBoosting(most_trees=600).fit([train], [validation], seed=0)
    truth = test.targets["test_accuracy"].ravel()
    assert np.corrcoef(encoder.predict(test), truth)[0, 1] > 0.97
    np.testing.assert_array_equal(encoder.encode(test), view_statistics(test)[:, 0])


def test_trees_stop_where_the_validation_score_is_best():
    """R2 ranks, so that it is where the error is lowest, to the digits that are told of a score."""
    problem = Problem(metric="r2")
    train, validation = random_view(CNN, models=60), random_view(CNN, models=30, seed=1)
    random = np.random.RandomState(0)
    noisy = FakeView(CNN, train.weights, {"test_accuracy": random.uniform(size=(60, 1))})
    encoder = StatisticsBoosting(most_trees=50).fit([noisy], [validation], problem=problem, seed=0)
    truth = validation.targets["test_accuracy"].ravel()
    error = ((encoder.predict(validation) - truth) ** 2).mean()
    for trees in (1, 10, 25, 50):
        fixed = StatisticsBoosting(most_trees=trees).fit([noisy], [validation], problem=problem, seed=0)
        assert error <= 1.02 * ((fixed.predict(validation) - truth) ** 2).mean()


@pytest.mark.parametrize("name", ["mlp", "statistics_network", "deep_sets", "statistics_boosting", "sne_small"])
def test_names_stand_for_encoders_that_take_the_problem_from_fit(name):
    encoder = make_encoder(name)
    assert "target" not in encoder.config
    assert encoder.can_learn(Problem(target="epoch"))
    assert callable(encoder.predict)
