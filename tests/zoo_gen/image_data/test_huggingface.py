"""The Hub's client reads its environment when it is imported, so everything here runs in processes of its own."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from tests.zoo_gen.image_data.hub_server import serve
from zoo_gen.image_data import HuggingFace

pytest.importorskip("datasets")

REVISION = "0123456789abcdef0123456789abcdef01234567"
PROGRAM = """
import sys
import numpy as np
from zoo_gen.errors import ZooError
from zoo_gen.image_data import HuggingFace, load_image_data

try:
    data = load_image_data(HuggingFace.model_validate_json(sys.argv[1]))
except ZooError as error:
    sys.exit(str(error))
np.savez(sys.argv[2], **{name: getattr(data, name) for name in vars(data)})
"""


def png(pixels: np.ndarray) -> dict[str, object]:
    """Return what an image column holds for one image."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def table(images: list[np.ndarray], labels: list[int]) -> bytes:
    """Return a Parquet file as the Hub has them."""
    features = {"picture": {"_type": "Image"}, "kind": {"_type": "Value", "dtype": "int64"}}
    schema = pa.schema(
        [("picture", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("kind", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    file = io.BytesIO()
    parquet.write_table(pa.table({"picture": [png(i) for i in images], "kind": labels}, schema=schema), file)
    return file.getvalue()


def pictures(count: int, shape: tuple[int, ...], seed: int) -> list[np.ndarray]:
    return list(np.random.RandomState(seed).randint(0, 256, size=(count, *shape), dtype=np.uint8))


def source(**given: object) -> HuggingFace:
    fields = {
        "source": "huggingface",
        "repository": "someone/shapes",
        "revision": REVISION,
        "image_column": "picture",
        "label_column": "kind",
        "channels": 3,
        "size": (6, 5),
        "n_classes": 3,
        "train_size": 7,
        "test_size": 4,
    }
    return HuggingFace.model_validate(fields | given)


def load(source: HuggingFace, folder: Path, endpoint: str) -> dict[str, np.ndarray] | str:
    """Load in a process of its own and return the arrays, or the error."""
    environment = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "ZOO_DATA_ROOT": str(folder / "data"),
    }
    environment.pop("HF_HUB_OFFLINE", None)
    if not endpoint:
        environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    arguments = [sys.executable, "-c", PROGRAM, source.model_dump_json(), str(folder / "found.npz")]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    return dict(np.load(folder / "found.npz"))


@pytest.fixture
def repository():
    train, test = pictures(7, (6, 5, 3), 0), pictures(4, (6, 5, 3), 1)
    files = {
        "README.md": b"---\nlicense: mit\n---\n",
        "data/train-00000-of-00001.parquet": table(train, [0, 1, 2, 0, 1, 2, 0]),
        "data/test-00000-of-00001.parquet": table(test, [2, 1, 0, 2]),
    }
    return files, np.stack(train), np.stack(test)


def test_a_repository_is_read_from_the_hub_and_then_without_it(repository, tmp_path):
    files, train, test = repository
    with serve("someone/shapes", REVISION, files) as endpoint:
        found = load(source(), tmp_path, endpoint)
    assert isinstance(found, dict), found
    np.testing.assert_array_equal(found["train_images"], train.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(found["test_images"], test.transpose(0, 3, 1, 2))
    assert found["train_labels"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert found["test_labels"].tolist() == [2, 1, 0, 2]
    assert not list((tmp_path / "data").glob(".download-*"))
    again = load(source(grey=True, center_crop=4), tmp_path, "")
    assert isinstance(again, dict), again
    grey = np.rint(train.astype(np.float64).mean(axis=3)).astype(np.uint8)
    np.testing.assert_array_equal(again["train_images"][:, 0], grey[:, 1:5, 0:4])


def test_another_revision_is_never_taken_for_the_one_asked_for(repository, tmp_path):
    files, *_ = repository
    other = "f" * 40
    with serve("someone/shapes", REVISION, files) as endpoint:
        assert isinstance(load(source(), tmp_path, endpoint), dict)
        assert "cannot be loaded" in load(source(revision=other), tmp_path, endpoint)
    message = load(source(revision=other), tmp_path, "")
    assert message.startswith("someone/shapes@ffffffff: cannot be loaded (")
    assert message.endswith(
        "expected the data set on the Hub, or "
        f"{tmp_path}/data/huggingface/someone--shapes/{other}/default from a machine that has loaded it"
    )


def test_a_download_that_breaks_off_leaves_nothing(repository, tmp_path):
    files, *_ = repository
    with serve("someone/shapes", REVISION, files, break_off="test-00000-of-00001.parquet") as endpoint:
        assert "cannot be loaded" in load(source(), tmp_path, endpoint)
    kept = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert kept == []
    with serve("someone/shapes", REVISION, files) as endpoint:
        assert isinstance(load(source(), tmp_path, endpoint), dict)
