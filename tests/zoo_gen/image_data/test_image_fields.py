"""Image sets to which networks are fitted: numbers, coordinates, and what a manifest is refused for."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from zoo_gen import ZooError
from zoo_gen.cli.main import main
from zoo_gen.image_data import FittedImages, ImageFields, load_image_data
from zoo_gen.manifest import ZooManifest, grid

BASE = {
    "name": "inr",
    "data": {"source": "image_fields", "images": {"source": "synthetic", "image_shape": [1, 6, 5], "train_size": 20,
                                                  "validation_size": 4, "test_size": 10}},
    "architecture": {"name": "siren"},
    "training": {"epochs": 2, "batch_size": 30, "optimizer": "adam", "learning_rate": 1e-3, "initialization": "siren"},
    "axes": {"product": {"image": range(34)}},
}  # fmt: skip


def manifest(**changes) -> ZooManifest:
    return ZooManifest(**{**BASE, **changes})


def test_images_are_numbered_through_their_parts():
    source = manifest().data
    data, image_set = load_image_data(source), load_image_data(source.images)
    assert isinstance(data, FittedImages)
    numbers = [19, 0, 20, 23, 24, 33]
    expected = [
        *(image_set.train_images[19], image_set.train_images[0], image_set.validation_images[0]),
        *(image_set.validation_images[3], image_set.test_images[0], image_set.test_images[9]),
    ]
    np.testing.assert_allclose(data.values(numbers), np.stack(expected).reshape(6, 1, 30) / 255, rtol=1e-12)
    labels = [*image_set.train_labels, *image_set.validation_labels, *image_set.test_labels]
    assert data.labels.tolist() == [int(label) for label in labels]
    assert (source.n_images, len(data.classes), data.n_train, source.n_train) == (34, 10, 30, 30)


def test_coordinates_are_those_of_sirens_grid():
    source = ImageFields.model_validate(
        {"source": "image_fields", "images": {"source": "synthetic", "image_shape": [1, 3, 3], "train_size": 5}}
    )
    corners = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0), (0, 1), (1, -1), (1, 0), (1, 1)]
    np.testing.assert_array_equal(load_image_data(source).coordinates, corners)


def test_each_model_has_the_number_of_its_image_as_seed_unless_another_is_given():
    models = grid.table_of_models(manifest())
    assert models["seed"].to_pylist() == models["image"].to_pylist() == list(range(34))
    shared = grid.table_of_models(manifest(training={**BASE["training"], "seed": 7}))
    assert set(shared["seed"].to_pylist()) == {7}
    views = grid.table_of_models(manifest(axes={"product": {"image": range(3), "seed": [1, 2]}}))
    assert views.select(["image", "seed"]).to_pylist()[:3] == [
        {"image": 0, "seed": 1}, {"image": 0, "seed": 2}, {"image": 1, "seed": 1},
    ]  # fmt: skip


def test_the_split_can_be_that_of_the_images():
    split = {"train": 0.75, "validation": 0.25, "test": 0.0, "by_image_part": True}
    table = grid.table_of_models(manifest(split=split, axes={"product": {"image": range(34), "seed": [1, 2]}}))
    of_part = {part: [] for part in ("train", "validation", "test")}
    for row in table.to_pylist():
        of_part[row["split"]].append(row["image"])
    assert set(of_part["test"]) == set(range(24, 34))
    assert {20, 21, 22, 23} <= set(of_part["validation"])
    assert len(of_part["validation"]) == 8 + 10
    assert set(of_part["train"]) <= set(range(20))
    together = {**split, "group_by": "image"}
    table = grid.table_of_models(manifest(split=together, axes={"product": {"image": range(34), "seed": [1, 2]}}))
    parts = {}
    for row in table.to_pylist():
        parts.setdefault(row["image"], set()).add(row["split"])
    assert all(len(each) == 1 for each in parts.values())


def test_classes_of_folders_keep_their_names(tmp_path):
    write_pictures(tmp_path / "pets", sizes=[(4, 4)] * 6)
    source = ImageFields.model_validate(
        {"source": "image_fields", "images": {"source": "folder", "path": str(tmp_path / "pets"), "test_share": 0.4}}
    )
    assert load_image_data(source).classes == ("cat", "dog")
    assert (source.n_outputs, source.read_by_kernels) == (3, False)


def write_pictures(folder, *, sizes):
    for number, size in enumerate(sizes):
        for name in ("cat", "dog"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            pixels = np.random.RandomState(number).randint(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": {"product": {"image": range(35)}}}, "axes.product.image: 34 lies beyond the 34 images of the image"),
        ({"axes": {"product": {"seed": range(5)}}}, "training.image: is missing; expected here or as an axis"),
        ({"architecture": {"name": "cnn_small"}}, "architecture.name: 'cnn_small' reads images; these inputs are 2 n"),
        ({"architecture": {"name": "small_cnn_gap"}}, "architecture.convolution needs an image (channel, height, widt"),
        ({"architecture": {"name": "mlp", "widths": [30, 8, 10]}}, "architecture.widths: begins with 30; an input has"),
        (
            {
                "architecture": {"name": "mlp", "widths": [2, 8, 10]},
                "training": {**BASE["training"], "activation": "relu"},
            },
            "architecture.widths: ends with 10; expected a linear layer of 1 units",
        ),
        ({"training": {**BASE["training"], "batch_size": 31}}, "training.batch_size: 31 exceeds the 30 pixels of a mo"),
        ({"training": {**BASE["training"], "label_noise": 0.1}}, "training.label_noise: is used by no part of this zo"),
        ({"split": {"by_image_part": True}}, "split: test is 0.15; expected 0, as by_image_part makes test models of"),
        ({"data": {"source": "image_fields"}}, "data.images: is missing"),
        (
            {"data": {"source": "image_fields", "images": {"source": "torchvision", "dataset": "MNIST",
                      "normalize": {"mean": [0.1], "deviation": [0.3]}}}},
            'data: images.normalize: has mean and deviation; expected "unit" or "symmetric"',
        ),
        (
            {"data": {"source": "tetris"}, "architecture": {"name": "mlp", "widths": [16, 4]}},
            "axes.product.image: is used by no part of this zoo",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_a_line(changes, message):
    with pytest.raises(ZooError) as caught:
        manifest(**changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_split_by_images_needs_networks_that_are_fitted_to_images():
    changes = {
        "data": {"source": "tetris"},
        "architecture": {"name": "mlp", "widths": [16, 4]},
        "axes": {"product": {"seed": [1, 2]}},
    }
    for split in ({"by_image_part": True, "train": 0.8, "validation": 0.2, "test": 0}, {"group_by": "image"}):
        with pytest.raises(ZooError, match=r"^split\.\w+: is for networks that are fitted to images"):
            manifest(**changes, split=split)


@pytest.mark.parametrize(
    ("sizes", "architecture", "message"),
    [
        ([(4, 4)] * 5, 'name = "siren"', None),
        ([(4, 4), (4, 5), (4, 4)], 'name = "siren"', "size"),
        (
            [(4, 4)] * 5,
            'name = "mlp"\nwidths = [2, 8, 1]',
            "architecture.widths: ends with 1; expected a linear layer of 3 units",
        ),
    ],
)
def test_folders_of_pictures_are_checked_by_the_command(tmp_path, sizes, architecture, message):
    write_pictures(tmp_path / "pets", sizes=sizes)
    activation = 'activation = "relu"\n' if "mlp" in architecture else ""
    (tmp_path / "pets.toml").write_text(
        f"""
name = "pets"

[data]
source = "image_fields"

[data.images]
source = "folder"
path = "{tmp_path / "pets"}"
test_share = 0.4

[architecture]
{architecture}

[training]
epochs = 1
batch_size = 16
optimizer = "adam"
learning_rate = 1e-3
initialization = "siren"
{activation}
[axes]
product.image = {{ range = [0, 3] }}
"""
    )
    result = CliRunner().invoke(main, ["plan", str(tmp_path / "pets.toml"), "--workers", "1"])
    if message is None:
        assert result.exit_code == 0, result.output
        return
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1
