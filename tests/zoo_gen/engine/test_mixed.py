"""Mixed zoos: each network is that of an ordinary zoo of its architecture, and the zoo is one like any other."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from tests import plain_loop
from tests.conftest import files_of
from zoo_gen import ZooError, engine, export, open_zoo, open_zoos, pull, push, split, verify
from zoo_gen.cli.main import main
from zoo_gen.engine import cost, driver, worker
from zoo_gen.files.schema import parse_toml
from zoo_gen.image_data import load_image_data
from zoo_gen.manifest import ZooManifest
from zoo_gen.population import train as population
from zoo_gen.population.random import data_order
from zoo_gen.store.places import row_elements
from zoo_gen.zoo import Zoo

MIXED = """
name = "mixed"

[data]
source = "synthetic"
image_shape = [1, 9, 8]
n_classes = 3
train_size = 40
test_size = 20

[architecture]
name = "mixed"

[architecture.named]
flat = { name = "mlp", widths = [72, 5, 3] }
normalized = { name = "layers", layers = [
  { type = "convolution", channels = 3, kernel = 3 }, { type = "batch_norm" }, { type = "activation" },
  { type = "flatten" }, { type = "linear", units = 3 },
] }

[architecture.random]
count = 3
seed = 2
depth = [1, 3]
channels = [2, 3]
activations = ["relu", "tanh"]
pooling = ["none", "max"]
dense = [0, 4]

[training]
epochs = 2
batch_size = 16
activation = "gelu"
optimizer = "adam"
initialization = "he_normal"

[axes.product]
learning_rate = [1e-3, 1e-2]
seed = { range = [1, 3] }

[storage]
models_per_shard = 8
"""
NAMES = ["flat", "normalized", "cnn_0", "cnn_1", "cnn_2"]
DRAWN = MIXED.replace(
    """learning_rate = [1e-3, 1e-2]
seed = { range = [1, 3] }
""",
    """seed = [1]

[axes.random]
count = 30
seed = 5

