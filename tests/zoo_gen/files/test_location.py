"""Zoos at URLs, on fsspec's file system in memory; tests/reliability has a real S3 server."""

import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

import zoo_gen
from tests.conftest import begin, files_of
from zoo_bench.cli import main as bench
from zoo_gen import engine, export, find_manifest, open_zoo, write_plots
from zoo_gen.cli.main import main
from zoo_gen.errors import ZooError
from zoo_gen.files.location import files, locate, names, read_all
from zoo_gen.files.remote import Remote
from zoo_gen.zoo.verify import verify

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def memory():
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    return fs


@pytest.fixture
def remote_zoo(memory, tiny_zoo):
    for name, content in files_of(tiny_zoo).items():
        memory.pipe_file(f"/zoos/tiny/{name}", content)
    return "memory://zoos/tiny"


def files_at(memory, place):
    return {name.removeprefix(f"{place}/"): memory.cat_file(name) for name in memory.find(place)}


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("s3://bucket/zoo", Remote("s3://bucket/zoo")),
        ("s3://bucket/zoo/", Remote("s3://bucket/zoo")),
        ("hf://datasets/org/zoo@main", Remote("hf://datasets/org/zoo@main")),
        ("zoos/tiny", Path("zoos/tiny")),
        ("C:/zoos", Path("C:/zoos")),
        ("file:///zoos/tiny", Path("/zoos/tiny")),
        ("S3://Bucket/zoo", Remote("s3://Bucket/zoo")),
        (Path("zoos"), Path("zoos")),
        (Remote("s3://bucket/zoo"), Remote("s3://bucket/zoo")),
    ],
)
def test_a_url_is_told_from_a_path(place, expected):
    assert locate(place) == expected


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("s3://", "s3://: names no place; expected a URL such as s3://bucket/zoo"),
        (Path("s3://bucket/zoo"), "s3:/bucket/zoo: lacks a slash, which Path drops; expected text, s3://bucket/zoo"),
        ("s3:/bucket/zoo", "s3:/bucket/zoo: lacks a slash, which Path drops; expected text, s3://bucket/zoo"),
        (b"zoo", "got b'zoo' in place of a folder or file; expected its path or URL"),
    ],
)
def test_a_url_that_lacks_a_part_is_refused_and_makes_no_folder(place, message):
    with pytest.raises(ZooError) as raised:
        locate(place)
    assert str(raised.value) == message


def test_a_folder_that_is_called_like_a_protocol_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:").mkdir()
    assert locate("s3:/zoo") == Path("s3:/zoo")


def test_an_unknown_protocol_is_one_line():
    with pytest.raises(ZooError, match=r"nosuch://a/b: Protocol not known: nosuch; expected s3://, hf://"):
        (locate("nosuch://a") / "b").exists()


def test_a_protocol_without_its_client_names_the_client_and_not_ours(monkeypatch):
    def open_(url):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr("zoo_gen.files.remote.file_system", open_)
    with pytest.raises(ZooError) as raised:
        locate("gs://bucket/zoo").exists()
    assert str(raised.value) == (
        "gs://bucket/zoo: ImportError: Please install gcsfs to access Google Storage; expected that package"
    )


@pytest.mark.parametrize(
    "use",
    [
        lambda zoo: export(zoo, "memory://out"),
        lambda zoo: write_plots(zoo, "memory://out"),
        lambda zoo: zoo_gen.convert("memory://archive.zip", format="folder"),
        lambda zoo: zoo_gen.run(zoo.manifest, data_root="memory://out"),
    ],
    ids=["export", "write_plots", "convert from", "data_root"],
)
def test_what_needs_this_machine_refuses_a_url_and_makes_no_folder(tiny_zoo, tmp_path, monkeypatch, use):
    zoo = open_zoo(tiny_zoo)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZooError, match=r"memory://\S+: is a URL; expected a folder or file on this machine"):
        use(zoo)
    assert not list(tmp_path.glob("memory*"))


PLACES = [
    (program, name, option)
    for program, group in (("zoo-gen", main), ("zoo-bench", bench))
    for name, command in group.commands.items()
    for option in command.params
    if isinstance(option.type, click.Path)
]


