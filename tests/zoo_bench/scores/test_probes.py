"""Probes against scikit-learn's, with features that a few rows have exploded, and with labels that are missing."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error, r2_score
from sklearn.preprocessing import StandardScaler

from zoo_bench.scores import paper_probes, probes, standard_probes
from zoo_bench.scores.linear_features import Axes
from zoo_bench.scores.logistic import Logistic
from zoo_bench.scores.probes import Embeddings, Labels, probe
from zoo_bench.scores.standard_probes import CUTS, LOGISTIC_PENALTIES, MEAN_ALONE, RIDGE_PENALTIES
from zoo_gen.errors import ZooError

WIDE = 1e9  # deviations: nothing is cut


@pytest.fixture
def parts():
    random = np.random.RandomState(0)
    mixing = random.standard_normal((12, 12))
    sizes = {"train": 200, "validation": 80, "test": 60}
    features = {name: random.standard_normal((size, 12)) @ mixing * 10 + 3 for name, size in sizes.items()}
    coefficients = random.standard_normal((12, 3))
    targets = {n: x @ coefficients + 5 * random.standard_normal((len(x), 3)) for n, x in features.items()}
    return features, targets


def labels(targets, column=0):
    return Labels(targets["train"][:, column], targets["validation"][:, column])


def names(targets):
    return {part: np.array(["low", "middle", "high"])[np.digitize(y[:, 0], [-20, 20])] for part, y in targets.items()}


def predicted(features, of_train, *, kind="standard"):
    """What a probe makes of one target."""
    return probe(Embeddings(*features.values()), {"it": of_train}, kind=kind)["it"]


def test_ridge_equals_scikit_learns_with_the_strongest_penalty_of_nearly_the_best_validation_error(parts):
    features, targets = parts
    actual = standard_probes.regress(
        standard_probes.features(*features.values(), cut=WIDE), targets["train"], targets["validation"]
    )
    scaler = StandardScaler().fit(features["train"])
    scaled = {name: scaler.transform(x) for name, x in features.items()}
    for column in range(3):
        best, error = None, np.inf
        for penalty in RIDGE_PENALTIES:
            model = Ridge(alpha=penalty).fit(scaled["train"], targets["train"][:, column])
            squared_error = mean_squared_error(targets["validation"][:, column], model.predict(scaled["validation"]))
            if squared_error < 0.999 * error:
                best, error = (penalty, model), squared_error
        assert actual.penalties[column] == best[0]
        assert actual.errors[column] == pytest.approx(error, rel=1e-4)
        np.testing.assert_allclose(actual.predicted[:, column], best[1].predict(scaled["test"]), rtol=1e-4, atol=1e-3)


def test_logistic_equals_scikit_learns_with_the_penalty_of_the_best_validation_accuracy(parts):
    features, targets = parts
    named = names(targets)
    actual = standard_probes.classify(
        standard_probes.features(*features.values(), cut=WIDE), named["train"], named["validation"]
    )
    scaler = StandardScaler().fit(features["train"])
    scaled = {name: scaler.transform(x) for name, x in features.items()}
    models = [
        LogisticRegression(C=1 / a, max_iter=5000).fit(scaled["train"], named["train"]) for a in LOGISTIC_PENALTIES
    ]
    accuracies = [accuracy_score(named["validation"], m.predict(scaled["validation"])) for m in models]
    best = int(np.argmax(accuracies))
    assert actual.penalty == LOGISTIC_PENALTIES[best]
    assert actual.error == pytest.approx(1 - accuracies[best])
    assert (actual.predicted == models[best].predict(scaled["test"])).mean() > 0.98


@pytest.fixture
def wide():
    """More features than rows, most of them combinations of a few, and one that is constant."""
    random = np.random.RandomState(0)
    mixing = random.standard_normal((12, 500))
    sizes = {"train": 90, "validation": 60, "test": 50}
    hidden = {part: random.standard_normal((size, 12)) for part, size in sizes.items()}
    features = {
        part: hidden_rows @ mixing + random.standard_normal((len(hidden_rows), 500))
        for part, hidden_rows in hidden.items()
    }
    for rows in features.values():
        rows[:, 7] = 3.0
    return features, {
        part: hidden_rows[:, :2] + 0.3 * random.standard_normal((len(hidden_rows), 2))
        for part, hidden_rows in hidden.items()
    }


def test_ridge_on_more_features_than_rows_is_scikit_learns(wide):
    features, targets = wide
    scaled = standard_probes.features(*features.values(), cut=WIDE)
    actual = standard_probes.regress(scaled, targets["train"], targets["validation"])
    for column in range(2):
        penalty = actual.penalties[column]
        assert penalty < MEAN_ALONE
        model = Ridge(alpha=penalty, solver="cholesky").fit(scaled.train.astype(float), targets["train"][:, column])
        expected = model.predict(scaled.test.astype(float))
        np.testing.assert_allclose(actual.predicted[:, column], expected, rtol=1e-6, atol=1e-6)


def test_logistic_on_more_features_than_rows_is_scikit_learns(wide):
    features, targets = wide
    labels_of = {
        part: np.array(["low", "middle", "high"])[np.digitize(y[:, 0], [-0.5, 0.5])] for part, y in targets.items()
    }
    scaled = standard_probes.features(*features.values(), cut=WIDE)
    actual = standard_probes.classify(scaled, labels_of["train"], labels_of["validation"])
    model = LogisticRegression(C=1 / actual.penalty, max_iter=5000, tol=1e-8).fit(scaled.train, labels_of["train"])
    assert accuracy_score(labels_of["validation"], model.predict(scaled.validation)) == pytest.approx(1 - actual.error)
    np.testing.assert_array_equal(actual.predicted, model.predict(scaled.test))


def test_the_axes_of_more_features_than_rows_leave_out_what_does_not_vary():
    """Rows twice over vary along half as many axes; the others are rounding, by which nothing may be divided."""
    half = np.random.RandomState(0).standard_normal((20, 100)).astype(np.float32)
    rows = np.concatenate([half, half])
    axes = Axes.of(rows, rows.mean(axis=0, dtype=np.float64))
    assert axes.squares.shape == (19,)
    singular = np.linalg.svd(rows - axes.centre, compute_uv=False)[:19]
    np.testing.assert_allclose(np.sqrt(axes.squares[::-1]), singular, rtol=1e-6)
    np.testing.assert_allclose(axes.directions.T @ axes.directions, np.eye(19), atol=1e-9)


@pytest.mark.parametrize("kind", ["standard", "paper"])
def test_the_test_rows_do_not_take_part_in_fitting(parts, kind):
    features, targets = parts
    alone = predicted(features, labels(targets), kind=kind)
    features["test"] = np.concatenate([features["test"], 1e6 * np.ones((1, 12))])
    among = predicted(features, labels(targets), kind=kind)
    np.testing.assert_array_equal(alone.values, among.values[:-1])


def test_a_constant_feature_does_no_harm(parts):
    features, targets = parts
    constant = {name: np.column_stack([x, np.full(len(x), 0.1)]) for name, x in features.items()}
    without, having = (predicted(each, labels(targets)).values for each in (features, constant))
    np.testing.assert_allclose(without, having, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("scale", [1e3, 1e9, 1e30])
def test_a_few_exploded_networks_do_not_ruin_a_probe(parts, scale):
    features, targets = parts
    without = r2_score(targets["test"][:, 0], predicted(features, labels(targets)).values)
    exploded = {part: rows.copy() for part, rows in features.items()}
    for rows in exploded.values():
        rows[:3] *= scale
    changed = {part: y.copy() for part, y in targets.items()}
    for y in changed.values():
        y[:3] = y.mean(axis=0)  # nothing can be told of them
    score = r2_score(changed["test"][:, 0], predicted(exploded, labels(changed)).values)
    uncut = StandardScaler().fit(exploded["train"])
    ridge = Ridge(alpha=1.0).fit(uncut.transform(exploded["train"]), changed["train"][:, 0])
    assert without > 0.9
    assert score > 0.6  # three of sixty test rows are predicted wrongly, within bounds
    assert r2_score(changed["test"][:, 0], ridge.predict(uncut.transform(exploded["test"]))) < 0.3


def test_where_no_tail_is_heavy_nothing_is_cut(parts):
    features, _ = parts
    wide, cut = (standard_probes.features(*features.values(), cut=width) for width in (WIDE, CUTS[0]))
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(wide, part), getattr(cut, part))


@pytest.mark.parametrize("tells", ["the bulk", "the tail"])
def test_names_are_told_by_the_cut_that_errs_least_on_the_validation_rows(tells):
    """A fifth of the rows lie between both cuts: noise where the bulk tells names, and else what tells them."""
    random = np.random.default_rng(1)
    rows = random.standard_normal((900, 3))
    of_tail = random.random(rows.shape) < 0.2
    rows[of_tail] = random.uniform(3.5, 9, of_tail.sum()) * random.choice([-1, 1], of_tail.sum())
    score = np.where(of_tail, 0, rows).sum(axis=1) if tells == "the bulk" else rows[:, 0] - 6
    names = np.where(score > 0, "above", "below")
    train, validation, test = rows[:300], rows[300:600], rows[600:]
    labels = Labels(names[:300], names[300:600])
    actual = probes.probe(Embeddings(train, validation, test), {"it": labels}, kind="standard")["it"]
    expected, other = (
        standard_probes.classify(
            standard_probes.features(train, validation, test, cut=cut), labels.train, labels.validation
        ).predicted
        for cut in (CUTS[::-1] if tells == "the bulk" else CUTS)
    )
    assert (expected != other).any()
    np.testing.assert_array_equal(actual.values, expected)


def test_a_feature_that_is_0_in_most_rows_is_cut_by_the_others():
    random = np.random.RandomState(0)
    rows = np.where(random.random_sample((400, 1)) < 0.6, 0.0, random.standard_normal((400, 1)))
    rows[0] = 1e6
    column = standard_probes.features(rows, rows, rows, cut=CUTS[0]).train[:, 0]
    assert np.abs(column).max() < 25
    assert len(np.unique(column)) > 100


def test_a_feature_that_varies_by_rounding_alone_is_not_blown_up():
    train = np.full((200, 1), 1.1)
    assert 0 < train.std(axis=0)[0] < 1e-15
    scaled = standard_probes.features(train, train, train, cut=WIDE)
    np.testing.assert_allclose(scaled.test, 0, atol=1e-6)


def test_wide_embeddings_of_nothing_predict_the_mean():
    """The upper end of the grid binds nowhere: two thousand features of noise are given up."""
    random = np.random.RandomState(0)
    sizes = {"train": 300, "validation": 60, "test": 60}
    noise = {name: random.standard_normal((size, 800)) for name, size in sizes.items()}
    labels_of_noise = Labels(random.standard_normal(300), random.standard_normal(60))
    prediction = predicted(noise, labels_of_noise)
    assert prediction.penalty > 1e3
    assert np.abs(prediction.values - labels_of_noise.train.mean()).max() < 1.0


def test_a_wide_embedding_gets_a_penalty_beyond_the_papers_grid_and_short_of_the_mean_alone():
    """A hundred dimensions that each stand there a hundred times: the paper's strongest penalty, 1e3, is too weak."""
    random = np.random.RandomState(0)
    base = random.standard_normal((600, 100))
    truth = base @ random.standard_normal(100) / 10 + random.standard_normal(600)
    rows = np.repeat(base, 100, axis=1)
    features = {"train": rows[:200], "validation": rows[200:400], "test": rows[400:]}
    chosen = predicted(features, Labels(truth[:200], truth[200:400]))
    assert 1e3 < chosen.penalty < MEAN_ALONE
    scaler = StandardScaler().fit(features["train"])
    weak = Ridge(alpha=1e3).fit(scaler.transform(features["train"]), truth[:200])
    of_weak = r2_score(truth[400:], weak.predict(scaler.transform(features["test"])))
    assert r2_score(truth[400:], chosen.values) > max(of_weak, 0) + 0.05


