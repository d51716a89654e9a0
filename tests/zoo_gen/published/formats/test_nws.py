"""NWS: float64 numbers in the order of TensorFlow's variables, batch normalisation inline, errors in per cent."""

import csv
import io

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.zoo_gen.published import ray
from tests.zoo_gen.published.ray import convert
from zoo_gen import ZooError, open_zoo
from zoo_gen.zoo.verify import verify

META = ["dataset", "lrate", "batch_size", "batch_norm", "augmentation", "optimizer", "activation", "initialization"]
META += ["filter_size", "depth_conv", "depth_fc", "width_conv", "width_fc"]
ACTIVATIONS = (functional.relu, functional.elu, torch.sigmoid, torch.tanh)


class Variables:
    """The variables of a network as TensorFlow holds them: kernels (height, width, in, out), matrices (in, out)."""

    def __init__(self, row, seed):
        random = np.random.RandomState(seed)
        self.row, self.kernels, self.matrices, self.all = row, [], [], []

        def new(*shape, positive=False):
            values = random.randn(*shape).astype(np.float32) * 0.1
            self.all.append(np.abs(values) + 0.5 if positive else values)
            return self.all[-1]

        def layer(into, *shape, norm):
            parts = [new(*shape), new(shape[-1])]
            for positive in (False, True) * 2 * norm:  # beta, gamma, moving mean, moving variance
                parts.append(new(shape[-1], positive=positive))
            into.append(parts)

        norm, inputs = row["batch_norm"], 3
        depth = row["depth_conv"]
        for block, count in enumerate({3: (1, 1, 1), 4: (1, 1, 2), 5: (1, 2, 2)}[depth]):
            for _ in range(count):
                outputs = row["width_conv"] * 2**block
                layer(self.kernels, row["filter_size"], row["filter_size"], inputs, outputs, norm=norm)
                inputs = outputs
        self.counts = {3: (1, 1, 1), 4: (1, 1, 2), 5: (1, 2, 2)}[depth]
        inputs *= 16
        for place in range(row["depth_fc"]):
            outputs = int(row["width_fc"] * 2.0**-place)
            layer(self.matrices, inputs, outputs, norm=norm)
            inputs = outputs
        layer(self.matrices, inputs, 20, norm=0)

    def content(self):
        """The file: kernels output by output, then input by input, matrices column by column, as float64."""
        numbers = []
        for values in self.all:
            if values.ndim == 4:
                numbers += [
                    values[:, :, i, o].reshape(-1) for o in range(values.shape[3]) for i in range(values.shape[2])
                ]
            elif values.ndim == 2:
                numbers += [values[:, o] for o in range(values.shape[1])]
            else:
                numbers.append(values)
        return np.concatenate(numbers).astype("<f8").tobytes()

    def outputs(self, images):
        """What TensorFlow's graph computes for images (image, height, width, channel), moving statistics used."""
        act, x = ACTIVATIONS[self.row["activation"]], torch.tensor(images).movedim(-1, 1)
        layers = iter(self.kernels)
        for count in self.counts:
            for _ in range(count):
                kernel, bias, *norm = map(torch.tensor, next(layers))
                x = functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding="same")
                x = act(normalised(x, norm))
            x = functional.max_pool2d(x, 2)
        x = x.movedim(1, -1).reshape(len(x), -1)
        for matrix, bias, *norm in self.matrices[:-1]:
            x = normalised(act(x @ torch.tensor(matrix) + torch.tensor(bias)), list(map(torch.tensor, norm)))
        matrix, bias = self.matrices[-1]
        return x @ torch.tensor(matrix) + torch.tensor(bias)


def normalised(x, norm):
    if not norm:
        return x
    beta, gamma, mean, variance = (each.reshape(1, -1, *[1] * (x.dim() - 2)) for each in norm)
    return gamma * (x - mean) / torch.sqrt(variance + 1e-5) + beta


def row(number):
    changes = [
        {},
        {"filter_size": 3, "depth_conv": 4, "activation": 1, "depth_fc": 3},
        {"activation": 3, "batch_norm": 0, "width_conv": 8},
    ]
    return {
        "dataset": "fashion", "lrate": 0.001 + number, "batch_size": 64, "batch_norm": 1, "augmentation": number % 2,
        "optimizer": number % 3, "activation": 0, "initialization": number % 4, "filter_size": 5, "depth_conv": 3,
        "depth_fc": 2, "width_conv": 4, "width_fc": 8, **changes[number % 3],
    }  # fmt: skip


