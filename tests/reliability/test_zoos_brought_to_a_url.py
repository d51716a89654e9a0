"""Conversions, pulls, splits and merges whose output is in a bucket, on a real S3 server on loopback."""

import random
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

import zoo_bench
import zoo_gen
from tests import forked, waiting
from tests.conftest import files_of
from tests.hub_server import Fault
from tests.reliability.object_store import FLAKY, known, object_store
from tests.zoo_gen.published.formats.test_folder import network, written
from tests.zoo_gen.published.ray import saved
from zoo_gen import ZooError, open_zoo
from zoo_gen.cli.main import main
from zoo_gen.published.sources import registry
from zoo_gen.zoo.verify import verify

pytestmark = pytest.mark.skipif(not (find_spec("moto") and find_spec("s3fs")), reason="needs moto and s3fs")

PUBLICATION = """
name = "one"
title = "One"
paper = "Someone, Something, 2020"
arxiv = "2001.00001"
architecture = "an MLP"
citation = "Someone. Something. 2020."

[licence]
name = "cc-by-4.0"
redistribution = true

[[parts]]
name = "mnist"
description = "four runs"
format = "folder"
files = [{{ name = "mine.tar.xz", urls = ["{url}mine.tar.xz"] }}]
"""


@pytest.fixture(scope="module")
def remote(tmp_path_factory):
    with object_store(tmp_path_factory.mktemp("store")) as started:
        yield started


