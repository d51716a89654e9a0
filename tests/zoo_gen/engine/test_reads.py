"""What a run reads: each thing once, however many shards there are."""

import os
import tomllib
from collections import Counter

import pyarrow.parquet as pq
import pytest

from tests.conftest import files_of
from zoo_gen import engine
from zoo_gen.files.location import locate
from zoo_gen.manifest import read_manifest


@pytest.fixture
def counts(monkeypatch):
    """Counts of what this process asks of files: manifests parsed, folders listed (by path), Parquet files opened."""
    reads = Counter()

    def count(owner, name, key):
        original = getattr(owner, name)

        def counted(*arguments, **options):
            reads[key(*arguments)] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, counted)

    count(tomllib, "loads", lambda *_: "manifest")
    count(os, "listdir", str)
    count(os, "scandir", str)
    count(pq, "ParquetFile", lambda *_: "part")
    count(pq, "read_table", lambda *_: "part")
    return reads


def test_a_run_of_four_shards_reads_each_thing_once_for_each_that_needs_it(tmp_path, tiny_zoo, tiny_manifest, counts):
    engine.run(tiny_manifest, tmp_path / "tiny", workers=1)
    assert counts["manifest"] <= 2 + 1  # the driver's two, and one of the worker, which is this process too
    assert counts[str(tmp_path / "tiny" / "models")] <= 4
    assert counts["part"] <= 2 * 4
    assert files_of(tmp_path / "tiny") == files_of(tiny_zoo)


def test_a_manifest_made_in_python_is_parsed_by_the_worker_alone(tmp_path, tiny_zoo, tiny_manifest, counts):
    manifest = read_manifest(tiny_manifest)
    counts.clear()
    engine.run(manifest, tmp_path / "tiny", workers=1)
    assert files_of(tmp_path / "tiny") == files_of(tiny_zoo)
    assert counts["manifest"] == 1


def test_a_complete_zoo_is_not_read_by_a_run(tmp_path, tiny_manifest, counts):
    engine.run(tiny_manifest, tmp_path / "tiny", workers=1)
    counts.clear()
    engine.run(tiny_manifest, tmp_path / "tiny", workers=1)
    assert counts["manifest"] == 2
    assert counts["part"] == 0


def test_at_a_url_nothing_is_read_a_shard_but_what_only_it_has(tiny_zoo, tiny_manifest, monkeypatch):
    memory = pytest.importorskip("fsspec").filesystem("memory")
    memory.store.clear()
    asked = Counter()

    def count(name):
        original = getattr(type(memory), name)

        def counted(self, path, *arguments, **options):
            asked[name, str(path).removeprefix("/zoos/tiny/")] += 1
            return original(self, path, *arguments, **options)

        monkeypatch.setattr(type(memory), name, counted)

    for name in ("ls", "find", "cat_file", "pipe_file"):
        count(name)
    engine.run(tiny_manifest, locate("memory://zoos/tiny"), workers=1)
    monkeypatch.undo()
    files = {name.removeprefix("/zoos/tiny/"): memory.cat_file(name) for name in memory.find("/zoos/tiny")}
    assert files == files_of(tiny_zoo)
    assert asked["ls", "models"] <= 4
    assert asked["cat_file", "manifest.toml"] <= 3
    assert {n for (_, path), n in asked.items() if path.startswith("models/part-")} <= {1, 2}
