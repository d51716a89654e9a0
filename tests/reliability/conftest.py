"""The undisturbed zoos that others are compared with."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import files_of
from tests.reliability import bench


def own(folder: Path, place: Path) -> bench.Zoo:
    """Return a zoo that test processes share, with a manifest of one's own, beside which runs write what they say."""
    manifest = Path(shutil.copy(folder / "tiny.toml", place))
    return bench.Zoo(manifest, folder / "tiny", files_of(folder / "tiny"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, tiny_zoo):
    return own(tiny_zoo.parent, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def many_shards(tmp_path_factory, made_once):
    folder = made_once("many", lambda folder: bench.make(folder, bench.MANY_SHARDS))
    return own(folder, tmp_path_factory.mktemp("many"))


@pytest.fixture(scope="session")
def one_shard(tmp_path_factory, made_once):
    folder = made_once("one", lambda folder: bench.make(folder, bench.ONE_SHARD))
    return own(folder, tmp_path_factory.mktemp("one"))