@pytest.mark.parametrize(("program", "command", "option"), PLACES, ids=lambda value: getattr(value, "name", value))
def test_every_option_for_a_path_refuses_a_url(program, command, option):
    with pytest.raises(ZooError, match="s3://bucket/x: is a URL; expected a folder or file on this machine"):
        option.type.convert("s3://bucket/x", option, None)


def test_a_place_at_a_url_answers_as_a_path_does(memory, tmp_path):
    (tmp_path / "zoo").mkdir()
    remote = locate("memory://zoo")
    for folder in (tmp_path / "zoo", remote):
        assert not (folder / "a").exists()
        (folder / "a").write_bytes(b"1")
        (folder / "a").write_bytes(b"12")
        assert ((folder / "a").exists(), (folder / "a").is_file(), (folder / "a").is_dir()) == (True, True, False)
        assert (folder.exists(), folder.is_file(), folder.is_dir()) == (True, False, True)
        assert ((folder / "a").read_bytes(), (folder / "a").read_text()) == (b"12", "12")
        assert ((folder / "a").name, (folder / "a").parent) == ("a", folder)
        assert (files(folder), names(folder)) == ({"a": 2}, ["a"])
        assert list(read_all([folder / "a", folder / "a"])) == [b"12", b"12"]
        (folder / "a").unlink()
        (folder / "a").unlink(missing_ok=True)
        with pytest.raises(FileNotFoundError):
            (folder / "a").unlink()
        with pytest.raises(FileNotFoundError):
            (folder / "a").read_bytes()
    assert (files(remote / "none"), names(remote / "none")) == ({}, [])


def test_a_zoo_at_a_url_reads_as_the_one_on_disk(remote_zoo, tiny_zoo):
    remote, local = open_zoo(remote_zoo), open_zoo(tiny_zoo)
    assert remote.models.equals(local.models)
    assert remote.complete
    assert (remote.revision, remote.split_sha256) == (local.revision, local.split_sha256)
    np.testing.assert_array_equal(remote.weights[:], local.weights[:])
    np.testing.assert_array_equal(remote.test_class_f1[7], local.test_class_f1[7])
    for models in ([39, 0, 13, 12], [3], range(40)):
        np.testing.assert_array_equal(remote.view(models).weights, local.view(models).weights)
    state, expected = open_zoo(remote_zoo).state_dict(17, 2), local.state_dict(17, 2)
    assert all(state[name].equal(tensor) for name, tensor in expected.items())


def test_a_zoo_is_made_at_a_url_with_the_bytes_of_one_on_disk(memory, tiny_zoo, tiny_manifest):
    folder = locate("memory://zoos/tiny")
    assert engine.run(tiny_manifest, folder, workers=1).trained_shards == 4
    assert files_at(memory, "/zoos/tiny") == files_of(tiny_zoo)
    assert engine.run(tiny_manifest, folder, workers=1).trained_shards == 0
    assert verify(folder, sample=3).findings == ()


