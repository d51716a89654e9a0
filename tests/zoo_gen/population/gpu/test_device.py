"""Our kernels against torch's own operations, without a GPU: Triton's interpreter runs them on the CPU in float32."""

import numpy as np
import pytest
import torch

from tests.zoo_gen.population.interruptions import check_interruptions
from tests.zoo_gen.population.test_train import OPTIMIZERS, models, relative_difference
from zoo_gen.architecture.registry import MLP, Layers, Siren
from zoo_gen.image_data import ImageData, ImageFields, Synthetic, load_image_data
from zoo_gen.image_data.sine import Sine
from zoo_gen.population.population import TrainingSettings
from zoo_gen.population.train import train

pytest.importorskip("triton")


def network(*layers: dict) -> Layers:
    return Layers.model_validate({"name": "layers", "layers": [*layers, {"type": "linear", "units": 10}]})


def convolution(channels: int, kernel: int, **more) -> dict:
    return {"type": "convolution", "channels": channels, "kernel": kernel, **more}


ACTIVATION, DROPOUT, FLATTEN = {"type": "activation"}, {"type": "dropout"}, {"type": "flatten"}
GLOBAL = {"type": "global_average_pooling"}
NETWORKS = {
    "linear layers": (MLP(name="mlp", widths=(16, 5, 10)), (1, 4, 4)),
    "a stem of two strided convolutions": (
        network(
            *(convolution(16, 3, stride=2), ACTIVATION, DROPOUT),
            *(convolution(16, 3, stride=2), ACTIVATION, DROPOUT),
            GLOBAL,
        ),
        (1, 12, 12),
    ),
    "a stem of two convolutions that touch": (
        network(convolution(4, 5, bias=False), DROPOUT, convolution(6, 3), FLATTEN),
        (1, 8, 8),
    ),
    "padding, colours and pooling": (
        network(
            *(convolution(5, 3, padding=1), {"type": "max_pooling", "size": 2}, ACTIVATION, DROPOUT),
            *(convolution(9, 2), ACTIVATION, {"type": "average_pooling", "size": 2, "stride": 1}),
            *(FLATTEN, DROPOUT, {"type": "linear", "units": 6, "bias": False}, ACTIVATION, DROPOUT),
        ),
        (3, 8, 8),
    ),
    "windows that overlap, and strides": (
        network(
            *(convolution(4, 2, stride=3, padding=1), {"type": "max_pooling", "size": 3, "stride": 2}),
            *(DROPOUT, convolution(3, 3, stride=2, padding=1), {"type": "activation", "function": "tanh"}, FLATTEN),
        ),
        (1, 17, 17),
    ),
}


def small(shape: tuple[int, int, int], *, train_size: int) -> Synthetic:
    return Synthetic(source="synthetic", image_shape=shape, n_classes=10, train_size=train_size, test_size=5)


@pytest.fixture(autouse=True)
def _interpreted():
    from zoo_gen.population.gpu import kernels

    if type(kernels.product).__name__ != "InterpretedFunction":
        pytest.skip("kernels are compiled here; test_cuda.py runs them")


def compared(architecture, data, table, *, precision: str = "float32", **settings) -> None:
    """Train a table by kernels and by torch, and compare all that training leaves."""
    epochs = {"checkpoint_epochs": [0, 1]}
    ours = train(architecture, data, table, TrainingSettings(epochs=1, kernels=precision, **settings), **epochs).arrays
    expected = train(architecture, data, table, TrainingSettings(epochs=1, **settings), **epochs).arrays
    assert set(ours) == set(expected)
    steps = [arrays["weights"][:, 1].astype(float) - arrays["weights"][:, 0] for arrays in (ours, expected)]
    for row in range(len(table)):
        assert relative_difference(steps[0][row], steps[1][row]) < 3e-5, table.slice(row, 1).to_pylist()
    for name, values in expected.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-4, atol=2e-6, err_msg=name)


# An activation function is the same lines of every kernel: each network meets one half of them, both in the long form.
FUNCTIONS = (("relu", "tanh", "sigmoid"), ("gelu", "silu", "leaky_relu"))
THOROUGH = ("a stem of two convolutions that touch", "windows that overlap, and strides")


def marks_of(name, number, half):
    if (number + half) % 2:
        return [pytest.mark.slow]
    return [pytest.mark.thorough] if name in THOROUGH else []


@pytest.mark.parametrize(
    ("name", "activations"),
    [
        pytest.param(name, functions, marks=marks_of(name, number, half))
        for number, name in enumerate(NETWORKS)
        for half, functions in enumerate(FUNCTIONS)
    ],
)
def test_kernels_train_as_torch_does(name, activations):
    architecture, shape = NETWORKS[name]
    has_dropout = name != "linear layers"
    table = models(
        activation=list(activations),
        dropout=[0.3, 0.0, 0.5] if has_dropout else [0.0],
        learning_rate=[1e-2],
        batch_size=[4],
        l2=[0.0, 1e-2, 0.0],
        optimizer=["sgd"],
        initialization=["kaiming_normal"],
    )
    # The interpreter rounds nothing: tf32 is float32 there, and chooses the kernels of the matrix units.
    precision = "tf32" if "stem" in name else "float32"
    compared(architecture, load_image_data(small(shape, train_size=6)), table, precision=precision)


