import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.zoo_gen.image_data import published
from zoo_gen.errors import ZooError
from zoo_gen.image_data import Idx, load_image_data


def source(folder: str | Path = "mine", **changes: object) -> Idx:
    return Idx.model_validate({"source": "idx", "folder": str(folder), "train_size": 30, "test_size": 20} | changes)


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_folder_is_read(gz, absolute, tmp_path):
    published.write_idx(tmp_path / "mine", gz=gz)
    data = load_image_data(source(tmp_path / "mine" if absolute else "mine"), data_root=tmp_path)
    np.testing.assert_array_equal(data.train_images[:, 0], published.pixels(30, 28, 28, seed=30))
    np.testing.assert_array_equal(data.test_images[:, 0], published.pixels(20, 28, 28, seed=20))
    assert data.train_labels.tolist() == published.labels(30).tolist()
    assert data.test_labels.tolist() == published.labels(20).tolist()
    assert data.train_labels.dtype == np.int64


def test_fewer_than_all_are_chosen(tmp_path):
    published.write_idx(tmp_path / "mine")
    data = load_image_data(source(train_size=12, validation_size=6, test_size=5), data_root=tmp_path)
    assert [len(data.part(part)[1]) for part in ("train", "validation", "test")] == [12, 6, 5]


def images(folder: Path) -> Path:
    return folder / "train-images-idx3-ubyte"


@pytest.mark.parametrize(
    ("changes", "damage", "message"),
    [
        (
            {},
            lambda folder: images(folder).unlink(),
            r"mine: is not a folder of IDX files; expected train-images-idx3-",
        ),
        (
            {},
            lambda folder: images(folder).write_bytes(images(folder).read_bytes()[:-1]),
            r"23519 values; expected 30 x 28",
        ),
        ({}, lambda folder: images(folder).write_bytes(b"\x89PNG"), "is not an IDX file of bytes"),
        ({}, lambda folder: images(folder).write_bytes(b"\0\0\x08"), "is not an IDX file of bytes"),
        (
            {},
            lambda folder: images(folder).write_bytes(published.idx(published.pixels(30, 784))),
            "2 dimensions; expected 3",
        ),
        (
            {},
            lambda folder: images(folder).write_bytes(published.idx(published.pixels(29, 28, 28))),
            "train-labels-idx1-ubyte: holds 30 labels; expected 29, one an image",
        ),
        ({"size": [8, 8]}, lambda folder: None, r"holds images of \[28, 28\] pixels; expected size = \[8, 8\]"),
        ({"train_size": 31}, lambda folder: None, "mine: holds 30 training images; expected 31 or more"),
        ({"n_classes": 9}, lambda folder: None, "has labels from 0 to 9; expected 0 to 8 for n_classes = 9"),
    ],
)
def test_what_is_not_as_described_is_refused(changes, damage, message, tmp_path):
    published.write_idx(tmp_path / "mine")
    damage(tmp_path / "mine")
    with pytest.raises(ZooError, match=message) as caught:
        load_image_data(source(**changes), data_root=tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_gzipped_file_that_breaks_off_is_refused(tmp_path):
    published.write_idx(tmp_path / "mine", gz=".gz")
    path = tmp_path / "mine" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ZooError, match="is damaged or incomplete; expected a gzipped IDX file"):
        load_image_data(source(), data_root=tmp_path)


def test_the_real_ten_thousand_digits(data_root):
    data = load_image_data(source("mnist-10k", train_size=8000, test_size=2000), data_root=data_root)
    assert data.train_images.shape == (8000, 1, 28, 28)
    with gzip.open(data_root / "mnist-10k" / "train-images-idx3-ubyte.gz") as file:
        raw = file.read()
    assert struct.unpack(">4I", raw[:16]) == (2051, 8000, 28, 28)
    assert data.train_images.tobytes() == raw[16:]
    assert set(data.test_labels.tolist()) == set(range(10))