def test_a_penalty_that_leaves_the_mean_alone_ends_the_grid(parts):
    features, _ = parts
    gram = standard_probes.features(*features.values(), cut=WIDE).train
    assert np.linalg.eigvalsh(gram.T @ gram).max() < 1e-9 * MEAN_ALONE
    assert RIDGE_PENALTIES[0] == MEAN_ALONE
    assert list(RIDGE_PENALTIES) == sorted(RIDGE_PENALTIES, reverse=True)


def test_a_single_name_in_training_is_what_is_predicted(parts):
    features, _ = parts
    prediction = predicted(features, Labels(np.full(200, "adam"), np.full(80, "sgd")))
    assert prediction.values.tolist() == ["adam"] * 60


def test_of_penalties_with_equal_accuracy_that_with_the_least_cross_entropy_is_taken():
    """Few validation rows are all right at each penalty; the strongest ones would be wrong of others."""
    random = np.random.RandomState(0)
    train, validation = random.standard_normal((2, 40, 3)) + np.array([[-3.0], [3.0]] * 20)
    train[::2, 0] *= 30  # so that under a strong penalty the mean is no good boundary
    classes = np.array(["low", "high"] * 20)
    features = {"train": train, "validation": validation, "test": validation}
    actual = predicted(features, Labels(classes, classes))
    scaled = standard_probes.features(*features.values(), cut=10.0)
    entropies = {}
    for penalty in LOGISTIC_PENALTIES:
        model = LogisticRegression(C=1 / penalty, max_iter=5000, tol=1e-8).fit(scaled.train, classes)
        accuracy = accuracy_score(classes, model.predict(scaled.validation))
        entropies[-accuracy, log_loss(classes, model.predict_proba(scaled.validation))] = penalty
    assert sum(accuracy == min(entropies)[0] for accuracy, _ in entropies) > 1
    assert actual.penalty == entropies[min(entropies)] < max(LOGISTIC_PENALTIES)


