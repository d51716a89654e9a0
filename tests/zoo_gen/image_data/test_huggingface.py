"""The Hub's client reads its environment when it is imported, so what meets a Hub runs in a process of its own."""

import io
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from tests import waiting
from tests.hub_server import Fault, serve
from zoo_gen.errors import ZooError
from zoo_gen.image_data import HuggingFace, load_image_data

pytestmark = pytest.mark.skipif(find_spec("datasets") is None, reason="needs datasets")

REPOSITORY = "someone/shapes"
REVISION = "0123456789abcdef0123456789abcdef01234567"
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from zoo_gen.errors import ZooError
from zoo_gen.image_data import HuggingFace, load_image_data

for path, source in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        data = load_image_data(HuggingFace.model_validate_json(source))
    except ZooError as error:
        Path(path).with_suffix(".txt").write_text(str(error))
    else:
        np.savez(path, **{name: getattr(data, name) for name in vars(data)})
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


def source(**changes: object) -> HuggingFace:
    fields = {
        "source": "huggingface",
        "repository": REPOSITORY,
        "revision": REVISION,
        "image_column": "picture",
        "label_column": "kind",
        "channels": 3,
        "size": (6, 5),
        "n_classes": 3,
        "train_size": 7,
        "test_size": 4,
    }
    return HuggingFace.model_validate(fields | changes)


def load(folder: Path, endpoint: str, *sources: HuggingFace) -> list[dict[str, np.ndarray] | str]:
    """Load one after the other in one process of their own and return the arrays, or the error, of each."""
    environment = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "ZOO_DATA_ROOT": str(folder / "data"),
    }
    environment.pop("HF_HUB_OFFLINE", None)
    if not endpoint:
        environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    paths = [folder / f"loaded{number}.npz" for number in range(len(sources))]
    arguments = [
        text for path, each in zip(paths, sources, strict=True) for text in (str(path), each.model_dump_json())
    ]
    command = [sys.executable, "-c", PROGRAM, *arguments]
    subprocess.run(command, env=environment, capture_output=True, text=True, timeout=waiting.LIMIT, check=True)
    return [result(path) for path in paths]


def result(path: Path) -> dict[str, np.ndarray] | str:
    """Read what a load has left, and remove it."""
    if (error := path.with_suffix(".txt")).exists():
        text = error.read_text()
        error.unlink()
        return text
    with np.load(path) as arrays:
        loaded = dict(arrays)
    path.unlink()
    return loaded


@pytest.fixture
def repository():
    train, test = pictures(7, (6, 5, 3), 0), pictures(4, (6, 5, 3), 1)
    files = {
        "README.md": b"---\nlicense: mit\n---\n",
        "data/train-00000-of-00001.parquet": table(train, [0, 1, 2, 0, 1, 2, 0]),
        "data/test-00000-of-00001.parquet": table(test, [2, 1, 0, 2]),
    }
    return files, np.stack(train), np.stack(test)


