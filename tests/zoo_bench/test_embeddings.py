import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from zoo_bench.cli import main
from zoo_bench.plots import _is_logarithmic, _swatches, principal_components
from zoo_gen import open_zoo


def invoke(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def encoded(tiny_zoo, tmp_path_factory):
    """What one command writes."""
    folder = tmp_path_factory.mktemp("encoded")
    out, plot = folder / "found.npz", folder / "found.png"
    result = invoke("encode", tiny_zoo, "--encoder", "statistics_boosting", "--out", out, "--plot", plot)
    assert result.exit_code == 0, result.output
    return out, plot, result.stdout


def test_rows_say_which_model_and_checkpoint_they_are_of(tiny_zoo, encoded):
    zoo = open_zoo(tiny_zoo)
    with np.load(encoded[0]) as arrays:
        by_name = dict(arrays)
    assert encoded[2].splitlines()[0] == f"written: {encoded[0]}, 200 checkpoints x 14 dimensions"
    assert set(by_name) == {"model", "checkpoint", "epoch", "split", "embedding", "prediction"}
    for row in (0, 7, 199):
        weights = zoo.weights[by_name["model"][row], by_name["checkpoint"][row]]
        first = zoo.layout.split(np.asarray(weights))["linear1.weight"]
        assert by_name["embedding"][row, 0] == pytest.approx(first.mean(), abs=1e-6)
        assert by_name["embedding"][row, 2] == first.min()
        assert by_name["epoch"][row] == zoo.epochs[by_name["checkpoint"][row]]
        assert by_name["model"][row] in zoo.split(str(by_name["split"][row]))


def test_the_picture_has_a_panel_for_accuracy_epoch_and_each_hyperparameter(encoded):
    """Four coloured panels and the hyper-parameters' two more: the picture is wide and not blank."""
    image = encoded[1].read_bytes()
    assert image.startswith(b"\x89PNG")
    width, height = (int.from_bytes(image[at : at + 4], "big") for at in (16, 20))
    assert width > 1500
    assert height > 1000
    assert len(image) > 50_000


def test_components_are_those_of_scikit_learn():
    random = np.random.RandomState(0)
    rows = random.standard_normal((60, 6)) @ random.standard_normal((6, 6))
    rows[:, 3] = 5.0  # says nothing
    components, shares = principal_components(rows)
    pca = PCA(2).fit(StandardScaler().fit_transform(np.delete(rows, 3, axis=1)))
    expected = pca.transform(StandardScaler().fit_transform(np.delete(rows, 3, axis=1)))
    np.testing.assert_allclose(np.abs(components), np.abs(expected), atol=1e-8)
    np.testing.assert_allclose(shares, pca.explained_variance_ratio_)


def test_one_dimension_and_none_still_make_a_picture():
    points, _ = principal_components(np.arange(5.0)[:, None])
    assert np.ptp(points[:, 0]) > 0
    assert (principal_components(np.ones((5, 3)))[0] == 0).all()


def test_a_saved_encoder_encodes_as_before(tiny_zoo, tmp_path, monkeypatch):
    from dataclasses import replace

    from zoo_bench.encoders import ENCODERS
    from zoo_bench.encoders.baselines.deep_sets import TRAINING, deep_sets

    monkeypatch.setitem(ENCODERS, "deep_sets", lambda: deep_sets(training=replace(TRAINING, epochs=1, steps=None)))
    folder, first, second = tmp_path / "saved", tmp_path / "first.npz", tmp_path / "second.npz"
    for out, option in ((first, "--save"), (second, "--load")):
        result = invoke("encode", tiny_zoo, "--encoder", "deep_sets", "--out", out, option, folder)
        assert result.exit_code == 0, result.output
    with np.load(first) as one, np.load(second) as other:
        np.testing.assert_array_equal(one["embedding"], other["embedding"])
        np.testing.assert_array_equal(one["prediction"], other["prediction"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--encoder", "pca", "--out", "found.csv"], "--out found.csv: expected a name that ends in .npz"),
        (["--encoder", "pca", "--out", "a.npz", "--plot", "a.txt"], "--plot a.txt: expected a name that ends in .png"),
        (["--encoder", "pca", "--out", "a.npz", "--save", "b"], "--save: pca has no 'save'; expected a neural encoder"),
        (["--encoder", "pac", "--out", "a.npz"], "unknown encoder 'pac'; did you mean 'pca'?"),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_is_fitted(tiny_zoo, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    result = invoke("encode", tiny_zoo, *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_rates_are_coloured_by_factors_and_accuracies_by_differences():
    assert _is_logarithmic("learning_rate", np.array([1e-3, 1e-2]))
    assert not _is_logarithmic("test_accuracy", np.array([0.005, 0.9]))
    assert not _is_logarithmic("weight_decay", np.array([0.0, 1e-2]))
    assert not _is_logarithmic("epoch", np.array([1, 50]))


def test_names_and_numbers_of_a_few_values_have_a_legend_of_distinct_colours():
    rates = _swatches(np.array([1e-2, 1e-3, 1e-2]))
    assert [value for value, _ in rates] == [1e-3, 1e-2]
    assert [value for value, _ in _swatches(np.array(["tanh", "relu", "tanh"]))] == ["relu", "tanh"]
    for swatches in (rates, _swatches(np.arange(6))):
        assert len({colour for _, colour in swatches}) == len(swatches)
    assert _swatches(np.linspace(0, 1, 50)) is None
