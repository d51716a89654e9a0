"""The real Fashion-MNIST as tensors, read without our code, and small published zoos that many tests read."""

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.zoo_gen.published import small_cnn
from zoo_gen.zoo import Zoo, plots


@pytest.fixture(scope="session", autouse=True)
def _a_picture_is_drawn_once() -> Iterator[None]:
    """Pushes draw the same few zoos again and again; zoo/test_plots.py says that a picture has the same bytes."""
    draw, pictures = plots.write_histogram, {}

    def write_histogram(zoo: Zoo, path: Path) -> None:
        outcome = zoo.outcome()
        shown = zoo.name, len(zoo.models), outcome.metric, outcome.values.tobytes()
        if shown not in pictures:
            draw(zoo, path)
            pictures[shown] = path.read_bytes()
        path.write_bytes(pictures[shown])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "write_histogram", write_histogram)
        yield


def _idx(path):
    with gzip.open(path) as file:
        content = file.read()
    dimensions = content[3]
    shape = [int.from_bytes(content[4 + 4 * d : 8 + 4 * d], "big") for d in range(dimensions)]
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


@pytest.fixture(scope="session")
def _pixels():
    root = os.environ.get("ZOO_DATA_ROOT")
    if not root or not (Path(root) / "fashion-mnist").is_dir():
        pytest.skip("needs Fashion-MNIST below ZOO_DATA_ROOT")
    archives = {}
    for part, prefix, count in (("train", "train", 3000), ("test", "t10k", 2000)):
        folder = Path(root) / "fashion-mnist"
        images, labels = (_idx(folder / f"{prefix}-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1"))
        archives[part] = images[:count], labels[:count]
    return archives


@pytest.fixture(scope="session")
def images_root(_pixels, tmp_path_factory):
    """A data root with the first 2,000 test images, so that evaluations are fast."""
    folder = tmp_path_factory.mktemp("images") / "fashion-mnist"
    folder.mkdir()
    for kind, code, array in (("images-idx3", 3, _pixels["test"][0]), ("labels-idx1", 1, _pixels["test"][1])):
        header = bytes([0, 0, 8, code]) + b"".join(length.to_bytes(4, "big") for length in array.shape)
        (folder / f"t10k-{kind}-ubyte").write_bytes(header + array.tobytes())
    return folder.parent


@pytest.fixture(scope="session")
def fashion(_pixels):
    """Pixels in [0, 1] (image, 1, 28, 28) and labels: 3,000 training and 2,000 test images."""
    return {
        part: (torch.tensor(pixels).float().unsqueeze(1) / 255, torch.tensor(labels.astype(np.int64)))
        for part, (pixels, labels) in _pixels.items()
    }


@pytest.fixture(scope="session")
def small_cnn_zoo():
    """Six short runs on noise, nine steps each."""
    return small_cnn.train()


@pytest.fixture
def no_exploits(tmp_path, monkeypatch):
    """A place where an exploit that runs would leave a file."""
    marker = tmp_path / "marker"
    monkeypatch.setenv("ZOO_EXPLOIT_MARKER", str(marker))
    yield marker
    assert not marker.exists(), "an exploit was executed"
