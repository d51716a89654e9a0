"""Published zoos by their names, from servers on loopback, converted on the way."""

import os
import re
import shutil

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from tests.conftest import files_of
from tests.hub_server import Fault
from tests.zoo_gen.published import ray, small_cnn
from zoo_gen import open_zoo, push
from zoo_gen.cli.main import main
from zoo_gen.errors import ZooError
from zoo_gen.published import pull as pulling
from zoo_gen.published.sources import registry

PUBLICATION = """
name = "one"
title = "One"
paper = "Someone, Something, 2020"
arxiv = "2001.00001"
architecture = "an MLP"
citation = "Someone. Something. 2020."
defects = ["it is small"]

[licence]
name = "cc-by-4.0"
redistribution = true

"""
PART = """
[[parts]]
name = "{name}"
description = "six runs"
format = "small_cnn_zoo"
{way}
"""


@pytest.fixture(scope="session")
def archive(small_cnn_zoo, tmp_path_factory):
    """Return the archive of a Small CNN Zoo as published."""
    return small_cnn.tar(tmp_path_factory.mktemp("published") / "a.tar.xz", small_cnn.files(small_cnn_zoo))


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Return a function that puts a publication of these parts into the registry."""

    def publish(**ways):
        text = PUBLICATION + "".join(PART.format(name=name, way=way) for name, way in ways.items())
        (tmp_path / "one.toml").write_text(text)
        publication = registry.read_publication(tmp_path / "one.toml")
        monkeypatch.setattr(registry, "publications", lambda: {"one": publication})

    return publish


@pytest.fixture
def pull(tmp_path):
    def pull(name, **options):
        return pulling.pull(name, tmp_path / "zoo", cache=tmp_path / "cache", **options)

    return pull


def test_a_published_zoo_is_downloaded_and_converted(server, publish, pull, archive, small_cnn_zoo, tmp_path):
    shutil.copy(archive, server.folder / "a.tar.xz")
    publish(mnist=f'files = [{{ name = "a.tar.xz", urls = ["{server.url}a.tar.xz"] }}]')
    server.faults.append(Fault("a.tar.xz"))
    zoo = pull("one")
    assert server.sent("a.tar.xz") == archive.stat().st_size
    assert zoo.name == "one_published"
    assert zoo.weights.shape == (6, 9, 4970)
    provenance = zoo.manifest.origin.provenance
    assert provenance["paper"] == "Someone, Something, 2020, arXiv:2001.00001"
    assert provenance["licence"] == "cc-by-4.0"
    assert provenance["url"] == f"{server.url}a.tar.xz"
    assert re.fullmatch("[0-9a-f]{64}", provenance["sha256"])
    server.log.clear()
    pulling.pull("one", tmp_path / "again", cache=tmp_path / "cache")
    assert not server.log  # the cache is shared between folders


def test_some_epochs_of_some_models_are_converted(server, publish, pull, archive):
    shutil.copy(archive, server.folder / "a.tar.xz")
    publish(mnist=f'files = [{{ name = "a.tar.xz", urls = ["{server.url}a.tar.xz"] }}]')
    zoo = pull("one", epochs=[0, 86], models=[1, 3])
    assert zoo.weights.shape == (2, 2, 4970)
    assert zoo.epochs.tolist() == [0, 86]
    whole = pulling.pull("one", zoo.path.parent / "whole", cache=zoo.path.parent / "cache")
    np.testing.assert_array_equal(zoo.weights[:], np.asarray(whole.weights[:])[[1, 3]][:, [0, 8]])


def record(server, number, archive, *names):
    folder = server.folder / "records" / str(number)
    folder.mkdir(parents=True)
    for name in names:
        shutil.copy(archive, folder / name)


def test_a_record_of_zenodo_is_listed_and_its_file_fetched(server, publish, pull, archive, monkeypatch):
    monkeypatch.setenv("ZENODO_ENDPOINT", server.url)
    record(server, 77, archive, "a.tar.xz", "b.zip")
    publish(a='zenodo = { record = 77, files = ["a.*"] }')
    zoo = pull("one")
    assert len(zoo.models) == 6
    assert zoo.manifest.origin.provenance["url"] == "https://zenodo.org/records/77"
    assert server.sent("b.zip") == 0


def test_what_is_in_the_cache_needs_no_network(server, publish, pull, archive, tmp_path, monkeypatch):
    monkeypatch.setenv("ZENODO_ENDPOINT", server.url)
    record(server, 77, archive, "a.tar.xz")
    publish(a="zenodo = { record = 77 }")
    first = pull("one")
    monkeypatch.setenv("ZENODO_ENDPOINT", "http://127.0.0.1:9")
    again = pulling.pull("one", tmp_path / "again", cache=tmp_path / "cache")
    assert again.models.equals(first.models)


def test_of_several_archives_one_is_chosen(server, publish, pull, archive, monkeypatch):
    monkeypatch.setenv("ZENODO_ENDPOINT", server.url)
    record(server, 77, archive, "a.tar.xz", "b.tar.xz")
    publish(a="zenodo = { record = 77 }")
    with pytest.raises(ZooError, match=r"^one: has several archives; expected file with one of a.tar.xz, b.tar.xz$"):
        pull("one")
    with pytest.raises(ZooError, match=r"/api/records/77 has no c\*.*; it has a.tar.xz, b.tar.xz$"):
        pull("one", file="c*")
    assert len(pull("one", file="b*").models) == 6


def test_a_record_that_is_not_there_is_named(server, publish, pull, monkeypatch):
    monkeypatch.setenv("ZENODO_ENDPOINT", server.url)
    publish(a="zenodo = { record = 78 }")
    with pytest.raises(ZooError, match=r"^pull one: \S+/api/records/78 does not answer as expected \(HTTPError: .*404"):
        pull("one")


def test_an_archive_on_the_hub_is_fetched_once(hub, publish, pull, archive, tmp_path):
    hub.add(
        "org/archives", {"zoos/a.tar.xz": archive.read_bytes(), "zoos/b.tar.xz": b"", "README.md": b""}, kind="model"
    )
    publish(a='hub = { repository = "org/archives", kind = "model", files = ["zoos/*.tar.xz"] }')
    with pytest.raises(ZooError, match=r"^one: has several archives; expected file with one of zoos/a.tar.xz, zoos/b"):
        pull("one")
    zoo = pull("one", file="a.tar.xz")
    commit = hub.repositories["model", "org/archives"].commits[-1][0]
    assert zoo.manifest.origin.provenance["revision"] == commit
    sent = hub.sent("/lfs/")
    pulling.pull("one", tmp_path / "again", cache=tmp_path / "cache", file="a.tar.xz")
    assert hub.sent("/lfs/") == sent


def test_what_is_fetched_by_hand_is_asked_for_and_then_taken(publish, pull, archive, tmp_path):
    publish(a='by_hand = { page = "https://example.org", what = "a.tar.xz", put = "mine" }')
    with pytest.raises(ZooError) as caught:
        pull("one")
    place = tmp_path / "cache" / "one" / "mine"
    assert str(caught.value) == f"one: is fetched by hand: a.tar.xz, from https://example.org; expected at {place}"
    place.parent.mkdir(parents=True)
    shutil.copy(archive, place.with_suffix(".tar.xz"))
    assert len(pull("one").models) == 6


def test_what_has_no_converter_can_be_downloaded(server, publish, archive, tmp_path):
    shutil.copy(archive, server.folder / "a.zip")
    publish(a=f'files = [{{ name = "a.zip", urls = ["{server.url}a.zip"] }}]')
    text = (tmp_path / "one.toml").read_text().replace('format = "small_cnn_zoo"\n', "")
    (tmp_path / "one.toml").write_text(text)
    registry.publications()["one"].__dict__.update(registry.read_publication(tmp_path / "one.toml").__dict__)
    arguments = ["pull", "one", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "zoo")]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stderr) == (
        2,
        "error: one: has no converter; --download-only brings what 127.0.0.1:"
        f"{server.url.split(':')[2].strip('/')} has of it\n",
    )
    result = CliRunner().invoke(main, [*arguments, "--download-only"])
    path = tmp_path / "cache" / "one" / "files" / "a.zip"
    assert (result.exit_code, result.stdout) == (0, f"{path}\n")
    assert path.read_bytes() == archive.read_bytes()


def test_a_dry_run_downloads_nothing(server, publish, archive, tmp_path, monkeypatch):
    monkeypatch.setenv("ZENODO_ENDPOINT", server.url)
    record(server, 77, archive, "a.tar.xz")
    publish(a="zenodo = { record = 77 }")
    result = CliRunner().invoke(main, ["pull", "one", "--cache", str(tmp_path / "cache"), "--dry-run"])
    assert result.exit_code == 0
    assert f"a.tar.xz     {archive.stat().st_size:,} bytes from {server.url}records/77/a.tar.xz" in result.output
    assert "licence      cc-by-4.0, may be passed on" in result.output
    assert "defect 1     it is small" in result.output
    assert not (tmp_path / "cache").exists()


def test_a_split_file_with_another_digest_is_refused(server, publish, pull, archive):
    shutil.copy(archive, server.folder / "a.tar.xz")
    (server.folder / "split.csv").write_text("0\n1\n")
    publish(
        a=f"""files = [{{ name = "a.tar.xz", urls = ["{server.url}a.tar.xz"] }}]