@pytest.fixture(scope="module")
def published():
    """Five runs of three architectures: four are listed, one did not converge and has a folder only."""
    files, networks, errors = {}, {}, {}
    listed = {"train": [], "test": []}
    for number in range(5):
        meta, run = row(number), f"nws/{number:04d}"
        for snapshot in range(1, 21):
            networks[run, snapshot] = Variables(meta, 100 * number + snapshot)
            files[f"{run}/weights/{snapshot:03d}.bin"] = networks[run, snapshot].content()
        epochs = 30 + 7 * number
        table = np.random.RandomState(number).rand(epochs, 5) * 100
        table[:, 0] = np.arange(epochs) * 13
        errors[run] = table
        files[f"{run}/error.bin"] = table.astype("<f8").tobytes()
        files[f"{run}/stat.bin"] = np.array([epochs, epochs * 13, epochs, 99.0]).tobytes()
        files[f"{run}/error.pdf"] = b"%PDF"
        files[f"{run}/meta.csv"] = _csv([meta], META)
        size = len(files[f"{run}/weights/001.bin"]) // 8
        conv = sum(int(np.prod(part.shape)) for parts in networks[run, 1].kernels for part in parts)
        if number < 4:
            full = meta | {"path": f"/mnt/raid/{run}", "weightn_conv": conv, "weightn_fc": size - conv}
            listed["test" if number == 3 else "train"].append(full)
    for part, rows in listed.items():
        files[f"nws_main_{part}.csv"] = _csv(rows, [*META, "path", "weightn_conv", "weightn_fc"])
    return files, networks, errors


def _csv(rows, columns):
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def test_every_weight_is_in_its_place_and_the_networks_compute(tmp_path, published):
    files, networks, errors = published
    zoo = open_zoo(convert(ray.zipped(tmp_path / "nws.zip", files), tmp_path / "zoo", format="nws"))
    runs = zoo.models["run"].to_pylist()
    assert sorted(runs) == [f"nws/{number:04d}" for number in range(5)]
    assert len(set(zoo.models["architecture"].to_pylist())) == 3
    images = np.random.RandomState(0).rand(4, 32, 32, 3).astype(np.float32)
    for (run, snapshot), variables in networks.items():
        if snapshot not in (1, 13, 20):
            continue
        model = runs.index(run)
        state = zoo.state_dict(model, snapshot)
        assert np.array_equal(state["convolution2.weight"], variables.kernels[1][0].transpose(3, 2, 0, 1))
        assert np.array_equal(state["linear1.weight"], variables.matrices[0][0].T)
        if variables.row["batch_norm"]:
            beta, gamma, mean, variance = variables.kernels[0][2:]
            assert np.array_equal(state["normalization1.weight"], gamma)
            assert np.array_equal(state["normalization1.bias"], beta)
            assert np.array_equal(state["normalization1.running_mean"], mean)
            assert np.array_equal(state["normalization1.running_var"], variance)
        module = zoo.module(model, snapshot)
        with torch.no_grad():
            outputs = module(torch.tensor(images).movedim(-1, 1))
        torch.testing.assert_close(outputs, variables.outputs(images), rtol=1e-4, atol=1e-5)
    for run, table in errors.items():
        places = np.round(np.linspace(0, len(table) - 1, 20)).astype(int)
        stored = np.asarray(zoo.test_accuracy[runs.index(run)])
        np.testing.assert_allclose(stored, 1 - table[places, 3] / 100, rtol=1e-6)
    assert verify(zoo.path, sample=0).findings == ()


def test_numbers_are_decoded_and_parts_come_from_the_csvs(tmp_path, published):
    files, _, _ = published
    zoo = open_zoo(convert(ray.folder(tmp_path / "nws", files), tmp_path / "zoo", format="nws"))
    runs = zoo.models["run"].to_pylist()
    columns = zoo.models.to_pydict()
    assert columns["optimizer"] == ["adam", "rmsprop", "momentum", "adam", "rmsprop"]
    assert columns["activation"] == ["relu", "elu", "tanh", "relu", "elu"]
    assert columns["initialization"] == ["constant", "normal", "glorot_uniform", "glorot_normal", "constant"]
    assert [runs[model] for model in zoo.split("train", table="published")] == runs[:3]
    assert [runs[model] for model in zoo.split("test", table="published")] == [runs[3]]
    assert columns["split"] == ["train", "train", "train", "test", None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-8], r"002\.bin: has [\d,]+ bytes; expected"),
        (
            lambda content: (np.frombuffer(content) * (1 + 1e-12)).tobytes(),
            "float64 weights that are no float32",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, published, change, message):
    files = dict(published[0])
    files["nws/0001/weights/002.bin"] = change(files["nws/0001/weights/002.bin"])
    with pytest.raises(ZooError, match=message):
        convert(ray.zipped(tmp_path / "nws.zip", files), tmp_path / "zoo", format="nws")


def test_runs_of_one_architecture_are_a_plain_zoo(tmp_path, published):
    files = {name: content for name, content in published[0].items() if "0000/" in name or "0003/" in name}
    zoo = open_zoo(convert(ray.zipped(tmp_path / "nws_fixed.zip", files), tmp_path / "zoo", format="nws"))
    assert zoo.weights.shape == (2, 20, zoo.layout.size)
    index = zoo.layout.permutation({"convolution1": [2, 0, 3, 1]})  # its normalisation moves with it
    module = zoo.module(1, 20)
    images = torch.rand(2, 3, 32, 32)
    before = module(images)
    vector = zoo.weights[1, 19][index]
    state = {name: torch.from_numpy(array.copy()) for name, array in zoo.layout.split(vector).items()}
    module.load_state_dict(state)
    torch.testing.assert_close(module(images), before, rtol=1e-4, atol=1e-5)
    assert isinstance(module.normalization1, nn.BatchNorm2d)
