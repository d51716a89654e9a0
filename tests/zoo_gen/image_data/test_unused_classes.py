"""Labels such as 0, 5 and 10: numbered where classes are looked up; else a line says which outputs stay unused."""

import numpy as np
import pytest

import zoo_gen
from tests.zoo_gen.image_data import published
from zoo_gen.image_data import Idx, Synthetic, load_image_data
from zoo_gen.image_data.unused_classes import unused_classes

LABELS = np.array([0, 5, 10] * 10, dtype=np.uint8)
MANIFEST = {
    "name": "own",
    "architecture": {"name": "mlp", "widths": [784, 3]},
    "training": {
        "epochs": 1,
        "batch_size": 10,
        "learning_rate": 0.1,
        "initialization": "xavier_uniform",
        "optimizer": "sgd",
    },
    "axes": {"product": {"seed": [1]}},
}


@pytest.fixture
def idx(tmp_path):
    """Return a function that describes a folder of three classes."""

    def source(*, labels=LABELS, **changes):
        for part in ("train", "t10k"):
            published.write(tmp_path / f"{part}-images-idx3-ubyte", published.idx(published.pixels(30, 28, 28)))
            published.write(tmp_path / f"{part}-labels-idx1-ubyte", published.idx(labels))
        sizes = {"train_size": 30, "test_size": 30}
        return {"source": "idx", "folder": str(tmp_path), **sizes, **changes}

    return source


def test_a_run_says_once_which_classes_nothing_trains_and_trains(idx, tmp_path, caplog):
    manifest = {**MANIFEST, "data": idx(n_classes=11)}
    manifest["architecture"] = {"name": "mlp", "widths": [784, 11]}
    zoo = zoo_gen.run(manifest, tmp_path / "zoo", workers=1, progress=False)
    assert caplog.messages == [
        "own: no training example is of class 1, 2, 3, 4, 6, 7, 8, 9; nothing trains these outputs; expected such "
        "examples, or 0 to 2 as labels in place of 0, 5, 10, with n_classes = 3"
    ]
    assert zoo.complete


def test_labels_that_are_numbered_as_the_line_says_give_none(idx, tmp_path):
    source = Idx.model_validate(idx(labels=LABELS // 5, n_classes=3))
    assert unused_classes(source, load_image_data(source)) == ""


def test_arrays_have_an_output_for_each_label_that_there_is(tmp_path, caplog):
    images = published.pixels(30, 28, 28)
    data = (images, LABELS, images, LABELS)
    zoo = zoo_gen.run(MANIFEST, tmp_path / "zoo", data=data, data_root=tmp_path, workers=1, progress=False)
    assert zoo.manifest.data.classes == ("0", "5", "10")
    assert zoo.layout.parameters[-1].shape == (3,)  # the biases of the last layer
    labels = load_image_data(zoo.manifest.data, data_root=tmp_path).test_labels
    assert [zoo.manifest.data.classes[label] for label in labels] == list(map(str, LABELS))
    assert caplog.messages == []


def test_named_classes_that_no_example_has_are_said_by_name(tmp_path, caplog):
    images = published.pixels(30, 28, 28)
    labels = np.array(["cat", "dog"] * 15)
    manifest = {**MANIFEST, "data": {"classes": ["bird", "cat", "dog"]}}
    zoo_gen.run(manifest, tmp_path / "zoo", data=(images, labels) * 2, data_root=tmp_path, workers=1, progress=False)
    assert caplog.messages == [
        "own: no training example is of class bird; nothing trains these outputs; expected such examples, or fewer "
        "classes"
    ]


def test_many_classes_are_counted():
    source = Synthetic(source="synthetic", image_shape=(1, 4, 4), n_classes=40, train_size=20, test_size=20)
    line = unused_classes(source, load_image_data(source))
    assert line.startswith("no training example is of class 20, 21, 22, 23, 24, 25, 26, 27 and 12 more; ")
    assert line.endswith("in place of 0, 1, 2, 3, 4, 5, 6, 7 and 12 more, with n_classes = 20")
