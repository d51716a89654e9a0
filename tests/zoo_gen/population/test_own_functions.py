"""Losses, optimisers and schedules of a user's own are stacked to what each model alone would compute."""

import numpy as np
import pytest
import torch
from torch import nn

import zoo_gen
from tests import plain_loop
from tests.plain_loop import vector
from tests.zoo_gen.population import own_training
from tests.zoo_gen.population.test_own_module import DATA, manifest
from tests.zoo_gen.population.test_train import NETWORKS, forms_of, models, relative_difference, synthetic
from zoo_gen.architecture import own_module
from zoo_gen.architecture.registry import layers
from zoo_gen.architecture.source_code import source_sha256
from zoo_gen.errors import ZooError
from zoo_gen.image_data import load_image_data
from zoo_gen.manifest import grid
from zoo_gen.population.population import TrainingSettings
from zoo_gen.population.random import data_order
from zoo_gen.population.train import train

HERE = own_training.__name__
FUNCTIONS = {
    f"{HERE}:{name}": source_sha256(getattr(own_training, name))
    for name in ("focal", "huber", "Lion", "adam", "stateless", "drifting", "polynomial", "saw")
}
STEPS_PER_EPOCH = 5


def alone(module: nn.Module, inputs, targets, row: dict, *, epochs: int, batch_size: int) -> np.ndarray:
    """Return the weights of one model that a plain loop trains, calling the functions themselves."""
    module = module.double()

    def function(column):
        return getattr(own_training, row[column].partition(":")[2]) if ":" in row[column] else None

    names = [name for name, _ in module.named_parameters()]
    optimizer = function("optimizer") and function("optimizer")()
    init, update = (
        optimizer if isinstance(optimizer, tuple) else (optimizer and optimizer.init, optimizer and optimizer.update)
    )
    state = init(dict(module.named_parameters())) if init else None
    torchs = None if init else plain_loop.make_optimizer(module, row)
    loss_of = function("loss") or (
        nn.functional.cross_entropy if targets.dtype == torch.int64 else nn.functional.mse_loss
    )
    rate = function("schedule") or (lambda *_: 1.0)
    step = 0
    for epoch in range(1, epochs + 1):
        order = data_order(torch.tensor([row["seed"]]), epoch, len(targets))[0]
        for batch in order.split(batch_size):
            outputs = module(inputs[batch])
            loss = loss_of(outputs if targets.dtype == torch.int64 else outputs.flatten(), targets[batch])
            gradients = torch.autograd.grad(loss, list(module.parameters()))
            row_now = row | {"learning_rate": row["learning_rate"] * rate(step / STEPS_PER_EPOCH, epochs)}
            step += 1
            with torch.no_grad():
                if torchs is not None:
                    for values, gradient in zip(module.parameters(), gradients, strict=True):
                        values.grad = gradient
                    torchs.param_groups[0]["lr"] = row_now["learning_rate"]
                    torchs.step()
                    continue
                parameters = {name: values.clone() for name, values in module.named_parameters()}
                named = dict(zip(names, gradients, strict=True))
                changed, state = update(named, state, parameters, row_now, step)
                for name, values in module.named_parameters():
                    values.copy_(changed[name])
    return vector(module)


