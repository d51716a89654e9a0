from collections.abc import Callable
from functools import cache
from itertools import product
from typing import ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from tests import plain_loop
from tests.plain_loop import ACTIVATIONS, inputs_of, train_alone, vector
from zoo_gen.architecture import registry
from zoo_gen.architecture.layers import Convolution, Dropout, Pooling
from zoo_gen.architecture.registry import (
    CNN3FC2,
    MLP,
    CNNLarge,
    CNNSmall,
    Layers,
    Siren,
    SmallCNNGap,
    layers,
)
from zoo_gen.image_data import Curves, Synthetic, Tetris, load_image_data
from zoo_gen.image_data.sine import Sine
from zoo_gen.image_data.source import CurveSource
from zoo_gen.population import eager
from zoo_gen.population.cpu.convolutions import MODELS_OF_A_GROUP
from zoo_gen.population.forward import forward
from zoo_gen.population.population import TrainingSettings
from zoo_gen.population.random import data_order, kept_by_dropout, noisy_labels
from zoo_gen.population.train import train

TETRIS = MLP(name="mlp", widths=(16, 5, 4), bias=False)
OWN = Layers.model_validate(
    {
        "name": "layers",
        "layers": [
            {"type": "convolution", "channels": 3, "kernel": 3, "padding": 1, "bias": False},
            {"type": "average_pooling", "size": 3, "stride": 2},
            {"type": "activation", "function": "tanh"},
            {"type": "dropout"},
            {"type": "convolution", "channels": 5, "kernel": 2, "stride": 2},
            {"type": "activation"},
            {"type": "flatten"},
            {"type": "dropout"},
            {"type": "linear", "units": 7, "bias": False},
            {"type": "activation"},
            {"type": "linear", "units": 10},
        ],
    }
)
OPTIMIZERS = ["sgd", "momentum", "adam", "adamw", "rmsprop"]

# architecture, the same in plain torch, the shape of its images
NETWORKS = {
    "mlp": (MLP(name="mlp", widths=(64, 24, 10)), plain_loop.mlp(64, 24, 10, bias=True), (1, 8, 8)),
    "mlp_without_bias": (
        MLP(name="mlp", widths=(64, 5, 10), bias=False),
        plain_loop.mlp(64, 5, 10, bias=False),
        (1, 8, 8),
    ),
    "cnn_small": (CNNSmall(name="cnn_small"), plain_loop.cnn_small(1), (1, 28, 28)),
    "cnn_small_colour": (CNNSmall(name="cnn_small"), plain_loop.cnn_small(3), (3, 28, 28)),
    "cnn_large": (CNNLarge(name="cnn_large"), plain_loop.cnn_large, (3, 32, 32)),
    "small_cnn_gap": (SmallCNNGap(name="small_cnn_gap"), plain_loop.small_cnn_gap, (1, 28, 28)),
    "cnn3_fc2": (CNN3FC2(name="cnn3_fc2"), plain_loop.cnn3_fc2(1, 288), (1, 28, 28)),
    "layers": (OWN, plain_loop.own_network, (1, 27, 27)),
}
FIXED = {"sgd": 0.0, "momentum": 0.9, "adam": 0.0, "adamw": 0.0, "rmsprop": 0.0}


def models(**columns: list) -> pa.Table:
    """Return a table of models; columns repeat up to the longest."""
    n_models = max(map(len, columns.values()))
    defaults = {
        "seed": list(range(1, n_models + 1)),
        "activation": ["tanh"],
        "initialization": ["xavier_uniform"],
        "initial_bias": [0.01],
        "optimizer": ["adam"],
        "learning_rate": [1e-2],
        "schedule": ["constant"],
        "momentum": [0.0],
        "weight_decay": [0.0],
        "l2": [0.0],
        "dropout": [0.0],
        "batch_size": [32],
        "train_fraction": [1.0],
        "label_noise": [0.0],
    }
    rows = defaults | columns
    return pa.table({name: (values * n_models)[:n_models] for name, values in rows.items()})


def synthetic(shape: tuple[int, int, int], *, train_size: int = 80) -> Synthetic:
    return Synthetic(source="synthetic", image_shape=shape, n_classes=10, train_size=train_size, test_size=40)


