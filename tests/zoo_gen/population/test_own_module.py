"""Stacked modules of a user's own are what each trained alone would be; what cannot be stacked is refused."""

import re

import numpy as np
import pytest
import torch
from torch import nn

import zoo_gen
from tests.plain_loop import Masked, make_optimizer
from tests.zoo_gen.population import own_networks
from zoo_gen.architecture import own_module
from zoo_gen.errors import ZooError
from zoo_gen.image_data import load_image_data
from zoo_gen.manifest import grid
from zoo_gen.population.population import TrainingSettings
from zoo_gen.population.random import data_order, kept_by_dropout
from zoo_gen.population.train import train

HERE = own_networks.__name__


def manifest(name: str, arguments: dict | None = None, *, seeds: int = 3, data: dict | None = None, **training):
    settings = {"epochs": 2, "batch_size": 32, "optimizer": "adam", "learning_rate": 1e-2, "initialization": "module"}
    return zoo_gen.ZooManifest(
        name="own",
        data=data or DATA,
        architecture={"name": "module", "module": f"{HERE}:{name}", "arguments": arguments or {}},
        training=settings | training,
        axes={"product": {"seed": list(range(seeds))}},
    )


DATA = {"source": "synthetic", "image_shape": [1, 8, 8], "n_classes": 10, "train_size": 320, "test_size": 64}


