"""What all supervised encoders share, seen through the small ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.grammar_networks import NETWORKS, architecture
from tests.zoo_bench.encoders.layouts import CNN, DEEP_CNN, INR, PLAIN, FakeView, layout_of, random_view
from zoo_bench.encoders import encoder_digest
from zoo_bench.encoders.baselines.deep_sets import TRAINING, deep_sets
from zoo_bench.encoders.baselines.mlp import mlp
from zoo_bench.encoders.baselines.statistics_boosting import StatisticsBoosting
from zoo_bench.encoders.baselines.statistics_network import statistics_network
from zoo_bench.encoders.digest import source_statements
from zoo_bench.encoders.sne.encoder import VARIANTS, sne
from zoo_bench.encoders.sne.network import SNENetwork
from zoo_bench.encoders.sne.settings import Settings
from zoo_bench.encoders.training.output import Output
from zoo_bench.protocol.problem import Problem
from zoo_gen.architecture.registry import Layers, network
from zoo_gen.errors import ZooError

SHORT = replace(TRAINING, epochs=3, steps=None, batch_size=8)
TINY = Settings(width=8, heads=2, head_width=8)


def makers():
    return {
        "mlp": lambda: mlp(widths=(16,), training=SHORT),
        "statistics_network": lambda: statistics_network(widths=(16,), training=SHORT),
        "deep_sets": lambda: deep_sets(training=SHORT),
        "sne": lambda: sne(TINY, training=replace(SHORT, epochs=2)),
        "statistics_boosting": lambda: StatisticsBoosting(most_trees=40),
    }


NAMES = list(makers())
MIXED = ["deep_sets", "sne"]


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_models_then_checkpoints_and_do_not_depend_on_the_other_rows(name):
    train, other = random_view(CNN, models=10, checkpoints=2), random_view(CNN, models=5, checkpoints=3, seed=1)
    encoder = makers()[name]().fit([train], [random_view(CNN, models=8, seed=2)], seed=0)
    embeddings, predicted = encoder.encode(other), encoder.predict(other)
    assert embeddings.shape[0] == predicted.shape[0] == 15
    part = FakeView(CNN, other.weights[3:4, 1:], {})
    np.testing.assert_allclose(encoder.encode(part), embeddings[[10, 11]], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(encoder.predict(part), predicted[[10, 11]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*MIXED])
def test_views_of_several_architectures_are_learned_together(name):
    train = [random_view(layout, models=10, seed=seed) for seed, layout in enumerate((CNN, DEEP_CNN, INR))]
    encoder = makers()[name]().fit(train, [random_view(DEEP_CNN, models=6, seed=7)], seed=0)
    assert encoder.encode(random_view(PLAIN, models=3)).shape[0] == 3  # of an architecture it never saw


@pytest.mark.parametrize("kind", ["residual images with batch norm", "groups", "gru over a sequence"])
def test_normalised_grouped_and_recurrent_networks_are_read_and_reordered(kind):
    layout = network(Layers.model_validate(architecture(kind)), NETWORKS[kind][2], 10).layout
    train, other = random_view(layout, models=8), random_view(layout, models=4, seed=1)
    for encoder in (
        makers()["statistics_network"](),
        sne(replace(TINY, nu=1.0, conv_tokens="kernels"), training=SHORT),
    ):
        embeddings = encoder.fit([train], [random_view(layout, models=6, seed=2)], seed=0).encode(other)
        assert len(embeddings) == 4
        assert np.isfinite(embeddings).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in MIXED])
def test_an_encoder_of_one_length_refuses_mixed_architectures(name):
    views = [random_view(CNN), random_view(INR)]
    with pytest.raises(ZooError, match=r"differ in architecture .* such as sne or pooled_layer_statistics"):
        makers()[name]().fit(views, views[:1], seed=0)


@pytest.mark.parametrize("name", ["mlp", "statistics_boosting"])
def test_an_encoder_of_one_length_refuses_another_architecture_to_predict(name):
    encoder = makers()[name]().fit([random_view(CNN, models=20)], [random_view(CNN)], seed=0)
    with pytest.raises(ZooError, match=r"was fitted to .* pooled_layer_statistics"):
        encoder.predict(random_view(PLAIN))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("weights", "are not finite; expected models that did not diverge"),
        ("constant", "is 0.5 for all models; expected a target that varies"),
        ("missing", "is missing for all training models; expected values to learn from"),
        ("none", "no training models"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_before_training(name, spoil, message):
    view = random_view(CNN)
    if spoil == "weights":
        view.weights[3, 0, 7] = np.nan
    elif spoil == "constant":
        view.targets["test_accuracy"][:] = 0.5
    elif spoil == "missing":
        view.targets["test_accuracy"][:] = np.nan
    else:
        view = FakeView(CNN, view.weights[:0], view.targets)
    with pytest.raises(ZooError, match=message):
        makers()[name]().fit([view], [random_view(CNN)], seed=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_problem_without_a_target_is_not_learned(name):
    view, encoder = random_view(CNN), makers()[name]()
    assert not encoder.can_learn(Problem(target=None))
    with pytest.raises(ZooError, match=r"got a problem without a target; expected one with a target"):
        encoder.fit([view], [view], problem=Problem(target=None), seed=0)
    assert encoder.can_learn(Problem(target="epoch"))


def named_view(*, models: int, seed: int) -> FakeView:
    """Return networks whose weights are small, middling or large, with the names of these and one without a name."""
    view = random_view(CNN, models=models, seed=seed)
    names = np.array(["large", "middling", "small"])
    kinds = np.arange(models) % 3
    deviations = np.array([0.4, 0.1, 0.02])[kinds]
    random = np.random.RandomState(seed)
    view.weights = (random.standard_normal((models, 1, CNN.size)) * deviations[:, None, None]).astype(np.float32)
    view.targets = {"size": names[kinds][:, None]}
    view.targets["size"][1] = ""
    return view


SIZE = Problem(target="size", is_number=False, metric="accuracy", targets=("size",))


@pytest.mark.parametrize("name", NAMES)
def test_names_are_learned_and_kept(name, tmp_path):
    train, validation, test = (named_view(models=models, seed=seed) for seed, models in enumerate((60, 21, 30)))
    encoder = makers()[name]()
    if name not in ("statistics_boosting", "sne"):  # SNE takes more steps than this, see below
        encoder.training = replace(encoder.training, epochs=25, warm_up_steps=0, learning_rate=3e-3)
    encoder.fit([train], [validation], problem=SIZE, seed=0)
    predicted, truth = encoder.predict(test), test.targets["size"].ravel()
    assert predicted.dtype.kind == "U"
    assert set(predicted) <= {"large", "middling", "small"}  # and never the missing one
    if name != "sne":
        assert (predicted == truth)[truth != ""].mean() > 0.5  # a third by chance
    assert encoder.config["fitted"]["left_out"] == {"train": 1, "validation": 1}
    if name != "statistics_boosting":
        encoder.save(tmp_path)
        loaded = makers()[name]()
        loaded.training = encoder.training
        assert (loaded.load(tmp_path).predict(test) == predicted).all()
        assert loaded.encode(test).shape == encoder.encode(test).shape


def test_sne_learns_names_too():
    """After 24 steps .69 of the networks are told right, with either of two seeds."""
    train, validation, test = (named_view(models=models, seed=seed) for seed, models in enumerate((60, 21, 30)))
    encoder = sne(VARIANTS["small"][0])
    encoder.training = replace(VARIANTS["small"][1], epochs=2, steps=24, batch_size=16, warm_up_steps=0)
    encoder.fit([train], [validation], problem=SIZE, seed=0)
    truth = test.targets["size"].ravel()
    assert (encoder.predict(test) == truth)[truth != ""].mean() > 0.5  # a third by chance


def test_the_loss_of_names_is_the_mean_negative_logarithm_of_their_share():
    names = np.array(["b", "c", "a", "b"])
    output = Output.of("any", SIZE, names)
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert (output.names, output.n_logits, output.facts) == (("a", "b", "c"), 3, {"outputs": 3})
    shares = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(axis=1, keepdims=True)
    expected = -np.log(shares[np.arange(4), [1, 2, 0, 1]]).mean()
    assert output.loss_of(logits, output.encoded(names)).item() == pytest.approx(expected)
    assert output.values(logits.numpy()).tolist() == [("a", "b", "c")[n] for n in shares.argmax(axis=1)]
    assert Output.of("any", Problem(), np.array([0.2, 0.8])).facts == {}


@pytest.mark.parametrize("name", NAMES)
def test_every_checkpoint_of_the_views_is_learned_from(name):
    """What an early checkpoint holds changes what is predicted; so does its label alone."""
    train, validation = random_view(CNN, models=12, checkpoints=2), random_view(CNN, models=8, seed=1)
    other_weights, other_labels = (
        FakeView(CNN, train.weights.copy(), {"test_accuracy": train.targets["test_accuracy"].copy()}) for _ in range(2)
    )
    other_weights.weights[:, 0] *= -3
    other_labels.targets["test_accuracy"][:, 0] = 0.9
    predicted = [
        makers()[name]().fit([view], [validation], seed=0).predict(validation)
        for view in (train, other_weights, other_labels)
    ]
    assert not np.array_equal(predicted[0], predicted[1])
    assert not np.array_equal(predicted[0], predicted[2])


@pytest.mark.parametrize("name", NAMES)
def test_rows_without_a_label_are_left_out_and_counted(name):
    """With NaN labels an encoder becomes what it is when those rows were never there."""
    train, validation = random_view(CNN, models=14, checkpoints=2), random_view(CNN, models=8, seed=1)
    with_holes = [
        FakeView(CNN, v.weights, {"test_accuracy": v.targets["test_accuracy"].copy()}) for v in (train, validation)
    ]
    with_holes[0].targets["test_accuracy"][[2, 5, 11]] = np.nan
    with_holes[1].targets["test_accuracy"][[0, 3]] = np.nan
    without = [
        FakeView(
            CNN, np.delete(v.weights, models, 0), {"test_accuracy": np.delete(v.targets["test_accuracy"], models, 0)}
        )
        for v, models in ((train, [2, 5, 11]), (validation, [0, 3]))
    ]
    fitted = [makers()[name]().fit([t], [v], seed=0) for t, v in (with_holes, without)]
    np.testing.assert_array_equal(fitted[0].predict(validation), fitted[1].predict(validation))
    assert fitted[0].config["fitted"]["left_out"] == {"train": 6, "validation": 2}
    assert fitted[1].config["fitted"]["left_out"] == {"train": 0, "validation": 0}


@pytest.mark.parametrize("name", NAMES)
def test_any_number_is_predicted_in_its_own_units(name):
    train = random_view(CNN, models=20, target="frequency")
    train.targets["frequency"] = 100 + 50 * train.targets["frequency"][:, 0]
    encoder = makers()[name]()
    assert "frequency" not in str(encoder.config)
    encoder.fit([train], [train], problem=Problem(target="frequency"), seed=0)
    assert encoder.config["fitted"]["target"] == "frequency"
    predicted = encoder.predict(train)
    assert ((predicted > 80) & (predicted < 170)).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_everything(name):
    train, validation = random_view(CNN, models=12), random_view(CNN, models=8, seed=1)
    first, again, other = (makers()[name]().fit([train], [validation], seed=s).predict(validation) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    if name != "statistics_boosting":  # whose only chance is which features a split may use
        assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "statistics_boosting"])
def test_what_was_saved_predicts_the_same(name, tmp_path):
    train, validation = random_view(CNN, models=20), random_view(CNN, models=8, seed=1)
    encoder = makers()[name]().fit([train], [validation], problem=Problem(loss="mse"), seed=0)
    encoder.save(tmp_path / "saved")
    loaded = makers()[name]().load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict(validation), encoder.predict(validation))
    assert loaded.config == encoder.config
    other = makers()[name]()
    other.training = replace(SHORT, epochs=4)
    with pytest.raises(ZooError, match="saved with other settings"):
        other.load(tmp_path / "saved")
    with pytest.raises(ZooError, match="was not fitted; expected fit or load first"):
        makers()[name]().encode(validation)


def test_a_share_is_learned_with_cross_entropy_and_anything_else_with_squared_error():
    shares, others = np.array([0.1, 0.4, 0.9]), np.array([10.0, 20.0, 60.0])
    logits = np.array([-2.0, 0.0, 1.0])
    output = Output.of("mlp", Problem(), shares)
    mean = shares.mean()  # a logit of 0 stands for it
    chance = 1 / (1 + np.exp(-logits) * (1 - mean) / mean)
    expected = -(shares * np.log(chance) + (1 - shares) * np.log(1 - chance)).mean()
    assert float(output.loss_of(torch.tensor(logits), torch.tensor(shares))) == pytest.approx(expected)
    np.testing.assert_allclose(output.values(logits), chance)
    output = Output.of("mlp", Problem(), others)
    np.testing.assert_allclose(output.values((others - others.mean()) / others.std()), others)
    with pytest.raises(ZooError, match="loss 'bce' needs a target from 0 to 1"):
        Output.of("mlp", Problem(loss="bce"), others)


def test_the_function_that_makes_an_encoder_tells_it_from_others():
    names = {encoder_digest("x", makers()[name]()) for name in NAMES}
    assert len(names) == len(NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "statistics_boosting"])
def test_the_digest_covers_what_is_learned_and_how(name):
    parts = ("supervised", "output", "targets", "networks", "loop", "steps")
    modules = set(source_statements(makers()[name]().source))
    assert {f"zoo_bench.encoders.training.{part}" for part in parts} <= modules
    reads_statistics = name == "statistics_network"
    assert ("zoo_bench.encoders.baselines.tensor_statistics" in modules) == reads_statistics


def test_deep_sets_ignore_the_order_of_all_weights_and_the_length_of_others():
    train = random_view(CNN, models=20)
    encoder = makers()["deep_sets"]().fit([train], [train], seed=0)
    view = random_view(CNN, models=2)
    shuffled = FakeView(CNN, view.weights[..., np.random.RandomState(0).permutation(CNN.size)], {})
    np.testing.assert_allclose(encoder.encode(shuffled), encoder.encode(view), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_can_be_made(name):
    settings, training = VARIANTS[name]
    assert sne(settings, training=training).config["width"] == settings.width


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pos": "element"}, "sne: pos = 'element'; expected 'none', 'rowcol', "),
        ({"width": 30, "heads": 4}, "expected a width that heads divide"),
        ({"chunk": 0}, "sne: chunk 0; expected at least 1"),
        ({"chunk": "column"}, "sne: chunk = 'column'; expected int, 'auto', 'row'"),
        ({"hierarchy": "no"}, "sne: hierarchy = 'no'; expected bool"),
        ({"nu": True}, "sne: nu = True; expected float, 'auto'"),
    ],
)
def test_settings_that_are_not_valid_are_named(settings, message):
    with pytest.raises(ZooError) as error:
        Settings(**settings)
    assert message in str(error.value)


def test_the_invariance_penalty_is_settled_by_the_zoo():
    facts = {}
    for name, layout, nu in (("inr", INR, "auto"), ("cnn", CNN, "auto"), ("asked", CNN, 0.5)):
        view = random_view(layout, models=10)
        encoder = sne(replace(TINY, nu=nu), training=SHORT).fit([view], [view], seed=0)
        facts[name] = encoder.config["fitted"]["nu"]
    assert facts == {"inr": 1.0, "cnn": 0.0, "asked": 0.5}


@pytest.mark.parametrize("signs", [False, True])
def test_only_what_is_learned_from_has_its_units_negated(monkeypatch, signs):
    """Seen by the network: in training, where asked for, the training networks with other signs; else as they are."""
    seen = {True: [], False: []}
    forward = SNENetwork.forward

    def spy(self, plan, numbers, offsets):
        seen[self.training].append(torch.stack([numbers[start : start + INR.size] for start in offsets.tolist()]))
        return forward(self, plan, numbers, offsets)

    monkeypatch.setattr(SNENetwork, "forward", spy)
    train, validation = random_view(INR, models=16, checkpoints=1), random_view(INR, models=5, checkpoints=1, seed=1)
    sne(replace(TINY, nu=0.0, signs=signs), training=SHORT).fit([train], [validation], seed=0)
    # Epochs x batches; and an epoch the training networks, on which the head settles, and those that validate.
    assert (len(seen[True]), len(seen[False])) == (3 * 2, 3 * 2)
    weights = torch.from_numpy(train.weights[:, 0])
    for batch in seen[True]:
        of = [int((weights.abs() == row.abs()).all(dim=1).nonzero().item()) for row in batch]
        assert len(set(of)) == 8
        assert torch.equal(batch, weights[of]) != signs
    for batch, view in zip(seen[False], [train, validation] * 3, strict=True):
        weights = torch.from_numpy(view.weights[:, 0])
        assert torch.equal(batch[: len(weights)], weights)
        assert torch.equal(batch[len(weights) :], weights[-1:].expand(32 - len(weights), -1))  # what fills up the block


def test_signs_are_refused_where_no_unit_has_one():
    view = random_view(layout_of((3, 4)), models=10)
    with pytest.raises(ZooError, match=r"sne: signs is set, but .*no hidden units; expected signs = False"):
        sne(replace(TINY, signs=True), training=SHORT).fit([view], [view], seed=0)