@pytest.mark.parametrize(("network", "form"), [("mlp", None), ("cnn_small_colour", "lanes"), ("layers", None)])
def test_a_mixed_population_of_layers_equals_plain_loops(network, form):
    if form:
        pytest.importorskip("llvmlite")
    architecture, build, shape = NETWORKS[network]
    data = load_image_data(synthetic(shape, train_size=34))
    table = models(
        activation=["tanh"],
        batch_size=[8],
        loss=["standard", f"{HERE}:focal"],
        optimizer=[f"{HERE}:Lion", f"{HERE}:adam", "momentum", f"{HERE}:stateless", f"{HERE}:adam", f"{HERE}:Lion"],
        momentum=[0.0, 0.0, 0.9, 0.03, 0.0, 0.0],
        schedule=["constant", "constant", f"{HERE}:polynomial", f"{HERE}:saw", f"{HERE}:polynomial"],
        learning_rate=[1e-2, 3e-3],
        weight_decay=[0.1, 0.0],
    )
    forms = forms_of(layers(architecture, shape, 10), form)
    settings = TrainingSettings(epochs=4, dtype=torch.float64, functions=FUNCTIONS, forms=forms)
    trained = train(architecture, data, table, settings, checkpoint_epochs=[0, 4]).arrays
    inputs, labels = plain_loop.inputs_of(data), torch.from_numpy(data.train_labels)
    for row, model in enumerate(table.to_pylist()):
        module = build(nn.Tanh, nn.Identity).double()
        nn.utils.vector_to_parameters(torch.from_numpy(trained["weights"][row, 0]), module.parameters())
        # `adam` decays nothing.
        expected = alone(module, inputs, labels, model, epochs=4, batch_size=8)
        assert relative_difference(trained["weights"][row, 1], expected) < 1e-10, model
        # What is measured is the task's own loss, whatever was trained on.
        loss = nn.functional.cross_entropy(module(inputs), labels).item()
        assert trained["train_loss"][row, 1] == pytest.approx(loss, rel=1e-9)


def test_modules_of_ones_own_equal_plain_loops():
    described = manifest(
        "Residual", optimizer=f"{HERE}:Lion", loss=f"{HERE}:focal", weight_decay=0.1, learning_rate=1e-3
    )
    rows, data = grid.table_of_models(described), load_image_data(described.data)
    assert described.own_functions == {f"{HERE}:Lion": "optimizer", f"{HERE}:focal": "loss"}
    settings = TrainingSettings(epochs=2, dtype=torch.float64, functions=described.training.source_sha256)
    weights = train(described.architecture, data, rows, settings, checkpoint_epochs=(2,)).arrays["weights"]
    inputs, labels = data.tensors("train", dtype=torch.float64)
    for model, row in enumerate(rows.to_pylist()):
        torch.manual_seed(row["seed"])
        module = own_module.resolve(described.architecture.module)()
        expected = alone(module, inputs, labels, row, epochs=2, batch_size=32)
        np.testing.assert_allclose(weights[model, 0], expected, rtol=1e-10, atol=1e-10)


def test_numbers_are_predicted_with_a_loss_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_DATA_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    random = np.random.RandomState(0)
    x = random.standard_normal((110, 3)).astype(np.float32)
    y = x[:, 0] - 2 * x[:, 1] + 0.5
    zoo = zoo_gen.run(
        {
            "name": "numbers",
            "architecture": {"name": "mlp", "widths": [3, 4, 1]},
            "training": {
                "epochs": 4, "batch_size": 16, "learning_rate": 0.01, "initialization": "xavier_uniform",
                "activation": "tanh", "optimizer": own_training.adam,
            },
            "axes": {"product": {"loss": ["standard", own_training.huber], "seed": [3, 5]}},
        },
        data=(x[:70], y[:70], x[70:], y[70:]), schedule=own_training.saw, workers=1, progress=False,
    )  # fmt: skip
    assert zoo_gen.verify(zoo).sound
    assert zoo.models["loss"].to_pylist() == ["standard"] * 2 + [f"{HERE}:huber"] * 2
    inputs, targets = load_image_data(zoo.manifest.data).tensors("train", dtype=torch.float64)
    for model, row in enumerate(zoo.models.to_pylist()):
        module = zoo.module(model, 0).double()
        expected = alone(module, inputs, targets, row, epochs=4, batch_size=16)
        np.testing.assert_allclose(zoo.weights[model, -1], expected, rtol=1e-4, atol=1e-5)
        outputs = module(torch.from_numpy(x[70:]).double()).flatten()
        mse = nn.functional.mse_loss(outputs, torch.from_numpy(y[70:]).double()).item()
        assert zoo.metric("test_loss")[model, -1] == pytest.approx(mse, rel=1e-3)


