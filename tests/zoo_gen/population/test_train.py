import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.plain_loop import ACTIVATIONS, train_alone
from zoo_gen.architectures import MLP, parameter_layout
from zoo_gen.image_data import Digits, Tetris, load_image_data
from zoo_gen.population.initialization import initial_weights
from zoo_gen.population.random import data_order
from zoo_gen.population.train import train

TETRIS = MLP(name="mlp", widths=(16, 5, 4), bias=False)
DIGITS = MLP(name="mlp", widths=(64, 24, 10), bias=True)


def models(**columns: list) -> pa.Table:
    n_models = max(map(len, columns.values()))
    defaults = {
        "seed": list(range(1, n_models + 1)),
        "activation": ["tanh"],
        "initialization": ["xavier_uniform"],
        "optimizer": ["adam"],
        "learning_rate": [1e-2],
        "momentum": [0.0],
        "weight_decay": [0.0],
    }
    rows = {name: columns.get(name, value) for name, value in defaults.items()}
    return pa.table({name: values * (n_models // len(values)) for name, values in rows.items()})


def relative_difference(found: np.ndarray, expected: np.ndarray) -> float:
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("architecture", "source"),
    [
        (TETRIS, Tetris(source="tetris", train_size=300)),
        (DIGITS, Digits(source="digits", test_size=1400)),
    ],
)
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_a_model_of_a_mixed_population_equals_a_plain_torch_loop(architecture, source, optimizer):
    """The population mixes everything; the model in question is in the middle of it, and the last batch is short."""
    data = load_image_data(source)
    kinds = [("sgd", 0.0), ("sgd", 0.9), ("adam", 0.0)]
    names = list(ACTIVATIONS)
    table = models(
        optimizer=[kind for kind, _ in kinds for _ in names],
        momentum=[momentum for _, momentum in kinds for _ in names],
        activation=names * 3,
        learning_rate=[10 ** -(1 + 0.1 * number) for number in range(18)],
        weight_decay=[1e-2 * (number % 3) for number in range(18)],
    )
    found = train(architecture, data, table, epochs=2, batch_size=32, checkpoint_epochs=[0, 1, 2], dtype=torch.float64)
    layout = parameter_layout(architecture)
    for row, model in enumerate(table.to_pylist()):
        kind = "momentum" if model["momentum"] else model["optimizer"]
        if kind != optimizer:
            continue
        seed = np.array([model["seed"]])
        initial = initial_weights(layout, seed, [model["initialization"]], dtype=torch.float64)[0].numpy()
        orders = np.stack([data_order(seed, epoch, len(data.train_labels))[0] for epoch in (1, 2)])
        for epochs in (1, 2):
            expected = train_alone(
                architecture.widths,
                data,
                bias=architecture.bias,
                initial=initial,
                orders=orders[:epochs],
                batch_size=32,
                **{
                    name: model[name]
                    for name in ("activation", "optimizer", "learning_rate", "momentum", "weight_decay")
                },
            )
            assert relative_difference(found.weights[row, epochs], expected) < 1e-10
        assert (found.weights[row, 0] == initial).all()


def test_training_teaches():
    data = load_image_data(Tetris(source="tetris", noise=0.1, train_size=500))
    found = train(TETRIS, data, models(seed=[1, 2, 3]), epochs=20, batch_size=32, checkpoint_epochs=[0, 20])
    assert (found.test_accuracy[:, 1] > found.test_accuracy[:, 0] + 0.2).all()
    assert (found.train_loss[:, 1] < found.train_loss[:, 0]).all()


def test_a_model_does_not_depend_on_its_neighbours():
    data = load_image_data(Tetris(source="tetris", train_size=100))
    settings = {"epochs": 3, "batch_size": 32, "checkpoint_epochs": [3]}
    among = train(TETRIS, data, models(seed=[1, 2, 3, 4], activation=["tanh", "relu"]), **settings)
    alone = train(TETRIS, data, models(seed=[3]), **settings)
    assert relative_difference(among.weights[2], alone.weights[0]) < 1e-5
    assert among.test_accuracy[2, 0] == alone.test_accuracy[0, 0]


def test_a_diverged_model_harms_no_other():
    data = load_image_data(Tetris(source="tetris", train_size=100))
    settings = {"epochs": 3, "batch_size": 32, "checkpoint_epochs": [0, 1, 2, 3]}
    calm = {"optimizer": ["sgd"], "activation": ["relu"], "initialization": ["normal"]}
    found = train(TETRIS, data, models(seed=[1, 2, 3], learning_rate=[0.1, 1e20, 0.1], **calm), **settings)
    without = train(TETRIS, data, models(seed=[1, 2, 3], learning_rate=[0.1, 0.1, 0.1], **calm), **settings)
    assert found.diverged.tolist() == [False, True, False]
    assert np.isfinite(found.weights[1, 0]).all()
    assert np.isnan(found.weights[1, 1:]).all()
    assert np.isnan(found.test_accuracy[1, 1:]).all()
    assert np.isnan(found.test_class_f1[1, 1:]).all()
    for model in (0, 2):
        np.testing.assert_array_equal(found.weights[model], without.weights[model])
