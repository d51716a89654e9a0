"""A converted zoo is written through the same store as a trained one."""

import os

import pytest
import zarr
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.registry import register_pipeline

import zoo_gen
from tests.conftest import files_of
from tests.zoo_gen.published import ray
from tests.zoo_gen.published.formats.test_folder import network, written
from tests.zoo_gen.published.ray import convert
from zoo_gen import ZooError, open_zoo
from zoo_gen.files.location import locate
from zoo_gen.store import Store
from zoo_gen.zoo.verify import verify


@pytest.fixture
def archive(tmp_path):
    """Networks of two architectures."""
    written(tmp_path / "mine", "plain", "pt", runs=4, split=["train", "val", "test"])
    for epoch in (1, 5):
        path = tmp_path / "mine" / "weights" / f"run1_epoch{epoch}.pt"
        path.write_bytes(ray.saved(network("deep").state_dict()))
    return tmp_path / "mine"


def test_a_converted_zoo_is_verified_at_a_url(archive, tmp_path):
    memory = pytest.importorskip("fsspec").filesystem("memory")
    zoo = convert(archive, tmp_path / "zoo", format="folder")
    for name, content in files_of(zoo).items():
        memory.pipe_file(f"/converted/{name}", content)
    assert verify(locate("memory://converted")).findings == ()
    part = bytearray(memory.cat_file("/converted/models/part-00001.parquet"))
    part[len(part) // 2] ^= 4
    memory.pipe_file("/converted/models/part-00001.parquet", bytes(part))
    assert [line.split(":")[0] for line in verify(locate("memory://converted")).findings] == ["shard 1"]


@pytest.fixture
def memory():
    fs = pytest.importorskip("fsspec").filesystem("memory")
    fs.store.clear()
    return fs


def test_a_store_that_fails_once_costs_no_complete_shard(archive, memory, tmp_path, monkeypatch):
    """What is wrong with an archive removes the zoo that was begun; what is wrong with a store does not."""
    expected = files_of(convert(archive, tmp_path / "zoo", format="folder"))
    write, failures = type(memory).pipe_file, [TimeoutError("no answer")]

    def pipe_file(self, path, *arguments, **options):
        if "part-00003" in path and failures:
            raise failures.pop()
        return write(self, path, *arguments, **options)

    monkeypatch.setattr(type(memory), "pipe_file", pipe_file)
    with pytest.raises(ZooError, match=r"^memory://converted.*TimeoutError: no answer"):
        zoo_gen.convert(archive, "memory://converted", format="folder")
    begun = Store.open(locate("memory://converted")).complete_shards()
    assert begun
    counts = []
    zoo_gen.convert(archive, "memory://converted", format="folder", progress=lambda *count: counts.append(count[0]))
    assert counts[0] == len(begun)  # models, of which each shard has one
    assert {name.removeprefix("/converted/"): memory.cat_file(name) for name in memory.find("/converted")} == expected


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o700), (0o022, 0o755), (0o007, 0o770)])
def test_a_converted_zoo_has_the_permissions_that_the_umask_leaves(archive, tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        zoo = convert(archive, tmp_path / "zoo", format="folder")
    finally:
        os.umask(before)
    folders = [zoo, *(path for path in zoo.rglob("*") if path.is_dir())]
    assert {path.stat().st_mode & 0o777 for path in folders} == {mode}


class Refusing(BatchedCodecPipeline):
    """A pipeline that may not write, as zarrs' may give other bytes."""

    async def write(self, *arguments, **options):
        raise AssertionError("written through the configured pipeline")


def test_weights_are_written_by_zarrs_own_pipeline_whatever_is_configured(archive, tmp_path):
    expected = convert(archive, tmp_path / "zoo", format="folder")
    register_pipeline(Refusing)
    refusing = f"{Refusing.__module__}.{Refusing.__qualname__}"
    with zarr.config.set({"codec_pipeline.path": refusing}):
        convert(archive, tmp_path / "other", format="folder")
        assert zarr.config.get("codec_pipeline.path") == refusing  # as it was, whichever thread wrote last
    assert files_of(tmp_path / "other") == files_of(expected)
    assert open_zoo(expected).manifest.ragged