def masks(module: nn.Module, seed: int, step: int) -> None:
    """Let the dropout layers of a plain module drop what a stacked one drops in a step."""
    state = {"start": 0}

    def next_mask(count: int, rate: float) -> torch.Tensor:
        mask = kept_by_dropout(torch.tensor([seed]), torch.tensor([rate]), step, count, start=state["start"])
        state["start"] += -(-count // 2) * 2
        return mask[0]

    for part in module.modules():
        if isinstance(part, Flat):
            part.next_mask = lambda count, rate=part.rate: next_mask(count, rate)


class Flat(Masked):
    """Dropout whose values are numbered as they lie."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if not self.training or not self.rate:
            return hidden
        return hidden * self.next_mask(hidden.numel()).view(hidden.shape) / (1 - self.rate)


def with_masks(module: nn.Module) -> nn.Module:
    for part in list(module.modules()):
        for name, child in part.named_children():
            if isinstance(child, nn.Dropout):
                setattr(part, name, Flat(child.p, torch.ones))
    return module


def alone(described, row: dict, *, epochs: int) -> nn.Module:
    """Return one model trained by torch.nn and torch.optim alone, in float64."""
    factory = own_module.resolve(described.architecture.module)
    torch.manual_seed(row["seed"])
    module = with_masks(factory(**described.architecture.arguments)).double()
    data = load_image_data(described.data)
    inputs, labels = data.tensors("train", dtype=torch.float64)
    optimizer = make_optimizer(module, row)
    step = 0
    for epoch in range(1, epochs + 1):
        order = data_order(torch.tensor([row["seed"]]), epoch, len(labels))[0]
        for batch in order.split(row["batch_size"]):
            masks(module, row["seed"], step)
            optimizer.zero_grad()
            outputs = module(inputs[batch])
            loss_of = nn.functional.cross_entropy if data.n_classes else nn.functional.mse_loss
            loss_of(outputs, labels[batch]).backward()
            optimizer.step()
            step += 1
    return module.eval()


@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Residual", {}),
        ("Residual", {"dropout": 0.25}),
        ("Attention", {}),
        ("perceptron", {"width": 4, "dropout": 0.5}),
        ("Scaled", {}),
    ],
)
def test_stacked_modules_are_what_each_trained_alone_is_after_twenty_steps(name, arguments, optimizer):
    described = manifest(name, arguments, optimizer=optimizer)
    models = grid.table_of_models(described)
    data = load_image_data(described.data)
    settings = TrainingSettings(epochs=2, dtype=torch.float64)
    trained = train(described.architecture, data, models, settings, checkpoint_epochs=(0, 2)).arrays
    layout = described.layout
    assert [p.name for p in layout.parameters] == [
        name for name, _ in alone(described, models.to_pylist()[0], epochs=0).named_parameters()
    ]
    for model, row in enumerate(models.to_pylist()):
        for checkpoint, epochs in enumerate((0, 2)):
            plain = alone(described, row, epochs=epochs)
            expected = nn.utils.parameters_to_vector(plain.parameters()).detach().numpy()
            actual = trained["weights"][model, checkpoint]
            np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-10)
            if described.network.own_module.buffers:
                state = dict(plain.named_buffers())
                statistics = torch.cat(
                    [state[name].flatten() for name, _ in described.network.own_module.buffers]
                ).numpy()
                np.testing.assert_allclose(trained["buffers"][model, checkpoint], statistics, rtol=1e-10)
            inputs, labels = data.tensors("test", dtype=torch.float64)
            loss = nn.functional.cross_entropy(plain(inputs), labels).item()
            assert trained["test_loss"][model, checkpoint] == pytest.approx(loss, rel=1e-9)


def test_a_number_is_predicted_by_a_module(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_DATA_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    random = np.random.RandomState(0)
    x = random.standard_normal((80, 3))
    y = x[:, 0] - 2 * x[:, 1]
    zoo = zoo_gen.run(
        {"name": "numbers", "axes": {"product": {"seed": [3, 5]}}, "training": {
            "epochs": 2, "batch_size": 16, "optimizer": "adam", "learning_rate": 0.01, "initialization": "module",
        }},
        data=(x[:60], y[:60], x[60:], y[60:]), module=own_networks.OneNumber, workers=1, progress=False,
    )  # fmt: skip
    plain = alone(zoo.manifest, zoo.models.to_pylist()[1], epochs=2)
    with torch.no_grad():
        predicted = plain(torch.from_numpy(x[60:].astype(np.float32)).double()).numpy()
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    for name, measure in {"r2": r2_score, "mse": mean_squared_error, "mae": mean_absolute_error}.items():
        assert zoo.metric(f"test_{name}")[1, -1] == pytest.approx(measure(y[60:], predicted), rel=1e-4)
    assert (zoo.metric("test_loss")[:] == zoo.metric("test_mse")[:]).all()
    assert zoo_gen.verify(zoo).sound


def test_a_zoo_of_modules_is_read_verified_and_computes_what_is_stored(tmp_path):
    described = manifest("Residual", {"dropout": 0.1}, seeds=5, data=DATA)
    zoo = zoo_gen.run(described, tmp_path / "zoo", workers=1, progress=False)
    assert zoo_gen.verify(zoo).sound
    assert "buffers" not in zoo.metrics
    assert set(zoo.state_dict(0)) >= {"norm.running_mean", "norm.running_var", "block.weight"}
    module = zoo.module(3)
    assert isinstance(module, own_networks.Residual)
    inputs, labels = load_image_data(described.data).tensors("test")
    accuracy = (module(inputs).argmax(dim=1) == labels).float().mean().item()
    assert accuracy == pytest.approx(float(zoo.test_accuracy[3, -1]), abs=1.5 / 64)
    assert zoo.layout.symmetries == ()


def test_models_do_not_depend_on_who_is_trained_beside_them(tmp_path):
    whole = manifest("perceptron", {"dropout": 0.2}, seeds=5, data=DATA)
    weights = []
    for models_per_shard in (5, 2):
        document = whole.model_dump(mode="json", exclude_unset=True) | {
            "storage": {"models_per_shard": models_per_shard}
        }
        folder = tmp_path / str(models_per_shard)
        weights.append(zoo_gen.run(zoo_gen.ZooManifest(**document), folder, workers=1, progress=False).weights[:])
    np.testing.assert_allclose(*weights, rtol=1e-4, atol=1e-6)


def test_initial_weights_leave_no_trace_outside():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    manifest("Residual").network.own_module.build(seed=99)
    assert torch.equal(torch.rand(3), expected)


def test_the_module_initialization_of_layers_is_torchs_own():
    document = manifest("perceptron").model_dump(mode="json", exclude_unset=True)
    document["architecture"] = {"name": "mlp", "widths": [64, 5, 10]}
    document["training"] |= {"activation": "tanh"}
    described = zoo_gen.ZooManifest(**document)
    models, settings = grid.table_of_models(described), TrainingSettings(epochs=0)
    trained = train(described.architecture, load_image_data(described.data), models, settings, checkpoint_epochs=(0,))
    torch.manual_seed(1)
    plain = nn.Sequential(nn.Linear(64, 5), nn.Linear(5, 10))
    expected = nn.utils.parameters_to_vector(plain.parameters()).detach().numpy()
    assert (trained.arrays["weights"][1, 0] == expected).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("RandomInForward", "cannot be stacked by torch.func"),
        ("DecidesByValue", "cannot be stacked by torch.func"),
        ("Counts", "buffer seen changes while the module is called"),
        ("CountsSteps", "buffer steps changes while the module is called"),
        ("Unused", "parameter spare.weight has no part in its outputs"),
        ("Frozen", "parameter spare.weight needs no gradient; expected a buffer"),
        ("RandomBuffer", "buffer features differs from seed to seed"),
        ("Unrepeatable", "two modules made from one seed differ; expected all random numbers from torch's generator"),
        ("Pair", r"gives tuple; expected one tensor \(image, output\)"),
        ("OneNumber", r"does not take inputs \[3, 1, 8, 8\]"),
        ("spatial_dropout", r"1 \(Dropout2d, p = 0.5\) cannot be stacked; expected torch.nn.Dropout"),
        ("cumulative", "2 has momentum None"),
        ("double", "parameter 1.weight is of torch.float64; expected torch.float32"),
        ("no_parameters", "has no parameters"),
        ("no_module", "gives int; expected a torch.nn.Module"),
        ("Missing", r"cannot be imported \(AttributeError"),
        ("random", "is no class or function"),
    ],
)
def test_what_cannot_be_stacked_is_refused_in_one_line(name, message):
    with pytest.raises(ZooError, match=message) as refusal:
        manifest(name, data=DATA)
    assert f"{HERE}:{name}" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "arguments", "training", "message"),
    [
        ("perceptron", {"outputs": 7}, {}, r"gives \[3, 7\] for inputs \[3, 1, 8, 8\]; expected \[3, 10\]"),
        ("perceptron", {"depth": 7}, {}, r"cannot be made \(TypeError: .*depth.* expected arguments of \(width"),
        (
            "perceptron",
            {},
            {"initialization": "normal"},
            r"'normal' does not draw 2.weight of shape \[6\]; expected 'module'",
        ),
        ("perceptron", {}, {"dropout": 0.5}, "module has no dropout layer; expected 0"),
        ("perceptron", {}, {"activation": "tanh"}, "activation: is used by no part of this zoo"),
    ],
)
def test_arguments_and_training_that_do_not_fit_are_refused(name, arguments, training, message):
    with pytest.raises(ZooError, match=message):
        manifest(name, arguments, data=DATA, **training)


def test_a_zoo_opens_without_its_code_and_says_what_is_missing(tmp_path, monkeypatch):
    source = tmp_path / "mine_alone.py"
    source.write_text(
        "from torch import nn\n\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    document = manifest("perceptron", data=DATA).model_dump(mode="json", exclude_unset=True)
    document["architecture"] = {"name": "module", "module": "mine_alone:net"}
    zoo = zoo_gen.run(zoo_gen.ZooManifest(**document), workers=1, progress=False)
    assert zoo.module(0)[1].in_features == 64
    source.write_text(source.read_text().replace("nn.Linear(64, 10)", "nn.Linear(64, 10), nn.Tanh()"))
    with pytest.raises(ZooError, match="'mine_alone:net': its source has changed since the manifest was made"):
        zoo_gen.open_zoo("zoos/own").module(0)
    source.unlink()
    monkeypatch.delitem(__import__("sys").modules, "mine_alone")
    opened = zoo_gen.open_zoo("zoos/own")
    assert opened.weights.shape == (3, 3, 650)
    assert opened.layout.parameters[0].name == "1.weight"
    with pytest.raises(ZooError, match=re.escape("'mine_alone:net': cannot be imported")):
        opened.module(0)


@pytest.mark.parametrize(("name", "arguments"), [("perceptron", {"width": 34}), ("Residual", {"dropout": 0.3})])
def test_a_module_has_the_same_bytes_alone_and_in_company(name, arguments):
    described = manifest(name, arguments, seeds=5, batch_size=31)
    models, data = grid.table_of_models(described), load_image_data(described.data)
    settings = TrainingSettings(epochs=2)
    together = train(described.architecture, data, models, settings, checkpoint_epochs=(1, 2)).arrays
    for row in range(len(models)):
        one = train(described.architecture, data, models.slice(row, 1), settings, checkpoint_epochs=(1, 2)).arrays
        for array, values in one.items():
            np.testing.assert_array_equal(together[array][row], values[0], err_msg=f"{array} {row}")