@pytest.fixture
def s3(remote, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE_ROOT", str(tmp_path / "cache"))
    with known(remote):
        yield remote


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A compressed tar of networks of two architectures, which make four shards."""
    folder = tmp_path_factory.mktemp("archive") / "mine"
    written(folder, "plain", "pt", runs=4, split=["train", "val", "test"])
    for epoch in (1, 5):
        (folder / "weights" / f"run1_epoch{epoch}.pt").write_bytes(saved(network("deep").state_dict()))
    with tarfile.open(folder.parent / "mine.tar.xz", "w:xz") as tar:
        tar.add(folder, "mine")
    return folder.parent / "mine.tar.xz"


@pytest.fixture(scope="module")
def expected(archive, tmp_path_factory):
    """The files of the zoo that is converted on the disk."""
    return files_of(zoo_gen.convert(archive, tmp_path_factory.mktemp("here") / "zoo", format="folder").path)


def invoke(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def failed(*arguments):
    """Return the one line with which a command refuses something."""
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    return line


def test_a_conversion_into_a_bucket_has_the_bytes_of_one_on_the_disk(s3, archive, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    beside = sorted(archive.parent.iterdir())
    result = invoke("convert", archive, "--format", "folder", "--out", "s3://bucket/converted")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "mine: 4 models, 2 checkpoints; complete in s3://bucket/converted"
    assert s3.files("converted") == expected
    assert (list(tmp_path.iterdir()), sorted(archive.parent.iterdir())) == ([], beside)
    assert verify("s3://bucket/converted").findings == ()
    again = zoo_gen.convert(archive, "s3://bucket/converted", format="folder")
    assert again.conversion.columns
    assert s3.files("converted") == expected


def test_where_a_compressed_tar_is_expanded_for_a_bucket_is_said(s3, archive, tmp_path):
    seen = []

    def look(done, of):
        seen.extend(path.name for path in (tmp_path / "disk").rglob("*") if path.is_file())

    zoo_gen.convert(archive, "s3://bucket/said", format="folder", cache=tmp_path / "disk", progress=look)
    assert any(name.endswith(".tar") for name in seen)
    assert list(tmp_path.iterdir()) == []


def test_a_published_zoo_is_pulled_into_a_bucket_and_its_archive_stays_here(s3, archive, server, tmp_path, monkeypatch):
    (server.folder / "mine.tar.xz").write_bytes(archive.read_bytes())
    (tmp_path / "one.toml").write_text(PUBLICATION.format(url=server.url))
    publication = registry.read_publication(tmp_path / "one.toml")
    monkeypatch.setattr(registry, "publications", lambda: {"one": publication})
    line = failed("pull", "one", "--out", "s3://nobody/zoo")
    assert line.startswith("error: s3://nobody/zoo: ")
    assert line.endswith("expected a bucket that is there")
    assert server.log == []  # a typing error is not seen only after a download
    result = invoke("pull", "one", "--out", "s3://bucket/pulled")
    assert result.exit_code == 0, result.output
    here = zoo_gen.pull("one", tmp_path / "here")
    assert s3.files("pulled") == files_of(here.path)
    assert open_zoo("s3://bucket/pulled").manifest.origin.provenance["paper"].startswith("Someone")
    assert [path.name for path in (tmp_path / "cache" / "one" / "files").iterdir() if path.suffix == ".xz"] == [
        "mine.tar.xz"
    ]
    assert server.sent("mine.tar.xz") == archive.stat().st_size


def is_begun_well(files, expected):
    """Assert that all files but the list are final ones, and that the arrays of every part are there."""
    final = {name: content for name, content in files.items() if name not in ("SHA256SUMS", "manifest.toml")}
    assert final.items() <= expected.items()
    parts = [int(name[len("models/part-") : -len(".parquet")]) for name in files if name.startswith("models/part-")]
    arrays = {name for part in parts for name in expected if f"/c/{part}" in name and "/epoch/" not in name}
    assert arrays <= set(files)
    return parts


def test_an_interrupted_conversion_into_a_bucket_goes_on(s3, archive, expected):
    def interrupt(done, of):
        if done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        zoo_gen.convert(archive, "s3://bucket/stopped", format="folder", progress=interrupt)
    is_begun_well(s3.files("stopped"), expected)
    half = open_zoo("s3://bucket/stopped")
    assert not half.complete
    done = []
    zoo_gen.convert(archive, "s3://bucket/stopped", format="folder", progress=lambda *counts: done.append(counts))
    assert done[0][0] >= 2
    assert s3.files("stopped") == expected


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.thorough) for seed in range(1, 12))])
def test_a_conversion_into_a_bucket_killed_at_any_request_resumes_to_the_same_bytes(
    s3, archive, expected, tmp_path, seed
):
    url, environment = f"s3://bucket/killed-{seed}", {**forked.os.environ, "OMP_NUM_THREADS": "1"}
    arguments = ["convert", str(archive), "--format", "folder", "--out", url]
    with (tmp_path / "said").open("w") as output:
        process = forked.start("zoo_gen", arguments, output=output, folder=Path.cwd(), environment=environment)
    s3.wait_for(random.Random(seed).randrange(5, 125), process)
    process.kill()
    process.wait(waiting.LIMIT)
    files = s3.files(f"killed-{seed}")
    if len(is_begun_well(files, expected)) < 4:
        try:
            assert not open_zoo(url).complete
        except ZooError as error:
            assert "manifest.toml" not in files, error  # noqa: PT017
    assert invoke(*arguments).exit_code == 0
    assert s3.files(f"killed-{seed}") == expected
    assert list(tmp_path.rglob("*.tar")) == []  # what the killed one had expanded


def test_a_conversion_into_a_store_that_refuses_cuts_off_and_loses_answers_costs_no_byte(s3, archive, expected):
    s3.chance, s3.faults = random.Random(0), {fault: FLAKY[fault] for fault in ("refused", "cut off", "answer lost")}
    try:
        zoo_gen.convert(archive, "s3://bucket/flaky", format="folder")
    finally:
        s3.faults = {}
    assert {fault for fault, count in s3.met.items() if count} == {"refused", "cut off", "answer lost"}
    assert s3.files("flaky") == expected


def test_of_an_archive_that_is_refused_nothing_stays_in_a_bucket(s3, tmp_path):
    written(tmp_path / "mine", "plain", "pt", runs=4)
    (tmp_path / "mine" / "weights" / "run3_epoch5.pt").write_bytes(b"damaged" * 100)
    line = failed("convert", tmp_path / "mine", "--format", "folder", "--out", "s3://bucket/refused")
    assert "run3_epoch5.pt" in line
    assert s3.files("refused") == {}


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("s3://nobody/zoo", "s3://nobody/zoo: .*; expected a bucket that is there"),
        ("s3://bucket/other", r"s3://bucket/other: exists and is not a zoo \(it has thing\); expected a new or empty"),
        ("s3://bucket/other/thing", "s3://bucket/other/thing: is a file; expected a new or empty folder"),
        ("s3://bucket/tiny", "s3://bucket/tiny: holds the zoo 'tiny' of another archive"),
        ("hf://org/zoo", "hf://org/zoo: zoos cannot be written on the Hub file by file; .* then zoo-gen push"),
    ],
)
def test_a_place_that_takes_no_zoo_is_one_line_and_stays_as_it_is(s3, archive, tiny, out, message):
    import s3fs

    fs = s3fs.S3FileSystem(use_listings_cache=False)
    fs.pipe_file("bucket/other/thing", b"thing")
    for name, content in tiny.files.items():
        fs.pipe_file(f"bucket/tiny/{name}", content)
    line = failed("convert", archive, "--format", "folder", "--out", out)
    with pytest.raises(ZooError, match=f"^{message}"):
        raise ZooError(line.removeprefix("error: "))
    assert s3.files("tiny") == tiny.files
    assert s3.files("other") == {"thing": b"thing"}


def test_without_s3fs_the_extra_is_named(s3, archive, monkeypatch):
    registry = pytest.importorskip("fsspec.registry")
    monkeypatch.delitem(registry._registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    line = failed("convert", archive, "--format", "folder", "--out", "s3://bucket/none")
    assert line.startswith("error: s3://bucket/none: ")
    assert line.endswith("expected pip install 'zoo-gen[remote]'")


def test_a_folder_that_a_store_marks_by_an_empty_object_is_an_empty_one(s3, archive, expected):
    """As the console of S3 makes it."""
    import s3fs

    s3fs.S3FileSystem().pipe_file("bucket/marked/", b"")
    zoo_gen.convert(archive, "s3://bucket/marked", format="folder")
    files = s3.files("marked")
    assert files.pop("") == b""
    assert files == expected
    assert verify("s3://bucket/marked").findings == ()


def test_a_zoo_of_the_hub_is_copied_into_a_bucket(s3, hub, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub.add("org/tiny", {**tiny.files, ".gitattributes": b"*.parquet filter=lfs\n"})
    result = invoke("pull", "hf://org/tiny", "--out", "s3://bucket/copied")
    assert result.exit_code == 0, result.output
    assert "complete in s3://bucket/copied" in result.stdout
    here = zoo_gen.pull("hf://org/tiny", tmp_path / "here")
    assert s3.files("copied") == files_of(here.path)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    hub.log.clear()
    zoo_gen.pull("hf://org/tiny", "s3://bucket/copied")
    assert hub.sent("/resolve/") + hub.sent("/lfs/") < 2_000  # the list alone
    hub.add("org/tiny", {**tiny.files, "SHA256SUMS": b""})
    assert failed("pull", "hf://org/tiny", "--out", "s3://bucket/copied").startswith("error: hf://org/tiny: is damaged")
    assert s3.files("copied") == files_of(here.path)


def test_a_copy_that_breaks_off_is_no_zoo_until_it_has_gone_on(s3, hub, tiny):
    hub.add("org/tiny", tiny.files)
    hub.faults.append(Fault("weights.zarr/weights/c/3", status=404, times=100))
    assert "weights/c/3" in failed("pull", "hf://org/tiny", "--out", "s3://bucket/half")
    begun = s3.files("half")
    assert begun.items() <= tiny.files.items()
    brought = [name for name in begun if "/c/" in name and "epoch" not in name]
    assert len(brought) > 4
    with pytest.raises(ZooError, match=r"s3://bucket/half: is not a zoo; it has no manifest.toml"):
        open_zoo("s3://bucket/half")
    hub.faults.clear()
    hub.log.clear()
    zoo_gen.pull("hf://org/tiny", "s3://bucket/half")
    assert s3.files("half") == tiny.files
    assert not [name for name in brought if hub.sent(name)]


def test_a_copy_goes_on_when_the_connection_breaks(s3, hub, tiny):
    hub.add("org/tiny", tiny.files)
    hub.faults += [Fault("weights/c/1"), Fault("part-00001", status=429, retry_after=1)]
    zoo_gen.pull("hf://org/tiny", "s3://bucket/broke")
    assert not any(fault.times for fault in hub.faults)
    assert s3.files("broke") == tiny.files


def test_a_copy_neither_mixes_with_another_zoo_nor_begins_beside_other_files(s3, hub, tiny):
    import s3fs

    hub.add("org/tiny", tiny.files)
    hub.add("org/data", {"data.csv": b"1"})
    fs = s3fs.S3FileSystem(use_listings_cache=False)
    fs.pipe_file("bucket/begun/SHA256SUMS", b"of another zoo")
    fs.pipe_file("bucket/other/thing", b"thing")
    assert failed("pull", "hf://org/tiny", "--out", "s3://bucket/begun") == (
        "error: s3://bucket/begun: another zoo is begun there; expected another folder, or that this one is removed"
    )
    assert "s3://bucket/other: exists and is not a zoo" in failed("pull", "hf://org/tiny", "--out", "s3://bucket/other")
    assert "s3://nobody/zoo" in failed("pull", "hf://org/tiny", "--out", "s3://nobody/zoo")
    assert failed("pull", "hf://org/data", "--out", "s3://bucket/data") == (
        "error: hf://org/data: is not a zoo; it has no manifest.toml"
    )
    assert s3.files("begun") == {"SHA256SUMS": b"of another zoo"}
    assert s3.files("other") == {"thing": b"thing"}
    assert s3.files("data") == {}


def test_a_benchmark_pulls_its_zoos_into_a_bucket(s3, hub, tiny):
    hub.add("lab/tiny", tiny.files)
    manifest = zoo_bench.BenchmarkManifest(name="b", protocol="standard", zoos=("tiny",), targets=("test_accuracy",))
    assert zoo_bench.pull_missing_zoos(manifest, "s3://bucket/lab", owner="lab") == ["tiny"]
    assert s3.files("lab/tiny") == tiny.files


def test_a_split_into_a_bucket_has_the_bytes_of_one_on_the_disk(s3, tiny, tmp_path):
    for folder in ("s3://bucket/part", tmp_path / "part"):
        zoo_gen.split(tiny.folder, folder, where={"optimizer": "adam", "seed": [1, 2]})
    assert s3.files("part") == files_of(tmp_path / "part")


@pytest.mark.thorough
def test_a_merge_of_zoos_in_a_bucket_into_it_has_the_bytes_of_one_on_the_disk(s3, tiny, tmp_path):
    for place in ("s3://bucket", str(tmp_path)):
        zoo_gen.split(tiny.folder, f"{place}/adam", where={"optimizer": "adam"}, rest=f"{place}/sgd")
        zoo_gen.merge([f"{place}/adam", f"{place}/sgd"], f"{place}/both")
    for name in ("adam", "sgd", "both"):
        assert s3.files(name) == files_of(tmp_path / name)
