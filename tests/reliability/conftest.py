"""The undisturbed zoos that others are compared with."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import files_of
from tests.reliability import bench


def with_manifest(folder: Path, place: Path) -> bench.Zoo:
    """Return a zoo that test processes share, and a copy of its manifest, beside which runs write what they print."""
    manifest = Path(shutil.copy(folder / "tiny.toml", place))
    return bench.Zoo(manifest, folder / "tiny", files_of(folder / "tiny"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, tiny_zoo):
    return with_manifest(tiny_zoo.parent, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def many_shards(tmp_path_factory, made_once):
    folder = made_once("many", lambda folder: bench.make(folder, bench.MANY_SHARDS))
    return with_manifest(folder, tmp_path_factory.mktemp("many"))


@pytest.fixture(scope="session")
def one_shard(tmp_path_factory, made_once):
    folder = made_once("one", lambda folder: bench.make(folder, bench.ONE_SHARD))
    return with_manifest(folder, tmp_path_factory.mktemp("one"))