@pytest.mark.parametrize("kind", ["standard", "paper"])
def test_rows_without_a_label_change_nothing(parts, kind, monkeypatch):
    """A target with missing labels is predicted as from the rows that have it, beside another that has all."""
    monkeypatch.setattr(paper_probes, "EPOCHS", 2)
    features, targets = parts
    keep = {"train": np.arange(200) % 7 > 0, "validation": np.arange(80) % 5 > 0, "test": np.full(60, True)}
    number, name = targets["train"][:, 0].copy(), names(targets)["train"].astype("U9")
    number[~keep["train"]], name[~keep["train"]] = np.nan, ""
    of_validation, named = targets["validation"][:, 0].copy(), names(targets)["validation"].astype("U9")
    of_validation[~keep["validation"]], named[~keep["validation"]] = np.nan, ""
    labelled = {"number": Labels(number, of_validation), "name": Labels(name, named), "whole": labels(targets, 1)}
    actual = probe(Embeddings(*features.values()), labelled, kind=kind)
    whole = predicted(features, labels(targets, 1), kind=kind)
    np.testing.assert_allclose(actual["whole"].values, whole.values, rtol=1e-9)
    if kind == "paper":  # its features take nothing from other rows
        rows_left = {part: rows[keep[part]] for part, rows in features.items()}
        alone = predicted(rows_left, Labels(number[keep["train"]], of_validation[keep["validation"]]), kind=kind)
        np.testing.assert_allclose(actual["number"].values, alone.values, rtol=1e-9)
    assert r2_score(targets["test"][:, 0], actual["number"].values) > (0.9 if kind == "standard" else 0.5)
    assert set(actual["name"].values) <= {"low", "middle", "high"}