[axes.random.draw]
architecture.choice = "all"
learning_rate.log_uniform = [1e-3, 1e-1]
""",
)


def parsed(text: str) -> ZooManifest:
    return parse_toml(text, ZooManifest, where="mixed.toml")


def make(folder: Path, text: str = MIXED, **options) -> Zoo:
    path = folder.with_suffix(".toml")
    path.write_text(text)
    engine.run(path, folder, workers=1, progress=False, **options)
    return open_zoo(folder)


@pytest.fixture(scope="module")
def zoo(made_once) -> Zoo:
    return open_zoo(made_once("mixed", lambda folder: make(folder / "mixed")) / "mixed")


def test_every_model_of_the_axes_is_there_in_each_architecture(zoo):
    table = zoo.models
    rows = list(zip(*(table[name].to_pylist() for name in ("architecture", "learning_rate", "seed")), strict=True))
    assert rows == [(name, rate, seed) for name in NAMES for rate in (1e-3, 1e-2) for seed in (1, 2, 3)]
    assert zoo.varying == ("architecture", "learning_rate", "seed")
    sizes = {name: each.layout.size for name, each in zoo.architectures.items()}
    assert len(set(sizes.values())) > 3
    assert table["n_parameters"].to_pylist() == [sizes[name] for name, *_ in rows]


@pytest.mark.parametrize("name", ["flat", "normalized", "cnn_0", "cnn_1", "cnn_2"])
def test_each_network_is_that_of_the_ordinary_zoo_of_its_architecture_bit_for_bit(zoo, name, tmp_path):
    ordinary = zoo.manifest.of_architecture(name).model_copy(update={"name": "ordinary"})
    text = ordinary.to_toml()
    if name.startswith("cnn"):  # all functions are drawn
        text = text.replace('activation = "gelu"\n', "")
    alone = make(tmp_path / "zoo", text)
    assert not alone.ragged
    models = np.flatnonzero(np.array(zoo.models["architecture"].to_pylist()) == name)
    view = zoo.view(models)
    np.testing.assert_array_equal(view.weights, alone.weights[:])
    for metric in zoo.metrics:
        np.testing.assert_array_equal(view.metric(metric), alone.metric(metric)[:])
    for number, model in enumerate(models.tolist()):
        other = alone.state_dict(number)
        for key, values in zoo.state_dict(model).items():  # running statistics too
            assert torch.equal(values, other.pop(key))
        assert not other
    assert view.network == alone.manifest.network


def cnn_0(act, drop) -> nn.Sequential:
    """The first drawn network, written by hand."""
    return nn.Sequential(
        *(nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(3, 3, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)),
    )


def test_drawn_networks_equal_plain_torch_loops(zoo):
    data = load_image_data(zoo.manifest.data)
    rows = [row for row in zoo.models.to_pylist() if row["architecture"] == "cnn_0"]
    assert len(rows) == 6
    for row in rows:
        orders = np.stack([data_order(torch.tensor([row["seed"]]), epoch, 40)[0] for epoch in (1, 2)])
        weights = zoo.view([row["model_id"]]).weights[0]
        alone = plain_loop.train_alone(
            cnn_0,
            plain_loop.inputs_of(data),
            torch.from_numpy(data.train_labels),
            row,
            initial=weights[0],
            batches=list(plain_loop.batches_of(orders, 16)),
        )
        np.testing.assert_allclose(weights[2], plain_loop.vector(alone), rtol=1e-4, atol=1e-5)
        assert np.abs(weights[2] - weights[0]).max() > 2e-3


def test_parts_and_interruptions_give_the_same_bytes(zoo, tmp_path):
    expected = files_of(zoo.path)
    path = tmp_path / "mixed.toml"
    path.write_text(MIXED)
    for number in (2, 1):
        engine.run(path, tmp_path / "parts", workers=1, part=(number, 2), progress=False)
    assert files_of(tmp_path / "parts") == expected
    begun = tmp_path / "begun"
    shutil.copytree(zoo.path, begun)
    (begun / "models" / "part-00001.parquet").unlink()
    (begun / "weights.zarr" / "weights" / "c" / "2" / "0").write_bytes(b"damaged")
    driver.run(path, begun, workers=1, repair=True, progress=False)
    assert files_of(begun) == expected


@pytest.mark.parametrize(
    ("kernels", "expected"), [("float32", [6, 6, 6, 6, 6]), (None, [6, 2, 4, 4, 2, 6, 6])], ids=["together", "each"]
)
def test_an_architecture_is_one_population_of_the_shards_that_are_trained_together(
    zoo, tmp_path, monkeypatch, kernels, expected
):
    """As our kernels on a GPU train all shards of a block, and torch's operations one; stood in for by a CPU's."""
    sizes, real, settings_of = [], population.train, worker.settings_of

    def train(architecture, data, rows, settings, **options):
        sizes.append(len(rows))
        return real(architecture, data, rows, replace(settings, kernels=None), **options)

    def settings(manifest, **options):
        return {name: replace(one, kernels=kernels) for name, one in settings_of(manifest, **options).items()}

    monkeypatch.setattr(population, "train", train)
    monkeypatch.setattr(worker, "settings_of", settings)
    shutil.copytree(zoo.path, tmp_path / "again")
    for part in (tmp_path / "again" / "models").iterdir():
        part.unlink()
    driver.train_shards(tmp_path / "again", [0, 1, 2, 3])
    assert sizes == expected
    assert files_of(tmp_path / "again") == files_of(zoo.path)


def test_it_travels_over_the_hub(zoo, hub, tmp_path):
    shutil.copytree(zoo.path, tmp_path / "mine")
    pushed = push(tmp_path / "mine", "org/mixed", tag="v1")
    assert pushed.changed
    pull("hf://org/mixed@v1", tmp_path / "back")
    back = files_of(tmp_path / "back")
    del back[".gitattributes"]
    assert back == files_of(tmp_path / "mine")
    models = zoo.split("test")[:1]
    remote = open_zoo("hf://org/mixed@v1")
    np.testing.assert_array_equal(remote.view(models).weights, zoo.view(models).weights)


def test_it_is_sound_and_damage_is_found(zoo, tmp_path):
    assert str(verify(zoo, sample=20)) == "30 models hashed, 20 checkpoints evaluated: sound"
    copy = tmp_path / "copy"
    shutil.copytree(zoo.path, copy)
    text = (copy / "architectures.json").read_text()
    (copy / "architectures.json").write_text(text.replace('"kernel": 5', '"kernel": 7'))
    assert list(verify(copy).findings) == ["architectures.json: has other bytes than SHA256SUMS says"]


def test_the_file_of_architectures_is_the_one_of_converted_zoos(zoo):
    from zoo_gen.store.side_files import read_architectures

    assert read_architectures(zoo.path) == zoo.architectures


def test_the_plan_counts_what_a_run_makes(zoo):
    plan = cost.plan(zoo.manifest)
    assert (plan.models, plan.shards, plan.architectures) == (30, 4, 5)
    # Of the running statistics, two shards have none to write.
    assert plan.files == len(files_of(zoo.path)) + 2
    sizes = np.array(zoo.models["n_parameters"].to_pylist())
    metrics = sum(int(np.prod(zoo.array(name).shape)) for name in (*zoo.metrics, "buffers"))
    assert plan.bytes == 4 * (3 * sizes.sum() + metrics)
    assert zoo.extent.row_elements == row_elements(3 * sizes, 8) == zoo.array("weights").shape[1]
    lines = CliRunner().invoke(main, ["plan", str(zoo.path / "manifest.toml")]).output
    assert f"{sizes.min():,} to {sizes.max():,} a model, in 5 architectures" in lines
    assert cost.estimate(zoo.manifest, workers=2).seconds > 2


def test_architectures_can_be_drawn_for_each_model(tmp_path):
    manifest = parsed(DRAWN)
    table = manifest.rows(slice(0, 30))
    names = table["architecture"].to_pylist()
    assert sorted(names, key=NAMES.index) == names  # neighbours, as they are trained
    assert set(names) == set(NAMES)
    assert len(set(table["learning_rate"].to_pylist())) == 30
    drawn = make(tmp_path / "drawn", DRAWN.replace("count = 30", "count = 12").replace("epochs = 2", "epochs = 1"))
    assert verify(drawn, sample=5).findings == ()
    assert drawn.extent.n_models == 12


def test_it_is_read_and_written_like_other_zoos(zoo, tmp_path):
    frame = zoo.to_pandas()
    assert len(frame) == 90
    assert set(frame["architecture"]) == set(NAMES)
    samples = zoo.torch_dataset("train", target="test_accuracy", epochs=[2])
    assert {len(weights) for weights, _ in samples} == set(zoo.models["n_parameters"].to_pylist())
    files = export(zoo, tmp_path / "exported", format="pt", models=[0, 29])
    assert {len(torch.load(path)["linear1.weight"]) for path in files} == {5, 4}
    info = CliRunner().invoke(main, ["info", str(zoo.path)]).output
    assert "in 5 architectures" in info
    assert "flat, normalized, cnn_0, cnn_1, cnn_2" in (zoo.path / "README.md").read_text()
    joint = open_zoos([split(zoo.path, tmp_path / "a", where={"seed": 1}, rest=tmp_path / "b"), tmp_path / "b"])
    assert joint.ragged
    assert len(joint.models) == 30


def test_models_are_copied_into_splits_and_larger_zoos(zoo, tmp_path):
    part = split(zoo.path, tmp_path / "part", where={"architecture": ["flat", "cnn_2"], "learning_rate": 1e-2})
    assert part.models["architecture"].to_pylist() == ["flat"] * 3 + ["cnn_2"] * 3
    assert list(part.architectures) == ["flat", "cnn_2"]
    for name, start in (("flat", 3), ("cnn_2", 27)):
        (models,) = np.nonzero(np.array(part.models["architecture"].to_pylist()) == name)
        np.testing.assert_array_equal(part.view(models).weights, zoo.view(range(start, start + 3)).weights)
    assert verify(part, sample=6).findings == ()
    whole = {row["sha256"] for row in zoo.models.to_pylist()}
    grown = tmp_path / "mixed"
    shutil.copytree(zoo.path, grown)
    larger = MIXED.replace("count = 3", "count = 4").replace("range = [1, 3]", "range = [1, 4]")
    result = make(grown, larger, grow=True)
    assert len(result.models) == 6 * 2 * 4
    assert whole < {row["sha256"] for row in result.models.to_pylist()}
    fresh = make(tmp_path / "fresh", larger)
    assert fresh.models["sha256"].to_pylist() == result.models["sha256"].to_pylist()


def test_a_manifest_in_text_is_the_same_manifest():
    for text in (MIXED, DRAWN):
        manifest = parsed(text)
        again = parsed(manifest.to_toml())
        assert again == manifest
        assert again.digest == manifest.digest


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("count = 3", "count = 0", "architecture.random.count: input should be greater than 0, got 0"),
        ("widths = [72, 5, 3]", "widths = [70, 5, 3]", "architecture.named.flat.widths: begins with 70; the images"),
        ('"mlp"', '"mpl"', "architecture.named.flat.name: unknown name 'mpl'; did you mean 'mlp'"),
        ("flat = ", "cnn_1 = ", "architecture: named.cnn_1: has a meaning of its own; expected another name"),
        ("depth = [1, 3]", "depths = [1, 3]", "architecture.random: unknown key 'depths'; did you mean 'depth'"),
        ("channels = [2, 3]", "parameters = [1, 9]", "architecture.random: gave 0 different networks of 1 to 9 param"),
        ("[axes.product]", '[axes.product]\narchitecture = ["cnn_9"]', "axes.product.architecture: unknown architect"),
        ("[axes.product]", '[axes.product]\narchitecture = "cnn_1"', "axes.product.architecture: expected a list"),
        ("batch_size = 16", 'batch_size = 16\narchitecture = "flat"', "training.architecture: also stands in axes"),
        ("count = 3\n", "count = 3\ndepth = 2\n", "mixed.toml: not valid TOML"),
    ],
)
def test_mistakes_are_answered_in_one_line(old, new, message):
    assert old in MIXED
    with pytest.raises(ZooError) as caught:
        parsed(MIXED.replace(old, new, 1))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_ordinary_zoo_has_no_axis_of_architectures(tiny_manifest):
    text = tiny_manifest.read_text().replace("[axes.product]", '[axes.product]\narchitecture = ["mlp"]')
    with pytest.raises(ZooError, match=r"axes\.product\.architecture: is used by no part of this zoo"):
        parsed(text)
