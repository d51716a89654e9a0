import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from tests.zoo_gen.image_data import published
from zoo_gen.image_data import DataSource, Idx, Synthetic, load_image_data
from zoo_gen.image_data.load import default_data_root

HUB = {"source": "huggingface", "repository": "a/b", "revision": "0" * 40, "channels": 3, "size": [20, 30]}


@pytest.mark.parametrize(
    ("source", "shape", "classes", "sizes"),
    [
        ({"source": "tetris"}, (1, 4, 4), 4, (2000, 0, 500)),
        ({"source": "digits"}, (1, 8, 8), 10, (1437, 0, 360)),
        ({"source": "synthetic", "image_shape": [3, 9, 7], "n_classes": 5}, (3, 9, 7), 5, (10_000, 0, 2_000)),
        ({"source": "torchvision", "dataset": "USPS", "resize": 28}, (1, 28, 28), 10, (7_291, 0, 2_007)),
        (
            {"source": "torchvision", "dataset": "SVHN", "grey": True, "center_crop": 28},
            (1, 28, 28),
            10,
            (73_257, 0, 26_032),
        ),
        ({"source": "torchvision", "dataset": "CIFAR100"}, (3, 32, 32), 100, (50_000, 0, 10_000)),
        ({"source": "torchvision", "dataset": "STL10", "resize": 28}, (3, 28, 28), 10, (5_000, 0, 8_000)),
        ({"source": "torchvision", "dataset": "EMNIST", "split": "balanced"}, (1, 28, 28), 47, (112_800, 0, 18_800)),
        (
            {"source": "idx", "folder": "f", "train_size": 70, "validation_size": 9, "test_size": 20},
            (1, 28, 28),
            10,
            (70, 9, 20),
        ),
        (HUB | {"n_classes": 4, "train_size": 5, "test_size": 6, "resize": 10}, (3, 10, 15), 4, (5, 0, 6)),
    ],
)
def test_every_source_says_what_it_is_without_being_loaded(source, shape, classes, sizes):
    actual = TypeAdapter(DataSource).validate_python(source)
    assert (actual.input_shape, actual.n_classes) == (shape, classes)
    assert (actual.n_train, actual.n_validation, actual.n_test) == sizes


def test_describing_a_source_imports_no_heavy_library():
    program = """
import sys
from zoo_gen.manifest import ZooManifest
from zoo_gen.image_data import HuggingFace, Torchvision
Torchvision(source="torchvision", dataset="CIFAR10", resize=28).input_shape
print(*(name for name in ("torch", "torchvision", "datasets", "PIL", "scipy", "sklearn") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_data_root_is_the_argument_or_the_environments_or_the_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("ZOO_DATA_ROOT", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_data_root() == Path("~/.cache/zoo_gen/data").expanduser()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    published.write_idx(tmp_path / "cache" / "zoo_gen" / "data" / "mine", sizes=(11, 10))
    published.write_idx(tmp_path / "environment" / "mine", sizes=(12, 10))
    published.write_idx(tmp_path / "argument" / "mine", sizes=(13, 10))
    source = Idx(source="idx", folder="mine", train_size=10, test_size=10)

    def size(data_root: Path | None = None) -> int:
        data = load_image_data(source, data_root=data_root)
        whole = [
            n
            for n in (11, 12, 13)
            if data.train_images[0, 0].tobytes() in published.pixels(n, 28, 28, seed=n).tobytes()
        ]
        return whole[0]

    assert size() == 11
    monkeypatch.setenv("ZOO_DATA_ROOT", str(tmp_path / "environment"))
    assert size() == 12
    assert size(tmp_path / "argument") == 13


def test_the_same_data_is_loaded_once_and_little_is_kept():
    sources = [Synthetic(source="synthetic", train_size=10 + n, test_size=5) for n in range(3)]
    first = load_image_data(sources[0])
    assert load_image_data(Synthetic(source="synthetic", train_size=10, test_size=5)) is first
    load_image_data(sources[1])
    load_image_data(sources[2])
    again = load_image_data(sources[0])
    assert again is not first
    np.testing.assert_array_equal(again.train_images, first.train_images)


def test_the_arrays_are_bytes_in_one_piece(tmp_path):
    published.write_idx(tmp_path / "mine")
    source = Idx(source="idx", folder="mine", train_size=20, validation_size=5, test_size=10, center_crop=20)
    data = load_image_data(source, data_root=tmp_path)
    for part in ("train", "validation", "test"):
        images, labels = data.part(part)
        assert images.dtype == np.uint8
        assert images.flags.c_contiguous
        assert labels.dtype == np.int64
    assert data.scale.dtype == data.offset.dtype == np.float64


@pytest.mark.parametrize(
    "content",
    [
        {"source": "tetris"},
        {"source": "synthetic", "validation_size": 9},
        {"source": "sine"},
        {"source": "image_fields", "images": {"source": "digits"}},
    ],
)
def test_a_source_says_before_it_is_loaded_what_its_data_turn_out_to_be(content):
    source = TypeAdapter(DataSource).validate_python(content)
    for data in (load_image_data(source), source.stand_in(n_images=5)):
        assert (data.input_shape, data.n_outputs) == (source.input_shape, source.n_outputs)
    data = load_image_data(source)
    assert data.n_train == source.n_train
    assert {name.partition("_")[0] for name, _ in source.metrics} == {*data.parts, "running"}
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(math.prod(source.input_shape), source.n_outputs))
    measured = data.measure(module, {"amplitude": 1.0, "frequency": 2.0, "image": 3})
    assert set(measured) <= {name for name, _ in source.metrics}