def of_many_names(parts):
    features, targets = parts
    shown = {f"name {column}": targets["train"][:, column] for column in range(3)}
    chosen = {f"name {column}": targets["validation"][:, column] for column in range(3)}
    as_names = {key: Labels((shown[key] > 0).astype(str), (chosen[key] > 0).astype(str)) for key in shown}
    return Embeddings(*features.values()), {**as_names, "number": labels(targets)}


@pytest.mark.parametrize("kind", ["standard", "paper"])
def test_several_threads_predict_the_very_bits_of_one(parts, kind, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    by_one = probe(*of_many_names(parts), kind=kind)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    by_three = probe(*of_many_names(parts), kind=kind)
    assert list(by_three) == list(by_one) == ["name 0", "name 1", "name 2", "number"]
    for target, one in by_one.items():
        assert by_three[target].values.tobytes() == one.values.tobytes()
        assert by_three[target].penalty == one.penalty


def test_names_are_classified_side_by_side_on_axes_that_are_computed_once(parts, monkeypatch):
    together, computed = threading.Barrier(3, timeout=60), []
    classify, along = standard_probes.classify, Axes.along
    monkeypatch.setattr(standard_probes, "classify", lambda *parts: (together.wait(), classify(*parts))[1])
    monkeypatch.setattr(Axes, "along", lambda *rows: computed.append(1) or along(*rows))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert len(probe(*of_many_names(parts), kind="standard")) == 4
    assert len(computed) == 3 * len(CUTS)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_target_that_all_models_of_a_part_lack_is_refused(parts, part):
    features, targets = parts
    column = {"train": targets["train"][:, 0], "validation": targets["validation"][:, 0]}
    column[part] = np.full(len(column[part]), np.nan)
    whose = "training" if part == "train" else "validation"
    with pytest.raises(ZooError, match=f"target 'it': no {whose} model has it"):
        predicted(features, Labels(**column))


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from([1, 5, 60]), st.floats(-6, 12))
def test_no_prediction_goes_far_beyond_what_was_seen(seed, dimension, magnitude):
    random = np.random.RandomState(seed)
    sizes = {"train": 40, "validation": 10, "test": 15}
    features = {name: random.standard_cauchy((size, dimension)) for name, size in sizes.items()}
    features["test"] *= 10**magnitude
    random_labels = Labels(random.random_sample(40), random.random_sample(10))
    values = predicted(features, random_labels).values
    span = np.ptp(random_labels.train)
    assert np.isfinite(values).all()
    assert values.min() >= random_labels.train.min() - 0.5 * span - 1e-9
    assert values.max() <= random_labels.train.max() + 0.5 * span + 1e-9


