"""Zoos of networks that are fitted to images, through everything that a zoo goes through."""

import json
import shutil

import numpy as np
import pytest
import torch

from tests.conftest import files_of
from zoo_gen import ZooError, engine, merge, open_zoo, open_zoos, split, verify, write_plots
from zoo_gen.image_data import load_image_data
from zoo_gen.store.image_labels import IMAGE_LABELS
from zoo_gen.zoo.reconstructions import reconstructions

INR = """
name = "inr"

[data]
source = "image_fields"

[data.images]
source = "synthetic"
image_shape = [1, 6, 5]
n_classes = 3
train_size = 20
test_size = 10

[architecture]
name = "siren"

[training]
epochs = 4
batch_size = 16
optimizer = "adam"
learning_rate = 1e-3
initialization = "siren"
initial_bias = 0.0

[checkpoints]
epochs = [0, 4]

[axes]
product.image = { range = [0, 29] }

[split]
train = 0.7
validation = 0.3
test = 0.0
by_image_part = true

[storage]
models_per_shard = 7
"""


@pytest.fixture(scope="module")
def inr(made_once):
    def fill(folder):
        (folder / "inr.toml").write_text(INR)
        engine.run(folder / "inr.toml", folder / "inr", workers=1)

    return made_once("inr", fill) / "inr"


def test_the_zoo_says_what_each_network_shows(inr):
    zoo = open_zoo(inr)
    data = load_image_data(zoo.manifest.data)
    assert zoo.models["class"].to_pylist() == [str(label) for label in data.labels.tolist()]
    assert zoo.varying == ("image", "class")
    assert len(zoo.split("train")) == 14 and len(zoo.split("test")) == 10  # noqa: PT018 one sum
    module, coordinates = zoo.module(23), data.coordinates
    with torch.no_grad():
        shown = module(torch.from_numpy(coordinates).float())[:, 0].numpy()
    expected = data.image_set.test_images[3].reshape(-1) / 255.0
    assert np.mean((shown - expected) ** 2) == pytest.approx(zoo.models["train_mse"][23].as_py(), rel=1e-4)
    assert verify(inr).sound
    assert "train psnr after the last epoch" in (inr / "README.md").read_text()


def test_its_bytes_do_not_depend_on_workers_or_interruptions(inr, tmp_path):
    engine.run(inr.parent / "inr.toml", tmp_path / "two", workers=2)
    assert files_of(tmp_path / "two") == files_of(inr)
    shutil.copytree(inr, tmp_path / "inr")
    for shard in (1, 3):
        (tmp_path / "inr" / "models" / f"part-{shard:05d}.parquet").unlink()
    assert engine.run(inr.parent / "inr.toml", tmp_path / "inr", workers=1).trained_models == 14
    assert files_of(tmp_path / "inr") == files_of(inr)


def test_it_grows_by_more_images_and_by_more_views_of_each(inr, tmp_path):
    (tmp_path / "less.toml").write_text(INR.replace("[0, 29]", "[3, 17]"))
    engine.run(tmp_path / "less.toml", tmp_path / "inr", workers=1)
    summary = engine.run(inr.parent / "inr.toml", tmp_path / "inr", workers=1, grow=True)
    assert (summary.copied_models, summary.trained_models) == (15, 15)
    assert files_of(tmp_path / "inr") == files_of(inr)
    (tmp_path / "views.toml").write_text(INR.replace("product.image", "product.seed = [4, 5]\nproduct.image"))
    summary = engine.run(tmp_path / "views.toml", tmp_path / "inr", workers=1, grow=True)
    assert (summary.copied_models, summary.trained_models) == (2, 58)  # those whose image has the number of the seed
    classes = dict(zip(*(open_zoo(inr).models[name].to_pylist() for name in ("image", "class")), strict=True))
    models = open_zoo(tmp_path / "inr").models.select(["image", "class"]).to_pylist()
    assert all(classes[row["image"]] == row["class"] for row in models)


def test_parts_of_it_are_zoos_and_are_merged_to_the_same_bytes(inr, tmp_path):
    split(inr, tmp_path / "some", where={"image": [1, 2, 25]}, rest=tmp_path / "rest")
    assert open_zoo(tmp_path / "some").models["split"].to_pylist()[-1] == "test"
    assert verify(tmp_path / "some").sound
    both = merge([tmp_path / "some", tmp_path / "rest"], tmp_path / "both", name="inr")
    one = {name: dict(zip(both.models["image"].to_pylist(), both.models[name].to_pylist(), strict=True))
           for name in ("sha256", "class", "split")}  # fmt: skip
    for row in open_zoo(inr).models.to_pylist():
        assert (one["sha256"][row["image"]], one["class"][row["image"]]) == (row["sha256"], row["class"])
    joint = open_zoos([tmp_path / "some", tmp_path / "rest"])
    assert sorted(joint.models["class"].to_pylist()) == sorted(open_zoo(inr).models["class"].to_pylist())
    with pytest.raises(ZooError, match="several image sets; expected another split than by_image_part"):
        joint.with_split(both.manifest.split)


def test_it_is_verified_against_its_images(inr, tmp_path):
    shutil.copytree(inr, tmp_path / "inr")
    path = tmp_path / "inr" / "weights.zarr" / "zarr.json"
    content = json.loads(path.read_text())
    classes = content["attributes"][IMAGE_LABELS]["classes"]
    classes[0], classes[1] = classes[1], classes[0]
    path.write_text(json.dumps(content))
    report = verify(tmp_path / "inr")
    assert not report.sound
    (tmp_path / "inr" / "SHA256SUMS").unlink()  # as somebody who wants the classes to be others
    assert any("class is" in line for line in verify(tmp_path / "inr").findings)


def test_a_split_by_images_is_drawn_again(inr):
    zoo = open_zoo(inr)
    shares = {"train": 1.0, "validation": 0.0}
    other = zoo.with_split(zoo.manifest.split.model_copy(update=shares))
    assert (len(other.split("train")), len(other.split("validation")), len(other.split("test"))) == (20, 0, 10)


def test_its_pictures_show_images_and_what_the_networks_show(inr, tmp_path):
    zoo = open_zoo(inr)
    names = [path.name for path in write_plots(zoo, tmp_path)]
    assert names == ["epochs.png", "axes.png", "reconstructions.png"]
    models, images, shown = reconstructions(zoo)
    data = load_image_data(zoo.manifest.data)
    assert (models[0], models[-1], images.shape) == (0, 29, (10, 6, 5, 1))
    for model, image, picture in zip(models.tolist(), images, shown, strict=True):
        np.testing.assert_allclose(image.reshape(-1), data.values([model])[0, 0], rtol=1e-12)
        with torch.no_grad():
            levels = zoo.module(model)(torch.from_numpy(data.coordinates).float()).numpy()
        np.testing.assert_allclose(picture.reshape(-1), levels[:, 0].clip(0, 1), rtol=1e-5, atol=1e-6)
