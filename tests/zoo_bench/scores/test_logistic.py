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


@pytest.mark.parametrize("names", ["aab", "abbcccc"])
def test_rows_without_an_axis_give_the_shares_of_the_names(names):
    """An encoder that gives every model the same embedding leaves none, as does a recipe that all models share."""
    labels = np.array(list(names))
    model = Logistic(np.zeros((len(labels), 0), np.float32), labels)
    model.fit(1.0)
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    np.testing.assert_allclose(model.shares(np.zeros((2, 0), np.float32)), [shares, shares], atol=1e-3)


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
    change = ((gradient_above - gradient_below) / 2e-4).T
    curvature = entropy.curvature().astype(np.float64)
    np.testing.assert_allclose(np.tensordot(curvature, along.T, axes=2), change, atol=1e-5 * np.abs(change).max())
    diagonal = np.diagonal(curvature.reshape(along.size, -1)).reshape(along.T.shape)
    np.testing.assert_allclose(entropy.squares(), diagonal, rtol=1e-5)


def test_rows_that_are_told_for_certain_are_left_out_of_the_curvature():
    rows, names = problem(3)
    classes, codes = np.unique(names, return_inverse=True)
    entropy = cross_entropy.CrossEntropy(rows, np.eye(len(classes))[codes])
    entropy.loss(5 * np.random.default_rng(0).standard_normal((rows.shape[1] + 1, 2)))
    shares = entropy._shares
    assert (np.sort(shares, axis=1)[:, -2] < 1e-6).mean() > 0.1
    of_logits = np.einsum("rj,jk->rjk", shares, np.eye(3)) - np.einsum("rj,rk->rjk", shares, shares)
    contrasts = cross_entropy.contrasts(3)
    of_contrasts = np.einsum("jc,rjk,kd->rcd", contrasts, of_logits, contrasts)
    with_ones = np.column_stack([rows, np.ones(len(rows))])
    expected = np.einsum("rcd,rf,rg->cfdg", of_contrasts, with_ones, with_ones, optimize=True) / len(rows)
    np.testing.assert_allclose(entropy.curvature(), expected, atol=1e-5 * expected.max())


def test_names_that_rows_tell_apart_for_certain_end_too():
    rows, _ = problem(2)
    names = np.where(rows[:, 0] > 0, "above", "below")
    model = Logistic(rows, names)
    for penalty in (1.0, 1e-4, 1e-8):
        model.fit(penalty)
    assert (model.classes[model.shares(rows).argmax(axis=1)] == names).all()


def steps(rows, names, monkeypatch, *, curvature_costs):
    """How many steps the weak penalties of a path take."""
    monkeypatch.setattr(logistic, "_CURVATURE_COSTS", curvature_costs)
    model, count = Logistic(rows, names), 0
    for power in range(6, -5, -1):
        model.fit(10.0**power)
        count += model.steps * (power <= 0)
    return count


@pytest.mark.parametrize("n_names", [2, 3])
def test_rows_of_which_few_are_in_doubt_take_few_steps(n_names, monkeypatch):
    """As embeddings of autoencoders are: along most axes they hardly vary, and most rows are told for certain."""
    random = np.random.default_rng(0)
    hidden = random.standard_normal((1000, 150))
    names = (hidden[:, :n_names] + 0.3 * random.standard_normal((1000, n_names))).argmax(axis=1).astype(str)
    rows = np.tanh(hidden * 10 ** (-6 * np.arange(150) / 150) @ random.standard_normal((150, 150)) / 5)
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    axes = Axes.of(rows.astype(np.float32), np.zeros(150))
    along = axes.along(rows.astype(np.float32))
    with_curvature = steps(along, names, monkeypatch, curvature_costs=logistic._CURVATURE_COSTS)
    with_squares = steps(along, names, monkeypatch, curvature_costs=1e3)
    assert with_curvature < with_squares / 2


@pytest.mark.parametrize("rounding", [0.0, 1e-5, 1e-3])
def test_a_curvature_that_rounding_left_no_factor_still_gives_coordinates(rounding):
    """Of rows that are told for certain all but a few count for nothing, and so do most axes."""
    random = np.random.default_rng(0)
    few = random.standard_normal((3, 40))
    noise = rounding * random.standard_normal((40, 40))
    curvature = (few.T @ few / 3 + noise + noise.T).reshape(2, 20, 2, 20).astype(np.float32)
    coordinates = logistic._Coordinates(curvature, np.full((20, 1), 1e-9))
    coefficients = random.standard_normal((20, 2))
    again = coordinates.coefficients(coordinates.of(coefficients))
    np.testing.assert_allclose(again, coefficients, atol=1e-5)  # of a factor in float32; steps only start there
