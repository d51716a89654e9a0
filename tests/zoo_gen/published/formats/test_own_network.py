"""Checkpoints of one's own with their network, images, classes and licence: computed, evaluated and published."""

import gzip

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import zoo_gen
from tests.zoo_gen.published import own, ray
from zoo_gen import ZooError
from zoo_gen.cli.main import main
from zoo_gen.published.push import licence_of
from zoo_gen.zoo.verify import verify

NETWORK = """
input_shape = [1, 28, 28]
activation = "relu"

[architecture]
name = "layers"
layers = [
  { type = "convolution", channels = 2, kernel = 5, stride = 4 },
  { type = "activation" },
  { type = "flatten" },
  { type = "linear", units = 8 },
  { type = "activation" },
  { type = "linear", units = 10 },
]
"""


class Mine(nn.Module):
    """A network whose parts have names and an order of their own."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 10)
        self.body = nn.Linear(72, 8)
        self.stem = nn.Conv2d(1, 2, 5, stride=4)

    def forward(self, images):
        return self.head(self.body(self.stem(images).relu().flatten(1)).relu())


@pytest.fixture
def images(tmp_path):
    """A data root with 200 random images in the place of the test images of Fashion-MNIST, and the same as tensors."""
    random = np.random.RandomState(0)
    pixels, labels = random.randint(0, 256, (200, 28, 28)).astype(np.uint8), random.randint(0, 10, 200).astype(np.uint8)
    folder = tmp_path / "images" / "fashion-mnist"
    folder.mkdir(parents=True)
    for kind, code, array in (("images-idx3", 3, pixels), ("labels-idx1", 1, labels)):
        header = bytes([0, 0, 8, code]) + b"".join(length.to_bytes(4, "big") for length in array.shape)
        (folder / f"t10k-{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    return folder.parent, torch.from_numpy(pixels)[:, None].float() / 255, torch.from_numpy(labels.astype(np.int64))


@pytest.fixture
def mine(tmp_path, images):
    """A folder of four such networks with their accuracies, and the networks."""
    _, inputs, labels = images
    torch.manual_seed(0)
    networks = [Mine() for _ in range(4)]
    accuracies = [(network(inputs).argmax(1) == labels).float().mean().item() for network in networks]
    rows = "".join(f"n{i}.pt,{accuracy!r}\n" for i, accuracy in enumerate(accuracies))
    files = {f"n{i}.pt": ray.saved(network.state_dict()) for i, network in enumerate(networks)}
    (tmp_path / "network.toml").write_text(NETWORK)
    return own.folder(tmp_path / "mine", f"file,test_accuracy\n{rows}", n_files=0, files=files), networks


def test_a_described_network_computes_is_evaluated_and_may_be_published(mine, images, tmp_path):
    folder, networks = mine
    root, inputs, _ = images
    zoo = own.zoo_of(folder, architecture=tmp_path / "network.toml", data="fashion_mnist", licence="mit")
    assert (zoo.n_classes, zoo.manifest.data_name, zoo.manifest.architecture.name) == (10, "FashionMNIST", "layers")
    for model, network in enumerate(networks):
        torch.testing.assert_close(zoo.module(model)(inputs), network(inputs), rtol=1e-5, atol=1e-6)
    report = verify(zoo.path, sample=4, data_root=root)
    assert (report.findings, report.evaluated_checkpoints) == ((), 4)
    assert licence_of(zoo) == "mit"


def test_the_command_takes_the_same(mine, images, tmp_path):
    folder, _ = mine
    options = ["--architecture", str(tmp_path / "network.toml"), "--data", "fashion_mnist", "--licence", "mit"]
    arguments = ["convert", str(folder), "--format", "folder", "--out", str(tmp_path / "zoo"), *options]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "column       test_accuracy: metric\n" in result.output
    result = CliRunner().invoke(main, ["verify", str(tmp_path / "zoo"), "--data-root", str(images[0])])
    assert "4 checkpoints evaluated: sound" in result.output


def test_wrong_weights_are_found_where_the_network_is_known(mine, images, tmp_path):
    folder, networks = mine
    with torch.no_grad():
        networks[1].head.bias += torch.linspace(-5, 5, 10)
    (folder / "n1.pt").write_bytes(ray.saved(networks[1].state_dict()))
    zoo = own.zoo_of(folder, architecture=tmp_path / "network.toml", data="fashion_mnist")
    assert any(line.startswith("model 1,") for line in verify(zoo.path, sample=4, data_root=images[0]).findings)


def test_a_licence_that_is_given_later_changes_the_licence_alone(mine):
    folder, _ = mine
    zoo = own.zoo_of(folder, classes=10)
    before = {path: path.read_bytes() for path in zoo.path.rglob("*") if path.is_file()}
    with pytest.raises(ZooError, match="with no known licence"):
        licence_of(zoo)
    later = own.zoo_of(folder, classes=10, licence="cc-by-4.0")
    assert licence_of(later) == "cc-by-4.0"
    assert verify(later.path, sample=0).findings == ()
    after = {path: path.read_bytes() for path in zoo.path.rglob("*") if path.is_file()}
    assert {path.name for path in before if before[path] != after.get(path)} == {
        "manifest.toml",
        "README.md",
        "SHA256SUMS",
    }


def test_plain_data_and_names_do_the_same_as_a_file(tmp_path):
    networks = [own.mlp(3, 4, 4, 2) for _ in range(2)]
    states = {f"n{i}.pt": network.state_dict() for i, network in enumerate(networks)}
    folder = own.folder(tmp_path / "mine", "file,activation\nn0.pt,ReLU\nn1.pt,relu\n", n_files=0, states=states)
    network = {"architecture": {"name": "mlp", "widths": [3, 4, 4, 2]}, "input_shape": [3]}
    zoo = zoo_gen.convert(folder, tmp_path / "zoo", format="folder", architecture=network)
    assert zoo.n_classes == 2
    inputs = torch.randn(5, 3)
    for model, plain in enumerate(networks):
        torch.testing.assert_close(zoo.module(model)(inputs), plain(inputs))


def test_layers_of_the_same_shapes_are_told_by_name(tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.after, self.before, self.out = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, inputs):
            return self.out(self.after(self.before(inputs).tanh()).tanh())

    plain = Two()
    folder = own.folder(tmp_path / "mine", "file\nn.pt\n", n_files=0, states={"n.pt": plain.state_dict()})
    network = {"architecture": {"name": "mlp", "widths": [3, 3, 3, 2]}, "input_shape": [3], "activation": "tanh"}
    with pytest.raises(ZooError, match="after and before have the same shapes; expected names"):
        own.zoo_of(folder, architecture=network)
    zoo = own.zoo_of(folder, architecture=network | {"names": {"linear1": "before", "linear2": "after"}})
    inputs = torch.randn(5, 3)
    torch.testing.assert_close(zoo.module(0)(inputs), plain(inputs))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "cnn_tiny"}, "architecture='cnn_tiny': architecture"),
        ({"architecture": "cnn_small"}, "needs the shape of its inputs; expected input_shape in it, or data"),
        ({"architecture": {"name": "mlp", "widths": [3, 2]}}, "needs the shape of its inputs"),
        (
            {"architecture": {"architecture": {"name": "mlp", "widths": [3, 4]}, "input_shape": [3]}},
            r"c0\.pt: has 0 layers like linear1 \(weight 4 x 3, bias 4\); expected 1",
        ),
        (
            {"architecture": {"architecture": {"name": "mlp", "widths": [4, 2]}, "input_shape": [3]}},
            "widths: begins with 4; an input has 3 numbers",
        ),
        (
            {"architecture": {"architecture": {"name": "mlp", "widths": [3, 2]}, "input_shape": [3]}, "classes": 5},
            "ends with 2; expected a linear layer of 5 units",
        ),
        ({"architecture": {"architecture": {"name": "mlp", "widths": [3, 2]}, "colour": 1}}, "unknown key 'colour'"),
        ({"classes": 0}, "classes=0: expected at least 1"),
        ({"classes": 3, "data": "cifar10"}, "classes gives 3 classes, data='cifar10' gives 10 classes"),
        ({"data": "fashionmnst"}, "unknown image data 'fashionmnst'; did you mean 'fashion_mnist'|'fashionmnist'"),
        ({"licence": "proprietary"}, "unknown licence 'proprietary'"),
        ({"table": "other.csv"}, r"holds 0 tables 'other\.csv'"),
        ({"accuracies": "permille"}, "unknown unit of accuracies 'permille'"),
    ],
)
def test_what_does_not_fit_is_one_line_and_writes_nothing(tmp_path, options, message):
    folder = own.folder(tmp_path / "mine", "file\nc0.pt\n", n_files=1)
    with pytest.raises(ZooError, match=message):
        own.zoo_of(folder, **options)
    assert not (tmp_path / "mine_zoo").exists()


@pytest.mark.parametrize("option", [{"classes": 10}, {"architecture": "cnn_small"}, {"table": "a.csv"}])
def test_options_of_a_folder_are_refused_for_other_formats(tmp_path, option):
    with pytest.raises(ZooError, match=r"^(classes|architecture|table)=.*; expected it with format='folder'"):
        zoo_gen.convert(tmp_path, format="nws", **option)


def test_images_that_a_format_does_not_use_are_refused(tmp_path):
    with pytest.raises(ZooError, match="data='cifar10': the models of the format cnn_wild_park all read the same"):
        zoo_gen.convert(tmp_path, format="cnn_wild_park", data="cifar10")