def test_the_papers_ridge_is_scikit_learns_on_raw_features_with_a_penalised_intercept(parts):
    features, targets = parts
    ones = {part: np.column_stack([x.astype(np.float32), np.ones(len(x))]) for part, x in features.items()}
    prediction = predicted(features, labels(targets), kind="paper")
    models = [
        Ridge(alpha=penalty, fit_intercept=False).fit(ones["train"], targets["train"][:, 0])
        for penalty in paper_probes.RIDGE_PENALTIES
    ]
    scores = [r2_score(targets["validation"][:, 0], model.predict(ones["validation"])) for model in models]
    best = int(np.argmax(scores))
    assert prediction.penalty == paper_probes.RIDGE_PENALTIES[best]
    np.testing.assert_allclose(prediction.values, models[best].predict(ones["test"]), rtol=1e-4, atol=1e-3)
    constant = Labels(targets["train"][:, 0], np.ones(80))  # R2 says nothing there, so the training rows choose
    assert predicted(features, constant, kind="paper").penalty < 1e-3


def test_the_papers_layer_is_trained_as_torch_trains_it(parts, monkeypatch):
    monkeypatch.setattr(paper_probes, "EPOCHS", 3)
    features, targets = parts
    named = names(targets)
    (raw,) = paper_probes.alternatives(*features.values())
    kinds, numbers = np.unique(named["train"], return_inverse=True)
    start = np.random.RandomState(1).standard_normal((13, 3)).astype(np.float32)
    actual = paper_probes.trained(start, raw.train, np.eye(3, dtype=np.float32)[numbers], np.random.RandomState(2))
    layer = torch.nn.Linear(12, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(start[:-1].T))
        layer.bias.copy_(torch.tensor(start[-1]))
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-4, weight_decay=1e-6)
    order = np.random.RandomState(2)
    for _ in range(3):
        for batch in np.split(order.permutation(200), 20):
            optimizer.zero_grad()
            rows = torch.tensor(raw.train[batch, :-1])
            torch.nn.functional.cross_entropy(layer(rows), torch.tensor(numbers[batch])).backward()
            optimizer.step()
    np.testing.assert_allclose(actual[:-1].T, layer.weight.detach(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(actual[-1], layer.bias.detach(), rtol=1e-4, atol=1e-6)
    prediction = probes.probe(
        Embeddings(*features.values()), {"it": Labels(named["train"], named["validation"])}, kind="paper"
    )["it"]
    assert prediction.penalty is None
    assert set(prediction.values) <= set(kinds)


def test_the_weakest_penalty_is_least_squares(parts):
    """On features of which some are sums of others: axes that are rounding are left out, as NumPy leaves them out."""
    features, targets = parts
    both = {name: np.concatenate([rows, rows[:, :4] + rows[:, 4:8]], axis=1) for name, rows in features.items()}
    scaled = standard_probes.features(*both.values(), cut=WIDE)
    mean = targets["train"].mean(axis=0)
    moments = scaled.axes.moments(scaled.train, targets["train"] - mean)
    coefficients = scaled.axes.coefficients(moments, RIDGE_PENALTIES[-1])
    centred = scaled.train.astype(np.float64) - scaled.axes.centre
    rounding = np.sqrt(centred.shape[1] * np.finfo(np.float64).eps)  # of singular values, whose squares the axes have
    least_squares = np.linalg.lstsq(centred, targets["train"] - mean, rcond=rounding)[0]
    assert scaled.axes.squares.shape == (12,)
    np.testing.assert_allclose(centred @ coefficients, centred @ least_squares, rtol=1e-5, atol=1e-5)


def test_strong_penalties_leave_the_most_frequent_name(parts):
    features, _ = parts
    random = np.random.RandomState(0)
    of_train, of_validation = (
        random.choice(["often", "rare", "seldom"], size, p=[0.8, 0.1, 0.1]) for size in (200, 80)
    )
    chosen = predicted(features, Labels(of_train, of_validation))
    assert set(chosen.values) == {"often"}
    assert chosen.penalty > 1e4


def test_the_path_of_penalties_ends_where_validation_rows_stop_to_gain(parts, monkeypatch):
    """What is left out is what a whole path would not have chosen, and takes no fit."""
    features, targets = parts
    labelled, tried = names(targets), []
    scaled = standard_probes.features(*features.values(), cut=WIDE)
    fit = Logistic.fit
    monkeypatch.setattr(Logistic, "fit", lambda model, penalty: tried.append(penalty) or fit(model, penalty))
    short = standard_probes.classify(scaled, labelled["train"], labelled["validation"])
    monkeypatch.setattr(standard_probes, "PATIENCE", len(LOGISTIC_PENALTIES))
    n_tried = len(tried)
    whole = standard_probes.classify(scaled, labelled["train"], labelled["validation"])
    assert n_tried < len(tried) - n_tried == len(LOGISTIC_PENALTIES)
    assert (short.penalty, short.error) == (whole.penalty, whole.error)
