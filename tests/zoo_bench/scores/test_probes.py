import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, mean_squared_error
from sklearn.preprocessing import StandardScaler

from zoo_bench.scores.probes import LOGISTIC_PENALTIES, RIDGE_PENALTIES, Features, logistic, ridge


@pytest.fixture
def parts():
    random = np.random.RandomState(0)
    mixing = random.standard_normal((12, 12))
    sizes = {"train": 200, "validation": 80, "test": 60}
    features = {name: random.standard_normal((size, 12)) @ mixing * 10 + 3 for name, size in sizes.items()}
    coefficients = random.standard_normal((12, 3))
    targets = {n: x @ coefficients + 5 * random.standard_normal((len(x), 3)) for n, x in features.items()}
    return features, targets


def test_ridge_equals_scikit_learns_with_the_penalty_of_the_best_validation_error(parts):
    features, targets = parts
    actual = ridge(Features.standardized(*features.values()), targets["train"], targets["validation"])
    scaler = StandardScaler().fit(features["train"])
    scaled = {name: scaler.transform(x) for name, x in features.items()}
    for column in range(3):
        models = [Ridge(alpha=a).fit(scaled["train"], targets["train"][:, column]) for a in RIDGE_PENALTIES]
        errors = [mean_squared_error(targets["validation"][:, column], m.predict(scaled["validation"])) for m in models]
        best = int(np.argmin(errors))
        assert actual[column].penalty == RIDGE_PENALTIES[best]
        np.testing.assert_allclose(actual[column].values, models[best].predict(scaled["test"]), rtol=1e-4, atol=1e-3)


def test_logistic_equals_scikit_learns_with_the_penalty_of_the_best_validation_accuracy(parts):
    features, targets = parts
    names = {part: np.array(["low", "middle", "high"])[np.digitize(y[:, 0], [-20, 20])] for part, y in targets.items()}
    actual = logistic(Features.standardized(*features.values()), names["train"], names["validation"])
    scaler = StandardScaler().fit(features["train"])
    scaled = {name: scaler.transform(x) for name, x in features.items()}
    models = [
        LogisticRegression(C=1 / a, max_iter=5000).fit(scaled["train"], names["train"]) for a in LOGISTIC_PENALTIES
    ]
    accuracies = [accuracy_score(names["validation"], m.predict(scaled["validation"])) for m in models]
    best = int(np.argmax(accuracies))
    assert actual.penalty == LOGISTIC_PENALTIES[best]
    assert (actual.values == models[best].predict(scaled["test"])).mean() > 0.98


def test_the_test_rows_do_not_take_part_in_fitting(parts):
    features, targets = parts
    alone = ridge(Features.standardized(*features.values()), targets["train"], targets["validation"])
    features["test"] = np.concatenate([features["test"], 1e6 * np.ones((1, 12))])
    among = ridge(Features.standardized(*features.values()), targets["train"], targets["validation"])
    for one, other in zip(alone, among, strict=True):
        np.testing.assert_array_equal(one.values, other.values[:-1])


def test_a_constant_feature_does_no_harm(parts):
    features, targets = parts
    constant = {name: np.column_stack([x, np.full(len(x), 0.1)]) for name, x in features.items()}
    without = ridge(Features.standardized(*features.values()), targets["train"], targets["validation"])
    having = ridge(Features.standardized(*constant.values()), targets["train"], targets["validation"])
    for one, other in zip(without, having, strict=True):
        np.testing.assert_allclose(one.values, other.values, rtol=1e-5, atol=1e-4)


def test_a_single_name_in_training_is_what_is_predicted(parts):
    features, _ = parts
    found = logistic(Features.standardized(*features.values()), np.full(200, "adam"), np.full(80, "sgd"))
    assert found.values.tolist() == ["adam"] * 60


def test_a_feature_that_varies_by_rounding_alone_is_not_blown_up():
    train = np.full((200, 1), 1.1)
    assert 0 < train.std(axis=0)[0] < 1e-15
    features = Features.standardized(train, train, train + 0.25)
    np.testing.assert_allclose(features.test, 0.25)


def test_of_penalties_with_equal_accuracy_the_strongest_is_taken():
    random = np.random.RandomState(0)
    train, validation = random.standard_normal((2, 40, 1)) + np.array([[-50.0], [50.0]] * 20)
    names = np.array(["low", "high"] * 20)
    found = logistic(Features.standardized(train, validation, validation), names, names)
    assert found.values.tolist() == names.tolist()
    assert found.penalty == max(LOGISTIC_PENALTIES)
