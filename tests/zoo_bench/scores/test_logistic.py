"""Logistic regression against scikit-learn's, at strong and weak penalties, for two names and for more."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

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
    model = Logistic(rows, names, squares=(rows**2).sum(axis=0))
    for penalty in (1e6, 1e2, 1.0, 1e-2):
        model.fit(penalty)
        theirs = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=100_000).fit(rows.astype(np.float64), names)
        np.testing.assert_array_equal(model.classes, theirs.classes_)
        np.testing.assert_allclose(model.shares(rows), theirs.predict_proba(rows), atol=3e-4)


def test_names_that_rows_tell_apart_for_certain_end_too():
    rows, _ = problem(2)
    names = np.where(rows[:, 0] > 0, "above", "below")
    model = Logistic(rows, names, squares=(rows**2).sum(axis=0))
    for penalty in (1.0, 1e-4, 1e-8):
        model.fit(penalty)
    assert (model.classes[model.shares(rows).argmax(axis=1)] == names).all()