def test_waves_are_fitted_with_a_loss_of_ones_own(tmp_path):
    wave = zoo_gen.ZooManifest(
        name="waves",
        data={"source": "sine", "points": 64},
        architecture={"name": "siren"},
        training={
            "epochs": 2, "batch_size": 64, "optimizer": own_training.Lion, "learning_rate": 1e-4, "frequency": 3.0,
            "initialization": "siren", "loss": own_training.huber,
        },
        axes={"product": {"seed": [1, 2]}},
    )  # fmt: skip
    zoo = zoo_gen.run(wave, tmp_path / "zoo", workers=1, progress=False)
    assert zoo_gen.verify(zoo).sound
    assert (zoo.metric("test_loss")[:, -1] != zoo.metric("test_loss")[:, 0]).all()


def test_images_are_fitted_with_a_loss_of_ones_own(tmp_path):
    """In colour: outputs and targets have a channel a row; two steps of plain gradient descent beside them."""
    images = {"source": "synthetic", "image_shape": [3, 4, 5], "train_size": 3, "test_size": 2}
    fitted = zoo_gen.ZooManifest(
        name="images",
        data={"source": "image_fields", "images": images},
        architecture={"name": "mlp", "widths": [2, 6, 3]},
        training={
            "epochs": 2, "batch_size": 20, "optimizer": "sgd", "learning_rate": 0.1, "activation": "tanh",
            "initialization": "xavier_uniform", "loss": own_training.huber,
        },
        axes={"product": {"image": [4, 1]}},
    )  # fmt: skip
    zoo = zoo_gen.run(fitted, tmp_path / "zoo", workers=1, progress=False)
    assert zoo_gen.verify(zoo).sound
    data = load_image_data(fitted.data)
    coordinates = torch.from_numpy(data.coordinates)
    for model, number in enumerate([4, 1]):
        module, target = zoo.module(model, 0).double(), torch.from_numpy(data.values([number])[0])
        descent = torch.optim.SGD(module.parameters(), lr=0.1)
        for _ in range(2):
            descent.zero_grad()
            own_training.huber(module(coordinates).T, target).backward()
            descent.step()
        expected = nn.utils.parameters_to_vector(module.parameters()).detach().numpy()
        np.testing.assert_allclose(zoo.weights[model, -1], expected, rtol=1e-4, atol=1e-6)


def test_a_model_does_not_depend_on_its_neighbours():
    architecture, _, shape = NETWORKS["mlp"]
    data = load_image_data(synthetic(shape))
    table = models(
        loss=["standard", f"{HERE}:focal"],
        optimizer=[f"{HERE}:Lion", "adam", f"{HERE}:adam"],
        schedule=["constant", f"{HERE}:saw"],
        learning_rate=[1e-3, 1e-2],
        seed=list(range(6)),
    )
    settings = TrainingSettings(epochs=2, functions=FUNCTIONS)
    together = train(architecture, data, table, settings, checkpoint_epochs=[2]).arrays["weights"]
    for row in range(len(table)):
        one = train(architecture, data, table.slice(row, 1), settings, checkpoint_epochs=[2]).arrays["weights"]
        assert one[0].tobytes() == together[row].tobytes()


def test_a_model_that_stops_keeps_its_weights_whatever_its_optimizer_does():
    architecture, _, shape = NETWORKS["mlp"]
    data = load_image_data(synthetic(shape))
    table = models(optimizer=[f"{HERE}:drifting"], seed=[1])
    settings = TrainingSettings(epochs=3, functions=FUNCTIONS, stop_loss=1e9)
    weights = train(architecture, data, table, settings, checkpoint_epochs=[0, 1, 3]).arrays["weights"][0]
    np.testing.assert_allclose(weights[1], weights[0] * np.float32(0.9) ** 3, rtol=1e-5)
    assert weights[2].tobytes() == weights[1].tobytes()


