"""Networks that are fitted to images, against a plain loop a network and a PSNR of numpy's."""

import numpy as np
import pytest
import torch
from torch import nn

from tests import plain_loop
from tests.plain_loop import PlusHalf, Sine, train_alone, vector
from tests.zoo_gen.population.interruptions import check_interruptions
from tests.zoo_gen.population.test_train import models, relative_difference
from zoo_gen.architecture.registry import MLP, Layers, Siren
from zoo_gen.image_data import ImageFields, load_image_data
from zoo_gen.population.population import TrainingSettings
from zoo_gen.population.random import data_order
from zoo_gen.population.train import train

SINE = {"type": "activation", "function": "sine"}
COLOUR = Layers.model_validate(
    {"name": "layers", "layers": [{"type": "linear", "units": 6}, SINE, {"type": "linear", "units": 3}]}
)


def grey(act, drop) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 32), Sine(), nn.Linear(32, 32), Sine(), nn.Linear(32, 1), PlusHalf())


def colour(act, drop) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 6), Sine(), nn.Linear(6, 3))


def relu(act, drop) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))


def fields(channels: int = 1, **more) -> ImageFields:
    images = {"source": "synthetic", "image_shape": [channels, 5, 4], "train_size": 6, "test_size": 3, **more}
    return ImageFields.model_validate({"source": "image_fields", "images": images})


def table_of(*, images: list[int], batch_size: int = 20, **more):
    columns = {"initialization": ["siren"], "learning_rate": [1e-3], "initial_bias": [0.0], **more}
    table = models(image=images, batch_size=[batch_size], **columns)
    return table.drop_columns(["label_noise", "train_fraction"])


def picture(source: ImageFields, number: int) -> np.ndarray:
    """Return an image on the scale that networks see (height, width, channel), from the image set alone."""
    data = load_image_data(source.images)
    pixels = np.concatenate([data.train_images, data.validation_images, data.test_images])[number]
    return pixels.transpose(1, 2, 0) / 255.0


NETWORKS = {
    "siren": (Siren(name="siren"), grey, 1),
    "siren in colour": (COLOUR, colour, 3),
    "relu": (MLP(name="mlp", widths=(2, 8, 1)), relu, 1),
}


@pytest.mark.parametrize("batch_size", [20, 7])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_fitted_together_equal_networks_fitted_alone(name, batch_size):
    architecture, build, channels = NETWORKS[name]
    source = fields(channels)
    table = table_of(images=[4, 0, 7, 4], batch_size=batch_size, weight_decay=[1e-4], activation=["relu"])
    settings = TrainingSettings(epochs=15, dtype=torch.float64)
    arrays = train(architecture, load_image_data(source), table, settings, checkpoint_epochs=[0, 15]).arrays
    rows, columns = np.meshgrid(np.linspace(-1, 1, 5), np.linspace(-1, 1, 4), indexing="ij")
    coordinates = torch.from_numpy(np.stack([rows.ravel(), columns.ravel()], axis=1))
    for row, model in enumerate(table.to_pylist()):
        orders = np.stack([data_order(torch.tensor([model["seed"]]), epoch, 20)[0] for epoch in range(1, 16)])
        expected = torch.from_numpy(picture(source, model["image"]).reshape(20, channels))
        alone = train_alone(
            build,
            coordinates,
            expected,
            model,
            initial=arrays["weights"][row, 0],
            batches=list(plain_loop.batches_of(orders, batch_size)),
        )
        assert relative_difference(arrays["weights"][row, 1], vector(alone)) < 1e-10
        with torch.no_grad():
            mse = float(np.mean((alone(coordinates) - expected).numpy() ** 2))
        assert arrays["train_mse"][row, 1] == pytest.approx(mse, rel=1e-9)
        assert arrays["train_loss"][row, 1] == arrays["train_mse"][row, 1]
        assert arrays["train_psnr"][row, 1] == pytest.approx(20 * np.log10(1 / np.sqrt(mse)), rel=1e-9)
    assert set(arrays) == {"weights", *(metric for metric, _ in source.metrics)}
    assert (arrays["weights"][0, 1] != arrays["weights"][3, 1]).any()  # one image, two seeds


def test_the_range_of_psnr_is_that_of_the_images():
    """One picture on [0, 1] and on [-1, 1]: twice the range and, for one relative error, the same decibels."""
    images = {"source": "torchvision", "dataset": "MNIST", "normalize": "symmetric"}
    symmetric = ImageFields.model_validate({"source": "image_fields", "images": images})
    stand_in = symmetric.stand_in(n_images=1)
    assert (stand_in.value_range, fields().stand_in(n_images=1).value_range) == (2.0, 1.0)
    assert stand_in.values([69_999]).shape == (1, 1, 784)


def test_a_network_has_the_same_bytes_alone_and_among_others():
    data, settings = load_image_data(fields()), TrainingSettings(epochs=8)
    table = table_of(images=list(range(9)))
    among = train(Siren(name="siren"), data, table, settings, checkpoint_epochs=[0, 8]).arrays
    for row in (0, 5, 8):
        alone = train(Siren(name="siren"), data, table.slice(row, 1), settings, checkpoint_epochs=[0, 8]).arrays
        for name, values in alone.items():
            np.testing.assert_array_equal(values[0], among[name][row], err_msg=name)


def test_a_training_that_was_interrupted_goes_on_to_the_same_bits():
    settings = TrainingSettings(epochs=3)
    check_interruptions(Siren(name="siren"), load_image_data(fields()), table_of(images=[1, 8], batch_size=7), settings)


def test_networks_learn_their_own_image():
    source = fields()
    table = table_of(images=[0, 1], learning_rate=[1e-2], optimizer=["adam"])
    arrays = train(
        Siren(name="siren"), load_image_data(source), table, TrainingSettings(epochs=150), checkpoint_epochs=[0, 150]
    ).arrays
    assert (arrays["train_psnr"][:, 0] < 15).all()
    assert (arrays["train_psnr"][:, 1] > 30).all()
    data = load_image_data(source)
    for row, other in ((0, 1), (1, 0)):
        module = grey(None, None)
        nn.utils.vector_to_parameters(torch.from_numpy(arrays["weights"][row, 1]), module.parameters())
        with torch.no_grad():
            error, another = (data.measure(module, {"image": image})["train_mse"] for image in (row, other))
        assert error < 1e-3 < another