def test_where_nothing_is_seen_what_dropout_keeps_has_a_gradient():
    """tanh(0) is 0 as a dropped value is, but its derivative is 1: biases learn of dark images from the first step."""
    images = np.zeros((8, 1, 6, 6), dtype=np.uint8)
    images[:4] = np.random.RandomState(0).randint(0, 256, (4, 1, 6, 6))
    labels, one = np.arange(8) % 10, np.ones(1)
    data = ImageData(images, labels, images[:0], labels[:0], images, labels, 10, one / 255, 0 * one)
    architecture = network(
        convolution(4, 3), ACTIVATION, DROPOUT, FLATTEN, {"type": "linear", "units": 6}, ACTIVATION, DROPOUT
    )
    table = models(
        activation=["tanh", "relu", "leaky_relu"], dropout=[0.4], batch_size=[8], optimizer=["sgd"],
        learning_rate=[0.1], initial_bias=[0.0],
    )  # fmt: skip
    compared(architecture, data, table)


def test_every_optimizer_and_schedule_in_one_population():
    table = models(
        optimizer=[*OPTIMIZERS, "nesterov"],
        momentum=[0.0, 0.9, 0.0, 0.0, 0.0, 0.8],
        weight_decay=[0.0, 1e-2, 1e-2, 1e-2, 1e-2, 1e-2],
        schedule=["constant", "one_cycle", "cosine", "step", "milestones", "step"],
        warm_up_epochs=[0.0, 0.0, 1.0, 0.5, 0.0, 0.0],
        decay_every=[1],
        milestones=["1"],
        decay_factor=[0.5, 0.5, 0.5, 0.1, 0.2, 0.3],
        label_noise=[0.0, 0.5],
        batch_size=[7],
        learning_rate=[1e-2],
    )
    compared(MLP(name="mlp", widths=(16, 10)), load_image_data(small((1, 4, 4), train_size=30)), table)


def test_a_training_that_was_interrupted_goes_on_to_the_same_bits():
    table = models(
        optimizer=["adam", "momentum"], momentum=[0.9], schedule=["one_cycle"], batch_size=[7], learning_rate=[1e-2]
    )
    settings = TrainingSettings(epochs=2, kernels="float32", stop_loss=2.25)
    data = load_image_data(small((1, 4, 4), train_size=7))
    check_interruptions(MLP(name="mlp", widths=(16, 10)), data, table, settings)


@pytest.mark.thorough  # images are fitted by the same network, below
def test_waves_are_fitted_as_torch_does():
    data = load_image_data(Sine(source="sine", points=200))
    table = models(
        initialization=["siren"], optimizer=["adam"], learning_rate=[1e-4], batch_size=[100], frequency=[0.7, 3.0],
        amplitude=[1.0],
    ).drop_columns(["label_noise", "train_fraction"])  # fmt: skip
    compared(Siren(name="siren"), data, table, n_evaluated=None)


def test_images_are_fitted_as_torch_does():
    """Full steps and a last one that is short; two inputs, whose scale is one."""
    images = {"source": "synthetic", "image_shape": [1, 5, 4], "train_size": 3, "test_size": 2}
    data = load_image_data(ImageFields.model_validate({"source": "image_fields", "images": images}))
    table = models(
        initialization=["siren"], optimizer=["adam"], learning_rate=[1e-4], batch_size=[8], image=[4, 0],
    ).drop_columns(["label_noise", "train_fraction"])  # fmt: skip
    compared(Siren(name="siren"), data, table, n_evaluated=None)


def test_a_model_has_the_same_bytes_alone_and_among_others():
    architecture, shape = NETWORKS["padding, colours and pooling"]
    data = load_image_data(small(shape, train_size=4))
    table = models(activation=["relu", "gelu"], dropout=[0.2], batch_size=[4])
    settings = TrainingSettings(epochs=1, kernels="float32")
    among = train(architecture, data, table, settings, checkpoint_epochs=[1]).arrays
    alone = train(architecture, data, table.slice(1, 1), settings, checkpoint_epochs=[1]).arrays
    for name, values in alone.items():
        np.testing.assert_array_equal(values[0], among[name][1], err_msg=name)


def test_a_model_that_stops_keeps_its_weights():
    data = load_image_data(small((1, 4, 4), train_size=8))
    settings = TrainingSettings(epochs=2, kernels="float32", stop_loss=100.0)
    network = MLP(name="mlp", widths=(16, 10))
    weights = train(network, data, models(batch_size=[4]), settings, checkpoint_epochs=[1, 2]).arrays["weights"]
    assert np.array_equal(weights[:, 0], weights[:, 1])
    assert torch.isfinite(torch.from_numpy(weights)).all()
