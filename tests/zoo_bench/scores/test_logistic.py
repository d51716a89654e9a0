"""Logistic regression against scikit-learn's, at strong and weak penalties, for two names and for more."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from zoo_bench.scores import cross_entropy, logistic
from zoo_bench.scores.linear_features import Axes
from zoo_bench.scores.logistic import Logistic


def problem(n_names, *, n_rows=300, n_features=40):
    """Correlated features, standardised, and names that they tell in part."""
    random = np.random.default_rng(n_names)
    rows = random.standard_normal((n_rows, 8)) @ random.standard_normal((8, n_features))
    rows += 0.3 * random.standard_normal(rows.shape)
    names = (rows[:, :n_names] + 3 * random.standard_normal((n_rows, n_names))).argmax(axis=1)
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    return rows.astype(np.float32), np.array([f"name {n}" for n in names])


@pytest.mark.parametrize("n_names", [2, 3, pytest.param(5, marks=pytest.mark.thorough)])
def test_it_is_scikit_learns_at_every_penalty_of_a_path(n_names):
    rows, names = problem(n_names)
    model = Logistic(rows, names)
    for penalty in (1e6, 1e2, 1.0, 1e-2):
        model.fit(penalty)
        theirs = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=100_000).fit(rows.astype(np.float64), names)
        np.testing.assert_array_equal(model.classes, theirs.classes_)
        np.testing.assert_allclose(model.shares(rows), theirs.predict_proba(rows), atol=3e-4)


@pytest.mark.parametrize("n_names", [2, 3])
def test_gradients_and_curvatures_are_differences_of_losses(n_names, monkeypatch):
    """Over several blocks of rows, of which the last is smaller."""
    monkeypatch.setattr(cross_entropy, "_BLOCK", 64 * 40)
    rows, names = problem(n_names)
    classes, codes = np.unique(names, return_inverse=True)
    entropy = cross_entropy.CrossEntropy(rows, np.eye(len(classes))[codes])
    random = np.random.default_rng(0)
    at, along = 0.3 * random.standard_normal((2, rows.shape[1] + 1, n_names - 1))
    expected = log_loss(codes, softmax(cross_entropy.logits(rows.astype(np.float64), at), axis=1))
    assert entropy.loss(at)[0] == pytest.approx(expected, rel=1e-12)
    (above, gradient_above), (below, gradient_below) = (entropy.loss(at + step * along) for step in (1e-4, -1e-4))
    _, gradient = entropy.loss(at)
    assert (gradient * along).sum() == pytest.approx((above - below) / 2e-4, rel=1e-6)
    curved = (gradient_above - gradient_below) / 2e-4
    np.testing.assert_allclose(entropy.curved(along), curved, atol=1e-5 * np.abs(curved).max())
    columns = np.eye(along.size).reshape(-1, *along.shape)
    by_pairs = np.array([entropy.curved(column) for column in columns]).reshape(*along.shape, *along.shape)
    np.testing.assert_allclose(entropy.curvature(), by_pairs, rtol=1e-5, atol=1e-6 * by_pairs.max())
    diagonal = np.diagonal(by_pairs.reshape(along.size, -1)).reshape(along.shape)
    np.testing.assert_allclose(entropy.squares(), diagonal, rtol=1e-5)


def test_names_that_rows_tell_apart_for_certain_end_too():
    rows, _ = problem(2)
    names = np.where(rows[:, 0] > 0, "above", "below")
    model = Logistic(rows, names)
    for penalty in (1.0, 1e-4, 1e-8):
        model.fit(penalty)
    assert (model.classes[model.shares(rows).argmax(axis=1)] == names).all()


def products(rows, names, monkeypatch, *, curvature_costs):
    """How many products with the rows a path of penalties takes."""
    monkeypatch.setattr(logistic, "_CURVATURE_COSTS", curvature_costs)
    model = Logistic(rows, names)
    entropy, count = model._entropy, 0

    def counted(function):
        def call(*arguments):
            nonlocal count
            count += 1
            return function(*arguments)

        return call

    entropy.loss, entropy.curved = counted(entropy.loss), counted(entropy.curved)
    for power in range(6, -5, -1):
        model.fit(10.0**power)
    return count


@pytest.mark.parametrize("n_names", [2, 3])
def test_rows_of_which_few_are_in_doubt_take_few_products(n_names, monkeypatch):
    """As embeddings of autoencoders are: along most axes they hardly vary, and nearly all rows are told for certain."""
    random = np.random.default_rng(0)
    hidden = random.standard_normal((1000, 100))
    names = (hidden[:, :n_names] + 0.1 * random.standard_normal((1000, n_names))).argmax(axis=1).astype(str)
    rows = np.tanh(hidden * 10 ** (-3 * np.arange(100) / 100) @ random.standard_normal((100, 100)) / 5)
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    axes = Axes.of(rows.astype(np.float32), np.zeros(100))
    along = axes.along(rows.astype(np.float32))
    with_curvature = products(along, names, monkeypatch, curvature_costs=logistic._CURVATURE_COSTS)
    with_squares = products(along, names, monkeypatch, curvature_costs=np.inf)
    assert with_curvature < with_squares / 3


@pytest.mark.parametrize("rounding", [0.0, 1e-5, 1e-3])
def test_a_curvature_that_rounding_left_no_factor_still_gives_coordinates(rounding):
    """Of rows that are told for certain all but a few count for nothing, and so do most axes."""
    random = np.random.default_rng(0)
    few = random.standard_normal((3, 40))
    noise = rounding * random.standard_normal((40, 40))
    curvature = (few.T @ few / 3 + noise + noise.T).reshape(20, 2, 20, 2)
    coordinates = logistic._Coordinates(curvature, np.full((20, 1), 1e-9))
    coefficients = random.standard_normal((20, 2))
    again = coordinates.coefficients(coordinates.of(coefficients))
    np.testing.assert_allclose(again, coefficients, atol=1e-6)