def relative_difference(actual: np.ndarray, expected: np.ndarray) -> float:
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def dropout_masks(
    sequence, seed: int, rate: float, steps: int, image_shape, batch_size: int
) -> Callable[[int], Tensor]:
    """Return the masks of a model, dropout layer after dropout layer, step after step."""
    n_layers = sum(isinstance(layer, Dropout) for layer in sequence)

    def masks():
        for step in range(steps):
            start = 0
            for _ in range(n_layers):
                count = yield
                mask = kept_by_dropout(torch.tensor([seed]), torch.tensor([rate]), step, count, start=start)
                start += -(-count // 2) * 2
                yield mask[0]

    running = masks()

    def next_mask(count: int) -> Tensor:
        next(running)
        return running.send(count)

    return next_mask


# An optimiser sees one vector of weights, whatever network they are of: all pairs are the long form.
SHORT = {*((network, "adam") for network in NETWORKS), *(("cnn_small", optimizer) for optimizer in OPTIMIZERS)}


@pytest.mark.parametrize(
    ("network", "optimizer"),
    [
        pytest.param(*pair, marks=() if pair in SHORT or pair[0].startswith("mlp") else pytest.mark.slow)
        for pair in product(NETWORKS, OPTIMIZERS)
    ],
)
def test_models_of_a_mixed_population_equal_plain_torch_loops(network, optimizer):
    check_a_mixed_population(network, optimizer, form=None)


@pytest.mark.parametrize(
    ("network", "form"),
    [
        *product(["cnn_small", "layers"], ["lanes", "mixed"]),
        *product(["cnn_small_colour", "small_cnn_gap"], ["lanes"]),
        # Larger networks of the same layers.
        *(pytest.param(name, "lanes", marks=pytest.mark.thorough) for name in ("cnn_large", "cnn3_fc2")),
    ],
)
def test_models_equal_plain_torch_loops_in_every_form_of_a_convolution(network, form):
    pytest.importorskip("llvmlite")
    check_a_mixed_population(network, "adam", form=form)


def forms_of(sequence, form: str | None) -> dict[str, str]:
    """Return the form of each convolution; "mixed" enters and leaves lanes between them."""
    names = [layer.name for layer in sequence if isinstance(layer, Convolution)]
    if form == "mixed":
        return dict(zip(names, ["lanes", "grouped", "lanes"], strict=False))
    return dict.fromkeys(names, form) if form else {}


# The last one has odd numbers of values at the end; momentum, unlike Adam, sees whether a sum over pieces has its size.
@pytest.mark.parametrize(("network", "optimizer"), [("cnn_small", "momentum"), ("cnn3_fc2", "adam")])
def test_a_step_cut_into_pieces_equals_plain_torch_loops(network, optimizer, monkeypatch):
    pytest.importorskip("llvmlite")
    monkeypatch.setattr(eager, "_IMAGES_IN_LANES", 4)  # of 10, and of the 6 in the last step
    check_a_mixed_population(network, optimizer, form="lanes")


# Three steps an epoch, the last one short.
N_TRAIN, BATCH, EPOCHS, STEPS = 26, 10, 2, 6


def check_a_mixed_population(network: str, optimizer: str, *, form: str | None) -> None:
    """Every activation, dropout, decay and L2 in one population."""
    architecture, _, shape = NETWORKS[network]
    table = mixed_table(network, optimizer)
    settings = TrainingSettings(
        epochs=EPOCHS, dtype=torch.float64, forms=forms_of(layers(architecture, shape, 10), form)
    )
    data = load_image_data(synthetic(shape, train_size=N_TRAIN))
    trained = train(architecture, data, table, settings, checkpoint_epochs=[0, EPOCHS]).arrays
    for row, model in enumerate(table.to_pylist()):
        alone = trained_alone(network, optimizer, row, trained["weights"][row, 0].tobytes())
        assert relative_difference(trained["weights"][row, 1], alone.weights) < 1e-10, model
        assert trained["train_loss"][row, 1] == pytest.approx(alone.loss, rel=1e-9)
        assert trained["train_accuracy"][row, 1] == alone.accuracy


def mixed_table(network: str, optimizer: str) -> pa.Table:
    architecture, _, shape = NETWORKS[network]
    has_dropout = any(isinstance(layer, Dropout) for layer in layers(architecture, shape, 10))
    return models(
        activation=list(ACTIVATIONS),
        optimizer=[optimizer],
        momentum=[FIXED[optimizer]],
        learning_rate=[10 ** -(2 + 0.1 * number) for number in range(6)],
        weight_decay=[0.0, 1e-2],
        l2=[0.0, 0.0, 1e-3],
        dropout=[0.0, 0.3, 0.5] if has_dropout else [0.0],
        batch_size=[BATCH],
        schedule=["constant", "constant", "constant", "one_cycle"],
    )


class Alone(NamedTuple):
    """A model trained by torch alone, evaluated on its training images."""

    weights: np.ndarray
    loss: float
    accuracy: float


@cache  # every form of a convolution is compared with the same models
def trained_alone(network: str, optimizer: str, row: int, initial: bytes) -> Alone:
    architecture, build, shape = NETWORKS[network]
    model = mixed_table(network, optimizer).to_pylist()[row]
    data = load_image_data(synthetic(shape, train_size=N_TRAIN))
    inputs, labels = inputs_of(data), torch.from_numpy(data.train_labels)
    seed = torch.tensor([model["seed"]])
    orders = np.stack([data_order(seed, epoch, N_TRAIN)[0] for epoch in range(1, EPOCHS + 1)])
    sequence = layers(architecture, shape, 10)
    module = train_alone(
        build,
        inputs,
        labels,
        model,
        initial=np.frombuffer(initial),
        batches=list(plain_loop.batches_of(orders, BATCH)),
        next_mask=dropout_masks(sequence, model["seed"], model["dropout"], STEPS, shape, BATCH),
        n_steps=STEPS,
    )
    with torch.no_grad():
        logits = module(inputs)
    loss = torch.nn.functional.cross_entropy(logits, labels).item()
    return Alone(vector(module), loss, (logits.argmax(dim=1) == labels).double().mean().item())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_sirens_fitted_together_equal_sirens_fitted_alone(optimizer):
    data = load_image_data(Sine(source="sine", points=64))
    assert isinstance(data, Curves)
    table = models(
        initialization=["siren"],
        frequency=[0.7, 3.0, 9.5],
        amplitude=[1.0, 2.0],
        batch_size=[64],
        optimizer=[optimizer],
        momentum=[FIXED[optimizer]],
        learning_rate=[1e-3],
        weight_decay=[1e-4],
        initial_bias=[0.0],
    ).drop_columns(["activation", "label_noise", "train_fraction"])
    settings = TrainingSettings(epochs=20, dtype=torch.float64)
    trained = train(Siren(name="siren"), data, table, settings, checkpoint_epochs=[0, 20])
    points = torch.from_numpy(data.train_points)
    for row, model in enumerate(table.to_pylist()):
        orders = np.stack([data_order(torch.tensor([model["seed"]]), epoch, 64)[0] for epoch in range(1, 21)])
        heights = model["amplitude"] * torch.sin(model["frequency"] * points)
        alone = train_alone(
            plain_loop.siren,
            points.unsqueeze(1),
            heights,
            model,
            initial=trained.arrays["weights"][row, 0],
            batches=list(plain_loop.batches_of(orders, 64)),
        )
        assert relative_difference(trained.arrays["weights"][row, 1], vector(alone)) < 1e-10
    assert trained.arrays["weights"].shape == (3, 2, 1153)
    assert "test_accuracy" not in trained.arrays


def test_another_kind_of_curve_is_trained_from_what_its_source_says():
    """Lines, as if there were a source of them: nothing but the source and its data know of them."""

    class Line(CurveSource):
        source: str = "line"
        hyperparameters: ClassVar[tuple[str, ...]] = ("amplitude",)

    points = np.linspace(-1, 1, 64)
    data = Curves(points, points, Line.hyperparameters, lambda x, curve: curve["amplitude"].unsqueeze(-1) * x)
    table = models(
        initialization=["siren"], amplitude=[0.5, -2.0], batch_size=[8], optimizer=["adam"], learning_rate=[1e-3]
    )
    table = table.drop_columns(["activation", "label_noise", "train_fraction"])
    trained = train(Siren(name="siren"), data, table, TrainingSettings(epochs=30), checkpoint_epochs=[0, 30]).arrays
    assert set(trained) == {"weights", *(name for name, _ in Line().metrics)}
    assert (trained["test_loss"][:, 1] < trained["test_loss"][:, 0] / 2).all()


def test_a_model_that_reached_the_stop_loss_keeps_its_weights():
    data = load_image_data(Sine(source="sine", points=64))
    table = models(initialization=["siren"], frequency=[1.0, 9.0], amplitude=[1.0], batch_size=[64])
    table = table.drop_columns(["activation"])
    settings = TrainingSettings(epochs=60, stop_loss=0.02)
    trained = train(Siren(name="siren"), data, table, settings, checkpoint_epochs=list(range(61)))
    running, weights = trained.arrays["running_loss"], trained.arrays["weights"]
    for model in range(2):
        (reached,) = np.nonzero(running[model] <= 0.02)
        assert len(reached)
        assert (weights[model, reached[0] :] == weights[model, reached[0]]).all()
        assert (weights[model, reached[0] - 1] != weights[model, reached[0]]).any()


def test_training_teaches():
    data = load_image_data(Tetris(source="tetris", noise=0.1, train_size=500))
    trained = train(TETRIS, data, models(seed=[1, 2, 3]), TrainingSettings(epochs=20), checkpoint_epochs=[0, 20]).arrays
    assert (trained["test_accuracy"][:, 1] > trained["test_accuracy"][:, 0] + 0.2).all()
    assert (trained["train_loss"][:, 1] < trained["train_loss"][:, 0]).all()


@pytest.mark.parametrize("network", ["cnn_small", "cnn3_fc2", "layers"])
def test_an_evaluation_computes_what_the_plain_module_computes(network):
    """Accuracy exactly, and the loss up to the order of its sum, however the images are cut."""
    architecture, _, shape = NETWORKS[network]
    data = load_image_data(synthetic(shape, train_size=700))
    trained = train(
        architecture, data, models(activation=["relu", "tanh"]), TrainingSettings(epochs=1), checkpoint_epochs=[1]
    ).arrays
    inputs, labels = data.tensors("train")
    for model, activation in enumerate(["relu", "tanh"]):
        module = registry.network(architecture, shape, 10).module(activation=activation)
        torch.nn.utils.vector_to_parameters(torch.from_numpy(trained["weights"][model, 0]), module.parameters())
        with torch.no_grad():
            logits = module(inputs)
        assert trained["train_accuracy"][model, 0] == (logits.argmax(dim=1) == labels).float().mean().item()
        loss = torch.nn.functional.cross_entropy(logits, labels).item()
        assert trained["train_loss"][model, 0] == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("window", [(2, 2), (3, 2), (2, 3)])
def test_maxima_along_rows_and_columns_are_those_of_windows(window):
    hidden = torch.randn(3, 2, 4, 11, 13)
    hidden[0, 1, 2, 5, 6] = torch.nan
    with torch.no_grad():
        pooled = forward((Pooling("pooling1", "max", *window),), {}, [(None, slice(0, 2))], hidden)
    expected = torch.nn.functional.max_pool2d(hidden.flatten(1, 2), *window).unflatten(1, (2, 4))
    torch.testing.assert_close(pooled, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("network", ["mlp", "small_cnn_gap"])
def test_a_model_does_not_depend_on_its_neighbours(network):
    architecture, _, shape = NETWORKS[network]
    data = load_image_data(synthetic(shape))
    count = MODELS_OF_A_GROUP + 2
    table = models(seed=list(range(count)), activation=["tanh", "relu"], dropout=[0.2], label_noise=[0.1])
    among = train(architecture, data, table, TrainingSettings(epochs=2), checkpoint_epochs=[2]).arrays
    alone = train(architecture, data, table.slice(4, 1), TrainingSettings(epochs=2), checkpoint_epochs=[2]).arrays
    assert relative_difference(among["weights"][4], alone["weights"][0]) < 1e-5
    assert among["test_accuracy"][4, 0] == pytest.approx(alone["test_accuracy"][0, 0], abs=1 / 40)


def test_models_of_different_batch_sizes_and_fractions_come_back_in_the_order_of_the_table():
    data = load_image_data(Tetris(source="tetris", train_size=100))
    table = models(batch_size=[10, 50, 25], train_fraction=[1.0, 0.5, 0.5, 1.0], seed=list(range(12)))
    trained = train(TETRIS, data, table, TrainingSettings(epochs=2), checkpoint_epochs=[0, 2]).arrays
    for row in range(12):
        alone = train(TETRIS, data, table.slice(row, 1), TrainingSettings(epochs=2), checkpoint_epochs=[0, 2]).arrays
        assert relative_difference(trained["weights"][row], alone["weights"][0]) < 1e-5
        assert trained["train_accuracy"][row, 1] == pytest.approx(alone["train_accuracy"][0, 1])


def test_a_fraction_trains_on_the_first_images_only():
    data = load_image_data(Tetris(source="tetris", train_size=100))
    half = train(TETRIS, data, models(train_fraction=[0.5]), TrainingSettings(epochs=3), checkpoint_epochs=[3]).arrays
    first = load_image_data(Tetris(source="tetris", train_size=100))
    rest_is_other = type(first)(
        **{**vars(first), "train_labels": np.concatenate([first.train_labels[:50], (first.train_labels[50:] + 1) % 4])}
    )
    same = train(
        TETRIS, rest_is_other, models(train_fraction=[0.5]), TrainingSettings(epochs=3), checkpoint_epochs=[3]
    ).arrays
    np.testing.assert_array_equal(half["weights"], same["weights"])
    np.testing.assert_array_equal(half["train_accuracy"], same["train_accuracy"])


def test_noisy_labels_are_what_is_learned_and_measured():
    data = load_image_data(synthetic((1, 8, 8), train_size=200))
    network = MLP(name="mlp", widths=(64, 64, 10))
    table = models(label_noise=[0.4], learning_rate=[3e-3])
    trained = train(network, data, table, TrainingSettings(epochs=150), checkpoint_epochs=[150]).arrays
    noise = torch.tensor([0.4], dtype=torch.float64)
    labels = noisy_labels(torch.tensor([1]), noise, torch.from_numpy(data.train_labels), n_classes=10)[0].numpy()
    assert 0.3 < (labels != data.train_labels).mean() < 0.5
    assert trained["train_accuracy"][0, 0] > 0.95  # it has learned the labels by heart, the wrong ones too
    swapped = type(data)(**{**vars(data), "train_labels": labels})
    clean = train(
        network, swapped, models(learning_rate=[3e-3]), TrainingSettings(epochs=150), checkpoint_epochs=[150]
    ).arrays
    np.testing.assert_array_equal(trained["weights"], clean["weights"])


def test_running_metrics_are_those_of_the_epoch_as_it_went():
    data = load_image_data(synthetic((1, 8, 8), train_size=48))
    network = MLP(name="mlp", widths=(64, 10))
    table = models(batch_size=[48], optimizer=["sgd"])
    trained = train(network, data, table, TrainingSettings(epochs=3), checkpoint_epochs=[0, 1, 2, 3]).arrays
    assert np.isnan(trained["running_loss"][0, 0])
    # With one batch an epoch, the running metrics are the evaluation of the epoch before.
    np.testing.assert_allclose(trained["running_loss"][0, 1:], trained["train_loss"][0, :-1], rtol=1e-6)
    np.testing.assert_allclose(trained["running_accuracy"][0, 1:], trained["train_accuracy"][0, :-1], rtol=1e-6)


def test_a_short_last_batch_is_dropped_on_request():
    data = load_image_data(synthetic((1, 8, 8), train_size=70))
    network = MLP(name="mlp", widths=(64, 10))
    table = models(batch_size=[32])
    trained = train(
        network, data, table, TrainingSettings(epochs=2, drop_last=True, dtype=torch.float64), checkpoint_epochs=[0, 2]
    )
    orders = [data_order(torch.tensor([1]), epoch, 70)[0].numpy()[:64] for epoch in (1, 2)]
    alone = train_alone(
        plain_loop.mlp(64, 10, bias=True),
        inputs_of(data),
        torch.from_numpy(data.train_labels),
        table.to_pylist()[0],
        initial=trained.arrays["weights"][0, 0],
        batches=list(plain_loop.batches_of(np.stack(orders), 32)),
    )
    assert relative_difference(trained.arrays["weights"][0, 1], vector(alone)) < 1e-10


@pytest.mark.parametrize("network", ["mlp", "cnn_small"])
def test_a_diverged_model_harms_no_other(network):
    architecture, _, shape = NETWORKS[network]
    data = load_image_data(synthetic(shape))
    calm = {"optimizer": ["sgd"], "activation": ["relu"], "seed": [1, 2, 3]}
    epochs = [0, 1, 2, 3]
    trained = train(
        architecture,
        data,
        models(learning_rate=[0.1, 1e20, 0.1], **calm),
        TrainingSettings(3),
        checkpoint_epochs=epochs,
    )
    without = train(
        architecture, data, models(learning_rate=[0.1], **calm), TrainingSettings(3), checkpoint_epochs=epochs
    )
    assert trained.diverged.tolist() == [False, True, False]
    assert np.isfinite(trained.arrays["weights"][1, 0]).all()
    for name in ("weights", "test_accuracy", "test_class_f1", "running_loss"):
        assert np.isnan(trained.arrays[name][1, 1:]).all()
    for model in (0, 2):
        np.testing.assert_array_equal(trained.arrays["weights"][model], without.arrays["weights"][model])


def test_layout_of_a_population_is_that_of_the_architecture():
    layout = registry.network(OWN, (1, 27, 27), 10).layout
    data = load_image_data(synthetic((1, 27, 27)))
    trained = train(OWN, data, models(seed=[1]), TrainingSettings(epochs=0), checkpoint_epochs=[0]).arrays
    assert trained["weights"].shape == (1, 1, layout.size)