def test_a_repository_is_read_from_the_hub_and_then_without_it_and_never_in_another_revision(repository, tmp_path):
    files, train, test = repository
    other = "f" * 40
    with serve() as hub:
        hub.add(REPOSITORY, files, commit=REVISION)
        loaded, refused = load(tmp_path, hub.endpoint, source(), source(revision=other))
    assert isinstance(loaded, dict), loaded
    np.testing.assert_array_equal(loaded["train_images"], train.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(loaded["test_images"], test.transpose(0, 3, 1, 2))
    assert loaded["train_labels"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert loaded["test_labels"].tolist() == [2, 1, 0, 2]
    assert "cannot be loaded" in refused
    assert not list((tmp_path / "data").glob(".download-*"))
    again, message = load(tmp_path, "", source(grey=True, center_crop=4), source(revision=other))
    assert isinstance(again, dict), again
    grey = np.rint(train.astype(np.float64).mean(axis=3)).astype(np.uint8)
    np.testing.assert_array_equal(again["train_images"][:, 0], grey[:, 1:5, 0:4])
    assert message.startswith("someone/shapes@ffffffff: cannot be loaded (")
    assert message.endswith(
        "expected the data set on the Hub, or "
        f"{tmp_path}/data/huggingface/someone--shapes/{other}/default from a machine that has loaded it"
    )


def test_a_download_that_breaks_off_leaves_nothing(repository, tmp_path):
    files, *_ = repository
    with serve() as hub:
        hub.add(REPOSITORY, files, commit=REVISION)
        hub.faults.append(Fault("test-00000-of-00001.parquet", times=1000))
        (refused,) = load(tmp_path, hub.endpoint, source())
        assert "cannot be loaded" in refused
        assert [path for path in (tmp_path / "data").rglob("*") if path.is_file()] == []
        hub.faults.clear()
        (loaded,) = load(tmp_path, hub.endpoint, source())
        assert isinstance(loaded, dict)


@pytest.fixture
def keep(tmp_path):
    """Return a function that leaves a data set where an earlier download would have left it, and the data root."""
    datasets = pytest.importorskip("datasets")

    def write(images: list[Image.Image], labels: list[object]) -> Path:
        features = {"picture": datasets.Image(), "kind": datasets.Value("string" if "a" in labels else "int64")}
        split = datasets.Dataset.from_dict({"picture": images, "kind": labels}, features=datasets.Features(features))
        downloaded = tmp_path / "huggingface" / "someone--shapes" / REVISION / "default"
        datasets.DatasetDict({"train": split, "test": split}).save_to_disk(str(downloaded))
        return tmp_path

    return write


def picture(mode: str, width: int = 5, height: int = 6, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.RandomState(seed).randint(0, 256, (height, width, 3), dtype=np.uint8)).convert(
        mode
    )


def test_images_that_differ_in_size_and_mode_are_made_equal(keep):
    images = [picture("RGB", 40, 30), picture("L", 25, 60, 1), picture("RGBA", 33, 33, 2), picture("P", 20, 21, 3)]
    root = keep(images, [0, 1, 2, 0])
    equal = load_image_data(
        source(size=None, resize=16, center_crop=12, train_size=4, test_size=2), data_root=root
    ).train_images
    assert equal.shape == (4, 3, 12, 12)
    for pixels, image in zip(equal, images, strict=True):
        short = min(image.size)
        width, height = (16 * side // short for side in image.size)
        resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
        left, top = round((width - 12) / 2), round((height - 12) / 2)
        expected = np.asarray(resized.crop((left, top, left + 12, top + 12)))
        np.testing.assert_array_equal(pixels, expected.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("images", "labels", "changes", "message"),
    [
        (["RGB", "RGB"], [0, 1], {"channels": 1}, "train: image 0 is of mode RGB; expected grey, or channels = 3"),
        (["RGB", "RGB"], [0, 1], {"size": [5, 6]}, r"train: image 0 is \[6, 5\]; expected size = \[5, 6\]"),
        (["RGB", "RGB"], ["a", "b"], {}, r"train: kind\[0\] is 'a'; expected a whole number"),
        (["RGB", None], [0, 1], {}, r"train: picture\[1\] is no image but a NoneType"),
        (["RGB", "RGB"], [0, 3], {}, "has labels from 0 to 3; expected 0 to 2 for n_classes = 3"),
        (["RGB", "RGB"], [0, 1], {"train_size": 3}, "holds 2 training images; expected 3 or more"),
        (["RGB", "RGB"], [0, 1], {"test_split": "valid"}, "unknown split 'valid'; valid: test, train"),
        (["RGB", "RGB"], [0, 1], {"label_column": "kid"}, "unknown column 'kid'; did you mean 'kind'"),
    ],
)
def test_what_is_not_as_described_is_refused(keep, images, labels, changes, message):
    root = keep([None if mode is None else picture(mode) for mode in images], labels)
    with pytest.raises(ZooError, match=f"^someone/shapes@01234567.*{message}"):
        load_image_data(source(**({"train_size": 2, "test_size": 2} | changes)), data_root=root)


def test_a_folder_of_the_same_name_is_not_taken_for_the_repository(tmp_path, monkeypatch):
    (tmp_path / "someone" / "shapes").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZooError, match="a folder of that name is here and would be read; run elsewhere"):
        load_image_data(source(), data_root=tmp_path / "root")


@pytest.mark.parametrize("revision", ["main", "0123456", REVISION.upper()])
def test_a_revision_is_a_whole_commit(revision):
    with pytest.raises(ValueError, match="revision"):
        source(revision=revision)
