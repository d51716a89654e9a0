"""The undisturbed zoos that others are compared with."""

import pytest

from tests.reliability import bench


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return bench.make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def many_shards(tmp_path_factory):
    return bench.make(tmp_path_factory.mktemp("many"), bench.MANY_SHARDS)


@pytest.fixture(scope="session")
def one_shard(tmp_path_factory):
    return bench.make(tmp_path_factory.mktemp("one"), bench.ONE_SHARD)
