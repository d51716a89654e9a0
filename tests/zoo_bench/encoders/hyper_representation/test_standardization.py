"""Standardised weights, and the encoder that reads them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.zoo_bench.encoders.layouts import CNN, random_view
from zoo_bench.encoders import make_encoder
from zoo_bench.encoders.hyper_representation.augment import Permutations
from zoo_bench.encoders.hyper_representation.configurations import SMALL
from zoo_bench.encoders.hyper_representation.encoder import HyperRepresentation
from zoo_bench.encoders.hyper_representation.standardization import Standardization
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.protocol.views import ZooFacts
from zoo_gen.errors import ZooError


def normal_rows(deviations, *, count=400):
    """Return rows of a layout whose tensors are normal, each with a mean and a deviation of its own."""
    random = np.random.RandomState(0)
    rows = np.empty((count, CNN.size), np.float32)
    for number, (parameter, deviation) in enumerate(zip(CNN.parameters, deviations, strict=True)):
        rows[:, parameter.start : parameter.stop] = number + deviation * random.standard_normal((count, parameter.size))
    return rows


def test_each_tensor_has_mean_0_and_deviation_1_whatever_its_own():
    rows = normal_rows(np.geomspace(1e-3, 1e3, len(CNN.parameters)))
    standardized = Standardization.of(rows, CNN).apply(rows)
    for parameter in CNN.parameters:
        values = standardized[:, parameter.start : parameter.stop]
        assert abs(values.mean()) < 0.05
        assert abs(values.std() - 1) < 0.05


def test_a_few_exploded_networks_change_little_of_the_others_and_stay_in_order():
    rows = normal_rows(np.ones(len(CNN.parameters)))
    exploded = rows.copy()
    exploded[:8] *= 1e6
    plain, beside = (Standardization.of(part, CNN).apply(rows[8:]) for part in (rows, exploded))
    np.testing.assert_allclose(beside, plain, atol=0.1, rtol=0.1)
    far = Standardization.of(exploded, CNN).apply(exploded)[:8]
    assert 3 < np.abs(far).max() < 25
    order = np.argsort(exploded[0, : CNN.parameters[0].size])
    assert (np.diff(far[0, : CNN.parameters[0].size][order]) >= 0).all()


def test_units_may_change_places_before_or_after():
    rows = normal_rows(np.geomspace(1e-2, 1e2, len(CNN.parameters)), count=20)
    standardization = Standardization.of(rows, CNN)
    permutations = Permutations(CNN, torch.device("cpu"))
    index = permutations.index(permutations.orders(20, torch.Generator().manual_seed(0))).numpy()
    before = standardization.apply(np.take_along_axis(rows, index, 1))
    np.testing.assert_array_equal(before, np.take_along_axis(standardization.apply(rows), index, 1))


def test_a_normalized_encoder_is_blind_to_the_scale_of_a_tensor_and_is_saved(tmp_path):
    """The same networks with one tensor in other units, a power of two, give the same embeddings."""
    first, second = CNN.parameters[:2]
    scale = np.ones(CNN.size, np.float32)
    scale[first.start : first.stop], scale[second.start : second.stop] = 4.0, 0.125
    embeddings = []
    for factor in (np.float32(1), scale):
        train, validation = random_view(CNN, models=20), random_view(CNN, models=8, seed=1)
        for view in (train, validation):
            view.weights, view.zoo = view.weights * factor, ZooFacts("fake", ())
        tiny = replace(SMALL, width=16, feedforward=24, latent=8, epochs=2, steps=4, batch_size=8)
        encoder = HyperRepresentation(
            configuration=tiny, settings={"schedule": "cosine"}, standardize=True, warm_up_share=0.2
        )
        encoder.runtime = Runtime(device="cpu")
        embeddings.append(encoder.fit([train], [validation], seed=0).encode(validation))
    np.testing.assert_allclose(embeddings[1], embeddings[0], atol=1e-5)
    encoder.save(tmp_path / "saved")
    loaded = make_encoder("hyper_representation_normalized", runtime=Runtime(device="cpu")).load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.encode(validation), embeddings[1])


def test_settings_take_the_place_of_the_configurations_and_an_unknown_one_is_named():
    train, validation = random_view(CNN, models=20), random_view(CNN, models=8, seed=1)
    for view in (train, validation):
        view.zoo = ZooFacts("fake", ())
    tiny = replace(SMALL, width=16, feedforward=24, latent=8, epochs=2, steps=4, batch_size=8)
    fitted = [
        HyperRepresentation(configuration=configuration, settings=settings).fit([train], [validation], seed=0)
        for configuration, settings in ((tiny, {"latent": 6, "gamma": 0.1}), (replace(tiny, latent=6, gamma=0.1), None))
    ]
    np.testing.assert_array_equal(*(encoder.encode(validation) for encoder in fitted))
    assert fitted[0].config["fitted"]["fake"]["latent"] == 6
    with pytest.raises(ZooError, match="unknown setting 'gama'; did you mean 'gamma'"):
        HyperRepresentation(settings={"gama": 0.1})
