"""CNN Wild Park: mixed architectures whose configuration is an OmegaConf node of a class that is gone when read."""

import dataclasses
import io
import json
import random
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.zoo_gen.published.ray import convert
from zoo_gen import ZooError, open_zoo
from zoo_gen.zoo.verify import verify

omegaconf = pytest.importorskip("omegaconf")

FUNCTIONS = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "leaky_relu": functional.leaky_relu,
    "none": lambda values: values,
}


class CNN(nn.Module):
    """The published network: per-layer activations, additions of earlier outputs to the channels that both have."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        sizes = zip(c["channels"], c["channels"][1:], c["kernel_size"], strict=False)
        self.layers = nn.ModuleList([nn.Conv2d(i, o, k, padding=k // 2) for i, o, k in sizes])
        self.fc = nn.Linear(c["channels"][-1], 10)

    def forward(self, x):
        outputs = []
        for number, layer in enumerate(self.layers):
            x = layer(x)
            source = self.c["residual"][number]
            if source >= 0:
                shared = min(outputs[source].shape[1], x.shape[1])
                x = torch.cat([x[:, :shared] + outputs[source][:, :shared], x[:, shared:]], dim=1)
            x = FUNCTIONS[self.c["activation"][number]](x)
            outputs.append(x)
        return self.fc(x.mean(dim=(2, 3)))


CONFIGS = [
    {"channels": [3, 4, 8], "kernel_size": [3, 5], "activation": ["relu", "none"], "residual": [-1, -1]},
    {
        "channels": [3, 8, 4, 8],
        "kernel_size": [3, 3, 5],
        "activation": ["gelu", "tanh", "relu"],
        "residual": [-1, -1, 0],
    },
    {"channels": [3, 4, 8], "kernel_size": [3, 5], "activation": ["relu", "none"], "residual": [-1, -1]},
    {
        "channels": [3, 4, 4, 8, 4],
        "kernel_size": [3, 3, 3, 7],
        "activation": ["sigmoid", "leaky_relu", "tanh", "relu"],
        "residual": [-1, -1, 0, 1],
    },
]


@pytest.fixture(scope="module")
def park(tmp_path_factory):
    """Four trials of three architectures with two to four checkpoints each, zipped; and the networks."""
    module = types.ModuleType("create_random_cnns")

    @dataclasses.dataclass
    class CNNConfig:
        n_layers: int
        n_classes: int
        channels: list[int]
        kernel_size: list[int]
        stride: list[int]
        padding: list[int]
        residual: list[int]
        activation: list[str]

    CNNConfig.__module__, CNNConfig.__qualname__ = "create_random_cnns", "CNNConfig"
    module.CNNConfig = CNNConfig
    sys.modules["create_random_cnns"] = module
    torch.manual_seed(3)
    files, networks, accuracies = {}, {}, {}
    try:
        for number, c in enumerate(CONFIGS):
            n = len(c["kernel_size"])
            config = CNNConfig(
                n,
                10,
                c["channels"],
                c["kernel_size"],
                [1] * n,
                [k // 2 for k in c["kernel_size"]],
                c["residual"],
                c["activation"],
            )
            whole = omegaconf.OmegaConf.create({"model": omegaconf.OmegaConf.structured(config), "seed": number})
            network = CNN(c)
            optimizer = torch.optim.AdamW(network.parameters())
            trial = f"cifar10_zooV2/NN_tune_trainable_{number:05d}"
            for iteration in range(10, 10 * (2 + (number % 3)) + 1, 10):
                functional.cross_entropy(network(torch.randn(4, 3, 32, 32)), torch.randint(10, (4,))).backward()
                optimizer.step()
                accuracy = round(random.Random(number * 100 + iteration).random(), 4)
                checkpoint = {
                    "model": network.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "config": whole.model,
                    "iteration": iteration,
                    "timesteps_total": None,
                    "time_total": 1.5,
                    "last_result": {"test/acc": accuracy, "test/loss": 2.25, "config": {"model": whole.model}},
                    "ray_version": "2.3.0",
                }
                content = io.BytesIO()
                torch.save(checkpoint, content)
                files[f"{trial}/checkpoint_{iteration:06d}/checkpoint.pt"] = content.getvalue()
                copy = CNN(c)
                copy.load_state_dict(network.state_dict())
                networks[trial, iteration], accuracies[trial, iteration] = copy.eval(), accuracy
    finally:
        del sys.modules["create_random_cnns"]
    root = tmp_path_factory.mktemp("park")
    with zipfile.ZipFile(root / "cnn_wild_park.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return root / "cnn_wild_park.zip", networks, accuracies


@pytest.fixture(scope="module")
def zoo(park, tmp_path_factory):
    return open_zoo(convert(park[0], tmp_path_factory.mktemp("zoo") / "zoo", format="cnn_wild_park"))


def test_every_model_computes_what_was_published(park, zoo):
    _, networks, accuracies = park
    trials = sorted({trial for trial, _ in networks})
    assert zoo.models["run"].to_pylist() == trials
    inputs = torch.randn(3, 3, 32, 32)
    for (trial, iteration), network in networks.items():
        model = trials.index(trial)
        stored = zoo.state_dict(model, iteration)
        assert all(map(torch.equal, stored.values(), network.state_dict().values()))
        torch.testing.assert_close(zoo.module(model, iteration)(inputs), network(inputs))
        assert zoo.test_accuracy[model, zoo.checkpoint(iteration)] == np.float32(accuracies[trial, iteration])


def test_a_view_of_one_architecture_is_rectangular(park, zoo):
    _, networks, _ = park
    trials = sorted({trial for trial, _ in networks})
    ids = zoo.models["architecture"].to_pylist()
    assert ids[0] == ids[2]
    assert len(set(ids)) == 3
    view = zoo.view([2, 0])
    assert view.weights.shape == (2, len(zoo.epochs), view.layout.size)
    for row, model in enumerate((2, 0)):
        for place, epoch in enumerate(zoo.epochs.tolist()):
            network = networks.get((trials[model], epoch))
            stored = view.weights[row, place]
            if network is None:
                assert np.isnan(stored).all()
            else:
                expected = torch.cat([value.reshape(-1) for value in network.state_dict().values()])
                assert np.array_equal(stored, expected.numpy())
    assert view.metric("test_accuracy").shape == (2, len(zoo.epochs))
    assert view.hyperparameter("kernel_size").tolist() == ["3,5", "3,5"]
    with pytest.raises(ZooError, match="these models have 2 architectures; expected a view of models of one"):
        _ = zoo.view([0, 1]).weights


@pytest.mark.parametrize("asked", ["weights", "layout"])
def test_what_needs_one_architecture_says_so_in_one_line(zoo, asked):
    with pytest.raises(ZooError, match=r"its models have 3 architectures; expected zoo\.layout_of\(model\)"):
        getattr(zoo, asked)


def test_any_zarr_reader_finds_a_model_by_the_table(park, zoo):
    import zarr

    _, networks, _ = park
    flat = zarr.open_array(zoo.path / "weights.zarr" / "weights", mode="r")
    row = zoo.models.slice(3, 1).to_pylist()[0]
    shard = 3 // zoo.attributes["models_per_shard"]
    size = len(row["checkpoints"]) * row["n_parameters"]
    block = flat[shard, row["weights_start"] : row["weights_start"] + size].reshape(-1, row["n_parameters"])
    trial = sorted({trial for trial, _ in networks})[3]
    last = max(iteration for name, iteration in networks if name == trial)
    expected = torch.cat([value.reshape(-1) for value in networks[trial, last].state_dict().values()])
    assert np.array_equal(block[-1], expected.numpy())


def test_bytes_are_checked_as_of_any_zoo(park, tmp_path):
    zoo = open_zoo(convert(park[0], tmp_path / "zoo", format="cnn_wild_park"))
    assert verify(zoo.path, sample=0).findings == ()
    import zarr

    array = zarr.open_array(zoo.path / "weights.zarr" / "weights", mode="r+")
    array[0, 5] = 99.0
    findings = verify(zoo.path, sample=0).findings
    assert any("model 0: sha256" in line for line in findings)


def test_some_models_of_one_architecture_are_a_plain_zoo(park, tmp_path):
    zoo = open_zoo(convert(park[0], tmp_path / "zoo", format="cnn_wild_park", models=[0, 2], epochs=[10, 20]))
    assert zoo.weights.shape == (2, 2, zoo.layout.size)


def test_the_grouped_file_is_the_split(park, tmp_path):
    archive, networks, _ = park
    trials = sorted({trial for trial, _ in networks})
    chosen = {"train": [trials[2], trials[0]], "val": [trials[3]], "test": [trials[1]]}
    content = {}
    for part, names in chosen.items():
        paths = [
            f"../dataset/{trial}/checkpoint_{iteration:06d}/checkpoint.pt"
            for trial, iteration in networks
            if trial in names
        ]
        random.Random(1).shuffle(paths)
        content[part] = {"path": paths, "score": [0.1] * len(paths), "step": [10] * len(paths)}
    (tmp_path / "cnn_park_splits.json").write_text(json.dumps(content))
    options = {"format": "cnn_wild_park", "splits": {"wild_park": tmp_path / "cnn_park_splits.json"}}
    zoo = open_zoo(convert(archive, tmp_path / "zoo", **options))
    for part, theirs in (("train", "train"), ("validation", "val"), ("test", "test")):
        in_table = {trials[model] for model in zoo.split(part, table="wild_park")}
        assert in_table == set(chosen[theirs])
        order = [path.split("/")[3] for path in content[theirs]["path"]]
        expected = list(dict.fromkeys(f"cifar10_zooV2/{trial}" for trial in order))
        assert [trials[model] for model in zoo.split(part, table="wild_park")] == expected


def test_the_codes_own_split_is_that_of_scikit_learn():
    from sklearn.model_selection import train_test_split

    from zoo_gen.published import splits

    table = splits.grouped(200, test=50, validation=25, seed=42, how="")
    rest, test = train_test_split(range(200), test_size=50, random_state=42)
    train, validation = train_test_split(rest, test_size=25, random_state=42)
    for part, expected in (("train", train), ("validation", validation), ("test", test)):
        assert table.models[table.parts == part].tolist() == expected


def test_reordered_units_of_added_layers_are_not_offered_as_symmetries(zoo):
    layout = zoo.layout_of(1)  # convolution 1 is added to convolution 3
    assert [symmetry.layer for symmetry in layout.symmetries] == ["convolution2"]
    index = layout.permutation({"convolution2": [3, 1, 0, 2]})
    inputs = torch.randn(2, 3, 32, 32)
    module = zoo.module(1)
    before = module(inputs)
    weights = zoo.view([1]).weights[0]
    vector = weights[~np.isnan(weights).any(axis=1)][-1][index]
    module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in layout.split(vector).items()})
    torch.testing.assert_close(module(inputs), before)


def test_the_commands_work_on_mixed_architectures(zoo, tmp_path):
    from click.testing import CliRunner

    from zoo_gen.cli.main import main

    result = CliRunner().invoke(main, ["info", str(zoo.path), "--plots", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "in 3 architectures" in result.output
    assert "4 of 4" in result.output
