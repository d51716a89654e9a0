import numpy as np
import pytest
import torch

from tests.zoo_gen.population.test_train import NETWORKS, OPTIMIZERS, models, relative_difference, synthetic
from zoo_gen.image_data import load_image_data
from zoo_gen.population.population import Regime
from zoo_gen.population.random import data_order, kept_by_dropout
from zoo_gen.population.train import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("network", NETWORKS)
def test_a_gpu_trains_the_models_that_a_cpu_trains(network):
    architecture, _, shape = NETWORKS[network]
    data = load_image_data(synthetic(shape, train_size=70))
    dropout = [0.0] if network.startswith("mlp") else [0.0, 0.3]
    table = models(
        optimizer=OPTIMIZERS,
        activation=["tanh", "relu", "gelu"],
        dropout=dropout,
        l2=[0.0, 1e-3],
        label_noise=[0.0, 0.2],
        batch_size=[16],
        learning_rate=[1e-3],
        seed=list(range(10)),
    )
    found, expected = (
        train(architecture, data, table, Regime(epochs=2, dtype=torch.float64, device=device), checkpoint_epochs=[0, 2])
        for device in ("cuda", "cpu")
    )
    np.testing.assert_array_equal(found.arrays["weights"][:, 0], expected.arrays["weights"][:, 0])
    assert relative_difference(found.arrays["weights"][:, 1], expected.arrays["weights"][:, 1]) < 1e-9
    np.testing.assert_allclose(found.arrays["test_loss"], expected.arrays["test_loss"], rtol=1e-8)


def test_random_numbers_are_the_same_on_both():
    seeds = torch.arange(5)
    assert torch.equal(data_order(seeds, 3, 1000), data_order(seeds.cuda(), 3, 1000).cpu())
    rates = torch.full((5,), 0.3)
    kept = kept_by_dropout(seeds, rates, 7, 999, start=8)
    assert torch.equal(kept, kept_by_dropout(seeds.cuda(), rates.cuda(), 7, 999, start=8).cpu())


def test_the_same_population_has_the_same_bytes_again():
    architecture, _, shape = NETWORKS["cnn_small"]
    data = load_image_data(synthetic(shape))
    table = models(seed=list(range(20)), dropout=[0.2], batch_size=[16])
    first, second = (
        train(architecture, data, table, Regime(epochs=2, device="cuda"), checkpoint_epochs=[2]).arrays["weights"]
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