REFUSED = [
    ("loss", "a_loss_an_image", r"gives a tensor of shape \[5\]; expected one number, a scalar tensor"),
    ("loss", "a_number", "gives float; expected one number"),
    ("loss", "whole", "gives a tensor of torch.int64; expected one number"),
    ("loss", "without_gradient", "expected a number with a gradient"),
    ("loss", "decides_by_value", "cannot be stacked by torch.func"),
    ("loss", "random_loss", "cannot be stacked by torch.func"),
    ("loss", "another_each_time", "of stacked models is another than of each alone"),
    ("loss", "failing", r"fails on outputs \[5, 10\] and targets \[5\] \(ValueError: no such thing\)"),
    ("optimizer", "WithoutUpdate", "gives WithoutUpdate; expected an object with init and update, or both"),
    ("optimizer", "WithArguments", r"cannot be made without arguments \(TypeError: .*rate"),
    ("optimizer", "forgets_the_state", "its update gives dict; expected new parameters by name, and a state"),
    ("optimizer", "other_shapes", r"gives \[.*\] of torch.float64 as .*weight; expected \["),
    ("optimizer", "state_of_numbers", "cannot be stacked by torch.func"),
    ("optimizer", "focal", r"cannot be made without arguments \(TypeError"),
    ("optimizer", "slips", r"its update fails \(KeyError: 'weigth'\)"),
    ("schedule", "negative", r"gives -0.* at epoch .* of 2; expected 0 or more"),
    ("schedule", "text", r"fails at epoch 0 of 2 \(ValueError"),
    ("schedule", "Lion", r"fails at epoch 0 of 2 \(TypeError"),
]


@pytest.mark.parametrize(("what", "name", "message"), REFUSED)
def test_what_cannot_train_is_refused_before_anything_is_written(what, name, message, tmp_path):
    described = manifest("perceptron", data=DATA, **{what: f"{HERE}:{name}"})
    with pytest.raises(ZooError, match=message) as refusal:
        zoo_gen.run(described, tmp_path / "zoo", workers=1, progress=False)
    assert str(refusal.value).startswith(f"{what} '{HERE}:{name}': ")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "zoo").exists()
    with pytest.raises(ZooError, match=message):
        zoo_gen.plan(described)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"loss": f"{HERE}:missing"}, r"cannot be imported \(AttributeError: .*missing"),
        ({"optimizer": "no_such_module:Lion"}, r"cannot be imported \(ModuleNotFoundError"),
        ({"schedule": lambda epoch, n_epochs: 1.0}, "expected a class, or a function, at the top level of a file"),
        ({"loss": "focal"}, "should be 'standard', or \"module:name\" of your own, got 'focal'"),
        ({"source_sha256": {f"{HERE}:Lion": "0"}}, "is used by no part of this zoo"),
    ],
)
def test_what_is_not_there_is_refused_when_a_manifest_is_read(training, message):
    with pytest.raises(ZooError, match=message):
        manifest("perceptron", data=DATA, **training)


def test_another_source_is_refused(tmp_path, monkeypatch):
    source = tmp_path / "my_losses.py"
    source.write_text(
        "from torch.nn.functional import cross_entropy\n\n\ndef twice(o, t):\n    return 2 * cross_entropy(o, t)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    zoo = zoo_gen.run(manifest("perceptron", data=DATA, loss="my_losses:twice"), workers=1, progress=False)
    assert set(zoo.manifest.training.source_sha256) == {"my_losses:twice"}
    recorded = "zoos/own/manifest.toml"
    assert zoo_gen.run(recorded, "zoos/own", workers=1, progress=False).digest == zoo.digest
    source.write_text(source.read_text().replace("2 *", "3 *"))
    with pytest.raises(ZooError, match="loss 'my_losses:twice': its source has changed since the manifest was made"):
        zoo_gen.run(recorded, "elsewhere", workers=1, progress=False)
    source.unlink()
    monkeypatch.delitem(__import__("sys").modules, "my_losses")
    opened = zoo_gen.open_zoo("zoos/own")  # needs no code
    assert zoo_gen.verify(opened).sound