splits = [{{ name = "nfn", how = "so", url = "{server.url}split.csv", sha256_starts = "00000000" }}]"""
    )
    with pytest.raises(ZooError, match=r"split.csv: has SHA-256 .*; expected 00000000..., the published split$"):
        pull("one")


def test_a_published_split_comes_along(server, publish, pull, archive):
    shutil.copy(archive, server.folder / "a.tar.xz")
    small_cnn.permutation_file(server.folder / "split.csv", 54)
    publish(
        a=f"""files = [{{ name = "a.tar.xz", urls = ["{server.url}a.tar.xz"] }}]
splits = [{{ name = "nfn", how = "so", url = "{server.url}split.csv" }}]"""
    )
    zoo = pull("one")
    assert "nfn" in zoo.splits
    models = np.concatenate([zoo.split(part, table="nfn") for part in ("train", "validation", "test")])
    assert sorted(models) == list(range(6))


def test_a_converted_zoo_is_passed_on_where_its_licence_allows(hub, server, publish, pull, archive, tmp_path):
    shutil.copy(archive, server.folder / "a.tar.xz")
    small_cnn.permutation_file(server.folder / "split.csv", 54)
    publish(
        a=f"""files = [{{ name = "a.tar.xz", urls = ["{server.url}a.tar.xz"] }}]
