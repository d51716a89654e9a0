"""Predictions of every shipped supervised encoder are right in size, not only in order, on what it was fitted to."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.zoo_bench.encoders.layouts import INR, random_view
from zoo_bench.encoders import ENCODERS, make_encoder
from zoo_bench.encoders.sne.encoder import VARIANTS, sne
from zoo_bench.encoders.sne.network import SNENetwork
from zoo_bench.encoders.training.output import Output
from zoo_bench.protocol.problem import Problem

# The views here are of weights that no network computes with.
SUPERVISED = [
    name
    for name, encoder in ((name, make_encoder(name)) for name in ENCODERS)
    if hasattr(encoder, "predict") and not getattr(encoder, "needs", ())
]


def r2(truth, predicted):
    return 1 - ((predicted - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()


def short_encoder(name, *, steps):
    """Return a shipped encoder with fewer steps in smaller batches."""
    encoder = make_encoder(name)
    if hasattr(encoder, "training"):
        encoder.training = replace(encoder.training, epochs=4, steps=steps, batch_size=8, most_numbers=None)
    return encoder


def test_all_that_predict_are_here():
    assert {"statistics_boosting", "statistics_network", "mlp", "deep_sets", "sne", "sne_sine"} < set(SUPERVISED)


# All networks share their training: they take one number of models each here, and both in the long form.
SNE_AND_NFN = [name for name in SUPERVISED if name.startswith(("sne", "nfn"))]
NETWORKS = [name for name in SUPERVISED if name not in (*SNE_AND_NFN, "mlp", "statistics_boosting")]
SLOW = {(name, (16, 72)[number % 2]) for names in (SNE_AND_NFN, NETWORKS) for number, name in enumerate(names)}
# Variants are settings of one network: the small one of each kind is in the quick form.
QUICK = ("sne_small", "nfn_np_small", "mlp", "deep_sets_small", "statistics_network", "statistics_boosting")


def marks_of(name, models):
    if (name, models) in SLOW:
        return [pytest.mark.slow]
    if (name, models) == ("statistics_boosting", 16):
        return [pytest.mark.thorough]
    return [] if name in QUICK else [pytest.mark.thorough]


@pytest.mark.parametrize(
    ("name", "models"),
    [pytest.param(name, models, marks=marks_of(name, models)) for name in SUPERVISED for models in (16, 72)],
)
def test_predictions_of_training_networks_are_better_than_their_mean(name, models):
    train, validation = random_view(INR, models=models), random_view(INR, models=8, seed=1)
    encoder = short_encoder(name, steps=40).fit([train], [validation], seed=0)
    assert r2(train.targets["test_accuracy"].ravel(), encoder.predict(train)) > 0


def test_a_norm_before_the_head_fits_the_state_that_is_kept():
    """Its mean and variance are those of the embeddings that the kept state gives to the training networks."""
    train, validation = random_view(INR, models=30), random_view(INR, models=8, seed=1)
    settings, training = VARIANTS["small"]
    narrow = replace(settings, width=8, heads=2, head_width=8)
    encoder = sne(narrow, training=replace(training, epochs=4, steps=24)).fit([train], [validation], seed=0)
    norm = encoder._fitted.module.head[0]
    embeddings = encoder.encode(train)
    np.testing.assert_allclose(norm.running_mean, embeddings.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.running_var, embeddings.var(axis=0, ddof=1), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("metric", ["kendall_tau", "r2"])
def test_targets_of_any_size_are_predicted_in_it(metric):
    train, validation = random_view(INR, models=40), random_view(INR, models=12, seed=1)
    for view in (train, validation):
        view.targets["rate"] = 1e-4 * (1 + view.targets["test_accuracy"])
    problem = Problem(target="rate", metric=metric)
    for name in ("mlp", "statistics_network"):
        encoder = short_encoder(name, steps=100).fit([train], [validation], problem=problem, seed=0)
        assert r2(train.targets["rate"].ravel(), encoder.predict(train)) > 0


def test_the_number_of_steps_does_not_follow_the_number_of_networks():
    """A training of 9 steps takes 9 steps, be there 8 networks or 60; of long networks it takes fewer."""
    for models in (8, 60):
        steps = _steps(models, replace(VARIANTS["small"][1], epochs=3, steps=9, batch_size=8, most_numbers=None))
        assert steps == 9
    # 97 numbers a network and 8 networks a step.
    assert _steps(60, replace(VARIANTS["small"][1], epochs=3, steps=9, batch_size=8, most_numbers=97 * 8 * 3)) == 3


def _steps(models, training):
    view = random_view(INR, models=models)
    encoder = sne(replace(VARIANTS["small"][0], nu=0.0, width=8, heads=2, head_width=8), training=training)
    counted = 0
    forward = SNENetwork.forward

    def counting(self, *args):
        nonlocal counted
        counted += self.training
        return forward(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SNENetwork, "forward", counting)
        encoder.fit([view], [view], seed=0)
    return counted


@pytest.mark.parametrize("name", ["statistics_network", "mlp", "deep_sets_small", "sne_small"])
def test_small_networks_are_trained_on_one_thread_and_leave_the_others_as_they_were(name, monkeypatch):
    """Two threads wait for each other at each of a thousand small products, which takes minutes on a busy machine."""
    view, during = random_view(INR, models=8), []
    loss_of = Output.loss_of
    monkeypatch.setattr(Output, "loss_of", lambda *args: during.append(torch.get_num_threads()) or loss_of(*args))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        short_encoder(name, steps=4).fit([view], [view], seed=0)
        assert set(during) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
