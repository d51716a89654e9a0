import numpy as np
import pytest

from zoo_bench.encoders import ENCODERS, encoder_digest, make_encoder
from zoo_bench.encoders.statistics import PCA, WeightStatistics
from zoo_gen import engine, open_zoo
from zoo_gen.errors import ZooError


@pytest.fixture(scope="module")
def biased_zoo(tmp_path_factory):
    """A zoo whose layers have biases."""
    folder = tmp_path_factory.mktemp("biased")
    manifest = folder / "biased.toml"
    manifest.write_text(
        """
name = "biased"
[data]
source = "digits"
test_size = 1500
[architecture]
name = "mlp"
widths = [64, 6, 10]
[training]
epochs = 1
batch_size = 64
optimizer = "adam"
learning_rate = 1e-2
activation = "relu"
initialization = "kaiming_normal"
[axes]
product.seed = { range = [1, 10] }
"""
    )
    engine.run(manifest, folder / "biased", workers=1)
    return open_zoo(folder / "biased")


@pytest.mark.parametrize(("biases", "features"), [(True, 28), (False, 14)])
def test_statistics_are_mean_variance_and_percentiles_of_each_layer(biased_zoo, biases, features):
    view = biased_zoo.view([4, 2])
    found = WeightStatistics(biases=biases).fit([view], [view], seed=0).encode(view)
    assert found.shape == (2 * 2, features)
    for row, (model, epoch) in enumerate([(4, 0), (4, 1), (2, 0), (2, 1)]):
        expected = []
        for name, tensor in biased_zoo.state_dict(model, epoch).items():
            values = tensor.numpy().ravel().astype(float)
            if biases or name.endswith("weight"):
                middle = values.mean()
                expected += [middle, ((values - middle) ** 2).mean()]
                expected += [np.percentile(values, percentile) for percentile in (1, 25, 50, 75, 99)]
        np.testing.assert_allclose(found[row], expected, rtol=1e-6, atol=1e-9)


def test_raw_weights_are_the_rows_of_the_zoo(biased_zoo):
    view = biased_zoo.view([3, 1])
    found = make_encoder("weights").fit([view], [view], seed=0).encode(view)
    np.testing.assert_array_equal(found, np.concatenate([biased_zoo.weights[3], biased_zoo.weights[1]]))


def test_pca_is_the_singular_value_decomposition_of_the_training_rows(biased_zoo):
    train, test = biased_zoo.view(range(8)), biased_zoo.view([8, 9])
    found = PCA(dimension=3).fit([train], [], seed=0).encode(test)
    rows = train.weights.reshape(-1, biased_zoo.layout.size).astype(float)
    _, _, axes = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    expected = (test.weights.reshape(4, -1) - rows.mean(axis=0)) @ axes[:3].T
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-3, atol=1e-4)


def test_pca_has_no_more_dimensions_than_the_rows_give(biased_zoo):
    train = biased_zoo.view([0, 1])
    assert PCA().fit([train], [], seed=0).encode(train).shape == (4, 4)


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_give_finite_rows_and_plain_settings(biased_zoo, name):
    view = biased_zoo.view(range(10))
    encoder = make_encoder(name).fit([view], [view], seed=0)
    found = encoder.encode(view)
    assert len(found) == 20
    assert np.isfinite(found).all()
    assert len(encoder_digest(name, encoder)) == 64


def test_the_digest_changes_with_the_settings():
    assert encoder_digest("pca", PCA()) != encoder_digest("pca", PCA(dimension=3))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wieghts", "unknown encoder 'wieghts'; did you mean 'weights'?"),
        ("nowhere:Encoder", "cannot be made"),
        ("json:Nothing", "cannot be made"),
        ("json:JSONDecoder", "has no 'fit'; expected fit, encode and config"),
    ],
)
def test_an_encoder_that_is_not_one_is_named(name, message):
    with pytest.raises(ZooError) as error:
        make_encoder(name)
    assert message in str(error.value)