splits = [{{ name = "nfn", how = "so", url = "{server.url}split.csv" }}]"""
    )
    zoo = pull("one")
    pushed = push(zoo.path, "org/theirs")
    back = pulling.pull(f"hf://org/theirs@{pushed.tag}", tmp_path / "back")
    assert back.models.equals(zoo.models)
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(back.split(part, table="nfn"), zoo.split(part, table="nfn"))
    _, front, body = (back.path / "README.md").read_text().split("---\n", 2)
    header = yaml.safe_load(front)
    assert header["license"] == "cc-by-4.0"
    assert {config["config_name"] for config in header["configs"]} >= {"models", "split_nfn"}
    assert all(list(back.path.glob(config["data_files"])) for config in header["configs"])
    assert "Someone. Something. 2020." in body
    lazy = open_zoo(f"hf://org/theirs@{pushed.tag}")
    assert {n: t.tolist() for n, t in lazy.state_dict(4, 40).items()} == {
        n: t.tolist() for n, t in zoo.state_dict(4, 40).items()
    }


def test_a_converted_zoo_of_unknown_licence_stays_here(hub, server, publish, pull, archive, tmp_path, monkeypatch):
    shutil.copy(archive, server.folder / "a.tar.xz")
    monkeypatch.setattr(registry.PublishedZoo, "provenance", lambda zoo, **facts: {"licence": "unknown", **facts})
    publish(a=f'files = [{{ name = "a.tar.xz", urls = ["{server.url}a.tar.xz"] }}]')
    zoo = pull("one")
    with pytest.raises(ZooError, match="an archive with the licence 'unknown', which does not allow passing it on"):
        push(zoo.path, "org/theirs")
    assert hub.log == []


def test_an_interrupted_pull_resumes(server, publish, pull, archive):
    shutil.copy(archive, server.folder / "a.tar.xz")
    publish(mnist=f'files = [{{ name = "a.tar.xz", urls = ["{server.url}a.tar.xz"] }}]')
    server.faults += [Fault("a.tar.xz"), Fault("a.tar.xz", status=404)]
    with pytest.raises(ZooError, match="the same command resumes"):
        pull("one")
    first = files_of(pull("one").path)
    assert files_of(pull("one").path) == first
    assert server.sent("a.tar.xz") == archive.stat().st_size


def test_without_a_network_every_way_says_so(publish, pull, monkeypatch):
    for name in ("ZENODO_ENDPOINT", "HF_ENDPOINT"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    publish(
        a='files = [{ name = "a.zip", urls = ["http://127.0.0.1:9/a.zip"] }]',
        b="zenodo = { record = 7 }",
        c='hub = { repository = "org/archives" }',
    )
    for name in ("one/a", "one/b", "one/c", "hf://org/zoo"):
        with pytest.raises(ZooError, match=r"127.0.0.1:9 cannot be reached \(.*\); expected a network$"):
            pull(name)


def test_some_epochs_of_a_zip_of_runs_come_without_the_rest(server, publish, pull, tmp_path, monkeypatch):
    monkeypatch.setenv("ZENODO_ENDPOINT", server.url)
    runs = ray.zoo(small_cnn.noise())
    files = {name: content + os.urandom(300_000) * name.endswith("optimizer") for name, content in runs.files.items()}
    (server.folder / "records" / "77").mkdir(parents=True)
    path = ray.zipped(server.folder / "records" / "77" / "zoo.zip", files)
    publish(a="zenodo = { record = 77 }")
    text = (tmp_path / "one.toml").read_text().replace("small_cnn_zoo", "model_zoos")
    (tmp_path / "one.toml").write_text(text)
    publication = registry.read_publication(tmp_path / "one.toml")
    monkeypatch.setattr(registry, "publications", lambda: {"one": publication})
    zoo = pull("one", epochs=[0, 3])
    assert zoo.weights.shape == (4, 2, 2464)
    assert server.sent("zoo.zip") < path.stat().st_size / 5
    assert zoo.manifest.origin.provenance["url"] == "https://zenodo.org/records/77"