def test_a_manifest_at_a_url_is_planned_and_run(memory, tiny_zoo, tiny_manifest):
    memory.pipe_file("/manifests/tiny.toml", tiny_manifest.read_bytes())
    result = CliRunner().invoke(main, ["plan", "memory://manifests/tiny.toml", "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "40 in 4 shards of 12" in result.output
    engine.run(find_manifest("memory://manifests/tiny.toml"), locate("memory://zoos/tiny"), workers=1)
    assert files_at(memory, "/zoos/tiny") == files_of(tiny_zoo)


def test_what_is_damaged_at_a_url_is_found_and_repaired(memory, remote_zoo, tiny_zoo, tiny_manifest):
    for name in ("weights.zarr/weights/c/1/0/0", "weights.zarr/zarr.json", "models/part-00003.parquet"):
        content = bytearray(memory.cat_file(f"/zoos/tiny/{name}"))
        content[len(content) // 2] ^= 4
        memory.pipe_file(f"/zoos/tiny/{name}", bytes(content))
    memory.rm_file("/zoos/tiny/weights.zarr/test_loss/c/0/0")
    assert verify(locate(remote_zoo), sample=0).findings
    assert engine.run(tiny_manifest, locate(remote_zoo), workers=1, repair=True).trained_shards == 3
    assert files_at(memory, "/zoos/tiny") == files_of(tiny_zoo)


@pytest.mark.parametrize("n_files", [0, 1, 4])
def test_a_zoo_whose_making_was_cut_off_is_made_by_the_next_run(memory, tiny_zoo, tiny_manifest, n_files):
    """SHA256SUMS is the first file, the manifest the last: without it there is no zoo yet."""
    folder = locate("memory://zoos/tiny")
    begin(folder, tiny_manifest, data_sha256=open_zoo(tiny_zoo).attributes["data_sha256"])
    for name in [*sorted(set(files(folder)) - {"SHA256SUMS", "manifest.toml"})[n_files:], "manifest.toml"]:
        (folder / name).unlink()
    assert engine.run(tiny_manifest, folder, workers=1).trained_shards == 4
    assert files_at(memory, "/zoos/tiny") == files_of(tiny_zoo)


def test_of_two_manifests_begun_at_one_url_the_second_is_refused(memory, tiny_manifest):
    folder = locate("memory://zoos/tiny")
    begin(folder, tiny_manifest)
    (folder / "manifest.toml").unlink()
    before = files_at(memory, "/zoos/tiny")
    tiny_manifest.write_text(tiny_manifest.read_text().replace("epochs = 4", "epochs = 5"))
    with pytest.raises(ZooError, match="another run has begun another zoo there"):
        begin(folder, tiny_manifest)
    assert files_at(memory, "/zoos/tiny") == before


def test_a_url_with_other_files_or_another_zoo_is_refused_and_left_as_it_is(memory, remote_zoo, tiny_manifest):
    memory.pipe_file("/thesis/thesis.tex", b"precious")
    with pytest.raises(ZooError, match=r"exists and is not a zoo \(it has thesis\.tex\)"):
        begin(locate("memory://thesis"), tiny_manifest)
    tiny_manifest.write_text(tiny_manifest.read_text().replace("epochs = 4", "epochs = 5"))
    with pytest.raises(ZooError, match="holds the zoo 'tiny' of another manifest"):
        begin(locate(remote_zoo), tiny_manifest)
    assert files_at(memory, "/thesis") == {"thesis.tex": b"precious"}


def test_a_store_that_fails_is_no_damage(memory, remote_zoo, monkeypatch):
    """Else `--repair` would train anew what a bad network did not show."""
    zoo = open_zoo(remote_zoo)
    assert len(zoo.models) == 40

    class Failing(dict):
        def __getitem__(self, name):
            raise TimeoutError("no answer")

    monkeypatch.setattr(type(memory), "store", Failing(memory.store))
    for ask in (lambda: zoo.weights[0], lambda: verify(locate(remote_zoo)), lambda: zoo.state_dict(0)):
        with pytest.raises(ZooError, match=r"memory://zoos/tiny.*TimeoutError: no answer"):
            ask()


def test_lost_weights_at_a_url_are_an_error_and_reading_others_asks_for_nothing_more(memory, remote_zoo, monkeypatch):
    asked = []

    class Asked(dict):
        def __getitem__(self, name):
            asked.append(name)
            return super().__getitem__(name)

    monkeypatch.setattr(type(memory), "store", Asked(memory.store))
    zoo, counts = open_zoo(remote_zoo), []
    for array in (zoo.weights, zoo.store.array("weights", lost_as_nan=True)):
        asked.clear()
        assert np.isfinite(array[:]).all()
        assert np.isfinite(array[7]).all()
        counts.append(len(asked))
    assert counts[0] == counts[1] > 0
    memory.rm_file("/zoos/tiny/weights.zarr/weights/c/2/0/0")
    with pytest.raises(ZooError, match=r"memory://zoos/tiny/weights\.zarr/weights/c/2/0/0: is missing"):
        zoo.weights[24]


def test_a_url_without_a_zoo_or_of_an_unknown_kind_is_one_line(memory):
    with pytest.raises(ZooError, match="memory://none: no such folder; expected a zoo"):
        open_zoo("memory://none")
    with pytest.raises(ZooError, match=r"nosuch://zoo.*nosuch"):
        open_zoo("nosuch://zoo")


def test_without_fsspec_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(ZooError, match=r"expected pip install 'zoo-gen\[remote\]'"):
        open_zoo("s3://bucket/zoo")


def test_a_zoo_on_disk_needs_no_fsspec(tiny_zoo, tmp_path):
    folder = shutil.copytree(tiny_zoo, tmp_path / "tiny")
    code = (
        f"import sys; sys.modules['fsspec'] = None; from zoo_gen import open_zoo; open_zoo({str(folder)!r}).view([3])"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
