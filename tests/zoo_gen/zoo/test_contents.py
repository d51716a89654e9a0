"""What others put into a zoo's folder: verify names it, push leaves it out, and the Hub's table has each model once."""

import shutil

import pyarrow.parquet as pq
import pytest
import yaml

from tests.conftest import files_of
from tests.zoo_gen.published import packed, ray
from zoo_gen import ZooError, convert, open_zoo
from zoo_gen.published.push import plan_push
from zoo_gen.zoo.contents import Contents
from zoo_gen.zoo.verify import verify

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
STRANGE = {
    "models/part-00000 (1).parquet": "copy",
    "models/part-00000 copy.parquet": "copy",
    "models/part-00000-LAPTOP.parquet": "copy",
    "models/part-0.parquet": "copy",
    "models/part-000000.parquet": "copy",
    "models/part-00004.parquet": "copy",
    "models/.part-00000.parquet.icloud": "",
    "models/old/part-00000.parquet": "copy",
    ".DS_Store": "",
    "weights.zarr/.DS_Store": "",
    "weights.zarr/weights/c/0/.DS_Store": "",
    "weights.zarr/weights copy/zarr.json": "",
    "weights.zarr/notes/zarr.json": "",
    "weights.zarr/weights/c/0/0/0 (1)": "",
    ".ipynb_checkpoints/README-checkpoint.md": "",
    "README.md~": "",
    "README (1).md": "",
    "manifest.toml.bak": "",
    "states.parquet": "copy",
    "architectures.json": "",
    "splits/mine.parquet": "copy",
    "analysis/plot.png": "",
    "analysis/deep/er/plot.png": "",
    "Thumbs.db": "",
}


@pytest.fixture
def zoo(tiny_zoo, tmp_path):
    return shutil.copytree(tiny_zoo, tmp_path / "zoo")


def test_a_zoo_has_nothing_strange(tiny_zoo, tmp_path):
    assert Contents(open_zoo(tiny_zoo).store).strange() == {}
    converted = convert(ray.folder(tmp_path / "in", packed.files("")), tmp_path / "out", format="folder")
    assert Contents(converted.store).strange() == {}
    assert all(Contents(converted.store).has(name) for name in files_of(converted.path))


def put_beside(zoo, name):
    """Write what is not of the zoo into its folder."""
    path = zoo / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((zoo / "models" / "part-00000.parquet").read_bytes() if STRANGE[name] else b"x")


def names(named, name):
    """Whether a line names a file, or the folder that holds it."""
    return name == named or (named.endswith("/") and name.startswith(named))


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_not_of_the_zoo_is_named(zoo, name):
    put_beside(zoo, name)
    ((named, _),) = Contents(open_zoo(zoo).store).strange().items()
    assert names(named, name)
    assert len(open_zoo(zoo).models) == 40


def test_what_is_not_of_the_zoo_is_noted_by_verify_and_not_pushed(zoo):
    before = dict(plan_push(zoo, "org/zoo").files)
    for name in STRANGE:
        put_beside(zoo, name)
    report = verify(zoo, sample=0)
    assert report.findings == ()
    lines = [line.partition(": is no file of the zoo")[0].partition(" (")[0] for line in report.notes]
    whole = [line.partition(": is no file of the zoo")[0] for line in report.notes]
    noted = [line if line in STRANGE else short for line, short in zip(whole, lines, strict=True)]
    for name in STRANGE:
        assert sum(names(named, name) for named in noted) == 1, name
    assert all(any(names(named, name) for name in STRANGE) for named in noted)
    assert dict(plan_push(zoo, "org/zoo").files) == before
    assert len(open_zoo(zoo).models) == 40


def test_folders_of_others_are_named_once(zoo):
    for name in ("analysis/a.png", "analysis/deep/b.png", "weights.zarr/copy/zarr.json", "weights.zarr/copy/c/0"):
        (zoo / name).parent.mkdir(parents=True, exist_ok=True)
        (zoo / name).write_bytes(b"x")
    (zoo / "empty").mkdir()
    assert Contents(open_zoo(zoo).store).strange() == {"analysis/": 2, "empty/": 0, "weights.zarr/copy/": 2}


def test_what_a_run_at_work_or_a_client_of_the_hub_keeps_is_not_strange(zoo):
    names = [".gitattributes", ".git/HEAD", ".cache/huggingface/x", "models/.part-00000.parquet.12.0a.tmp"]
    for name in (*names, "weights.zarr/weights/c/0/0/0.123.partial"):
        (zoo / name).parent.mkdir(parents=True, exist_ok=True)
        (zoo / name).write_bytes(b"x")
    assert Contents(open_zoo(zoo).store).strange() == {}


def test_the_pattern_on_the_card_is_exactly_the_parts(zoo, tmp_path):
    datasets = pytest.importorskip("datasets")
    for name in ("models/part-00000 (1).parquet", "models/part-00001 copy.parquet", "models/part-1.parquet"):
        shutil.copy(zoo / "models" / "part-00000.parquet", zoo / name)
    _, front, _ = (zoo / "README.md").read_text().split("---\n", 2)
    (config,) = yaml.safe_load(front)["configs"]
    parts = sorted(zoo.glob(config["data_files"]))
    assert [path.name for path in parts] == [f"part-0000{shard}.parquet" for shard in range(4)]
    table = datasets.load_dataset(str(zoo), "models", split="train", cache_dir=str(tmp_path / "cache"))
    assert table["model_id"][:] == list(range(40))
    assert sum(pq.read_metadata(part).num_rows for part in parts) == 40


@pytest.mark.parametrize(
    "name", ["models/part-00000.parquet", "models/part-00002.parquet", "weights.zarr/zarr.json", "manifest.toml"]
)
def test_a_zoo_that_was_cloned_without_git_lfs_is_named_so(zoo, name):
    (zoo / name).write_bytes(POINTER)
    assert verify(zoo, sample=0).findings == (
        f"{name}: is a Git LFS pointer; expected the file itself (git lfs install; git lfs pull)",
    )
    with pytest.raises(ZooError, match=rf"{name}: is a Git LFS pointer to a file of 12,345 bytes; .*git lfs pull"):
        _ = open_zoo(zoo).models


def test_a_chunk_that_is_a_pointer_of_git_lfs_is_named(zoo):
    chunk = next(path for path in sorted((zoo / "weights.zarr" / "weights" / "c").rglob("*")) if path.is_file())
    chunk.write_bytes(POINTER)
    with pytest.raises(ZooError, match=r"weights/c/0/0/0: is a Git LFS pointer"):
        open_zoo(zoo)
