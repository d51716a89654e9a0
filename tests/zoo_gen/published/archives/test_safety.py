"""Hostile files: exploits that would leave a marker if anything of them ran, names that lead out, bombs, links."""

import gzip
import io
import os
import pickle
import stat
import struct
import subprocess
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from tests.zoo_gen.published import ray, small_cnn
from tests.zoo_gen.published.ray import convert
from zoo_gen import ZooError
from zoo_gen.published.archives import archive as archives
from zoo_gen.published.archives import members, pickles
from zoo_gen.published.archives.archive import open_archive
from zoo_gen.published.archives.pickles import Reader


class Runs:
    """Pickles as a call of any function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def exploits(marker):
    """The usual ways to run code from a pickle."""
    import builtins
    import functools

    code = f"open({str(marker)!r}, 'w').close()"
    return {
        "os.system": Runs(os.system, f"touch {marker}"),
        "eval": Runs(builtins.eval, code),
        "exec": Runs(builtins.exec, code),
        "getattr": Runs(getattr, "text", "upper"),
        "popen": Runs(subprocess.Popen, ["touch", str(marker)]),
        "partial": functools.partial(os.system, f"touch {marker}"),
        "torch's own loader": Runs(torch.storage._load_from_bytes, pickle.dumps(Runs(os.system, f"touch {marker}"))),
        "numpy": np.array([Runs(os.system, f"touch {marker}")], dtype=object),
    }


NAMES = ["os.system", "eval", "exec", "getattr", "popen", "partial", "torch's own loader", "numpy"]
WRITERS = {
    "zip": {},
    "legacy": {"_use_new_zipfile_serialization": False},
    "protocol 4": {"pickle_protocol": 4},
    "legacy protocol 4": {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
}


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return Reader(["expected.Name"], scratch=tmp_path_factory.mktemp("scratch"), format="model_zoos")


@pytest.fixture
def marker(tmp_path):
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "an exploit was executed"


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", NAMES)
def test_an_exploit_is_named_and_never_run(reader, marker, name, writer):
    content = ray.saved({"weight": torch.zeros(2), "x": exploits(marker)[name]}, **WRITERS[writer])
    with pytest.raises(ZooError, match=r"refers to .*, which no file of the format model_zoos should") as error:
        reader.content(content, where="file.pt")
    assert "\n" not in str(error.value)


def test_the_exploits_of_these_tests_do_work(tmp_path):
    """Else the tests above would prove nothing."""
    content = ray.saved({"x": exploits(tmp_path / "worked")["os.system"]})
    torch.load(io.BytesIO(content), weights_only=False)
    assert (tmp_path / "worked").exists()


def test_a_plain_pickle_with_an_exploit_is_not_read(reader, marker):
    with pytest.raises(ZooError, match=r"refers to posix\.system"):
        reader.content(pickle.dumps(exploits(marker)["os.system"]), where="file.pt")


def test_an_expected_name_is_a_stand_in_that_does_nothing(reader, marker):
    """BUILD on a stand-in keeps the state; nothing is set or called."""
    code = b"cexpected\nName\n)\x81}X\x08\x00\x00\x00__dict__X\x01\x00\x00\x00xsb."
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a/data.pkl", b"\x80\x02" + code)
        file.writestr("a/version", b"3\n")
        file.writestr("a/byteorder", b"little")
    content = reader.content(archive.getvalue(), where="f")
    assert content.pickled_name == "expected.Name"
    assert content.state == {"__dict__": "x"}


@pytest.mark.parametrize("writer", ["zip", "legacy"])
def test_a_tensor_that_claims_more_numbers_than_it_has_is_refused(tmp_path, reader, writer):
    from zoo_gen.published.formats.states import tensors_of

    huge = torch.zeros(1).expand(2**40)
    content = ray.saved({"weight": huge}, **WRITERS[writer])
    with pytest.raises(ZooError, match="has fewer numbers than that in the file"):
        tensors_of(reader.content(content, where="f"), where="f")


def test_compressed_records_in_a_checkpoint_are_refused(reader):
    content = ray.saved({"weight": torch.zeros(1000)})
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(ZooError, match="unpack to more than the file holds"):
        reader.content(packed.getvalue(), where="f")


@pytest.mark.parametrize("content", [b"", b"\x80\x02", b"\x80\x02" + b"(" * 100_000, b"\x80\x02]q\x00h\x00a."])
def test_what_is_no_checkpoint_is_refused_and_the_next_file_is_read(reader, content):
    with pytest.raises(ZooError, match="f: cannot be read as a checkpoint"):
        reader.content(content, where="f")
    state = reader.content(ray.saved({"weight": torch.ones(2)}, **WRITERS["legacy"]), where="g")
    assert state["weight"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("mapped_from", [0, 2**30])
def test_a_tar_of_before_torch_0_2_is_refused(tmp_path, reader, marker, monkeypatch, mapped_from):
    """Its reader in torch was once a way to run code (CVE-2025-32434)."""
    monkeypatch.setattr(pickles, "_MAPPED", mapped_from)
    (tmp_path / "in").mkdir()
    tar_with(tmp_path / "in" / "a.pt", "storages", pickle.dumps(exploits(marker)["os.system"], protocol=2))
    with open_archive(tmp_path / "in", tmp_path) as archive, pytest.raises(ZooError, match="cannot be read as a check"):
        reader.member(archive, "a.pt")


def test_an_exploit_in_a_file_that_is_mapped_is_named_and_never_run(tmp_path, reader, marker, monkeypatch):
    monkeypatch.setattr(pickles, "_MAPPED", 0)
    for name, options in WRITERS.items():
        content = ray.saved({"weight": torch.zeros(2), "x": exploits(marker)["os.system"]}, **options)
        ray.folder(tmp_path / name, {"a.pt": content})
        with (
            open_archive(tmp_path / name, tmp_path) as archive,
            pytest.raises(ZooError, match=r"refers to posix\.system"),
        ):
            reader.member(archive, "a.pt")


@pytest.mark.parametrize("writer", ["protocol 4", "legacy protocol 4"])
def test_an_opcode_that_torchs_reader_does_not_know_is_named(reader, writer):
    content = ray.saved({"weight": torch.zeros(2)}, **WRITERS[writer])
    with pytest.raises(ZooError, match=r"f: uses the pickle opcode \w+ of protocol 4, .* expected .* protocol, 2"):
        reader.content(content, where="f")


@pytest.mark.parametrize(("installed", "is_safe"), [("2.6.0+cpu", False), ("2.9.1", False), ("2.10.0", True)])
def test_a_torch_whose_reader_was_unsafe_reads_nothing(tmp_path, monkeypatch, installed, is_safe):
    monkeypatch.setattr(torch, "__version__", installed)
    if is_safe:
        Reader(scratch=tmp_path, format="folder")
        return
    with pytest.raises(ZooError, match=r"CVE-2026-24747\); expected torch 2\.10 or newer"):
        Reader(scratch=tmp_path, format="folder")


# Exploits inside whole archives, through the one door.


def hostile_state(marker):
    return ray.saved({"weight": torch.zeros(1), "x": exploits(marker)["os.system"]})


@pytest.mark.parametrize("place", ["checkpoints", "dataset.pt", "params.pkl", "optimizer", ".tune_metadata"])
def test_in_a_ray_archive_only_states_are_opened_and_an_exploit_there_aborts(tmp_path, marker, place):
    published = ray.zoo(small_cnn.noise(8, 8), n_runs=2, epochs=1)
    files = {
        name: hostile_state(marker) if name.rpartition("/")[2] == place else content
        for name, content in published.files.items()
    }
    archive = ray.zipped(tmp_path / "cnn.zip", files)
    if place == "checkpoints":
        with pytest.raises(ZooError, match=r"checkpoint_000000/checkpoints: refers to posix\.system"):
            convert(archive, tmp_path / "zoo", format="model_zoos")
    else:
        convert(archive, tmp_path / "zoo", format="model_zoos")


@pytest.mark.parametrize("format_", ["hyper_representations", "dwsnets", "nfn", "cnn_wild_park", "folder"])
def test_an_exploit_aborts_every_format(tmp_path, marker, format_):
    names = {
        "hyper_representations": "dataset_31_f-mnist_seed.pt",
        "dwsnets": "mnist_png_training_1_2/a/model.pth",
        "nfn": "randinit_test_1s/net3.pth",
        "cnn_wild_park": "park/trial/checkpoint_10/checkpoint.pt",
        "folder": "model.pt",
    }
    files = {names[format_]: hostile_state(marker), "models.csv": b"file,run\nmodel.pt,a\n"}
    with pytest.raises(ZooError, match=r"refers to posix\.system"):
        convert(ray.folder(tmp_path / "in", files), tmp_path / "zoo", format=format_)


def test_pickled_objects_in_a_npy_are_refused(tmp_path, small_cnn_zoo, marker):
    array = io.BytesIO()
    np.save(array, exploits(marker)["numpy"], allow_pickle=True)
    files = small_cnn.files(small_cnn_zoo) | {"weights.npy": array.getvalue()}
    with pytest.raises(ZooError, match="holds object; expected numbers"):
        convert(small_cnn.folder(tmp_path, files), tmp_path / "zoo", format="small_cnn_zoo")


def test_code_in_a_layout_is_text(tmp_path, small_cnn_zoo, marker):
    shape = f"\"__import__('os').system('touch {marker}')\""
    layout = f"varname,start_idx,end_idx,shape\nconv2d/bias,0,16,{shape}\n"
    files = small_cnn.files(small_cnn_zoo, layout=layout)
    with pytest.raises(ZooError, match="is no row of a layout"):
        convert(small_cnn.folder(tmp_path, files), tmp_path / "zoo", format="small_cnn_zoo")


# Archives that lead out of themselves, or are larger than they look.


def zip_with(path, name, content=b"x", *, mode=None, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        entry = zipfile.ZipInfo(name)
        entry.compress_type = compression
        if mode is not None:
            entry.external_attr = mode << 16
        archive.writestr(entry, content)
    return path


def tar_with(path, name, content=b"x", *, kind=tarfile.REGTYPE, target="", mode="w"):
    with tarfile.open(path, mode) as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, target
        entry.size = len(content) if kind == tarfile.REGTYPE else 0
        archive.addfile(entry, io.BytesIO(content))
    return path


def refused(path, tmp_path, message):
    (tmp_path / "scratch").mkdir(exist_ok=True)
    with pytest.raises(ZooError, match=message), open_archive(path, tmp_path / "scratch"):
        pass


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "C:/evil", "..\\evil", "\\evil"])
def test_names_that_lead_out_are_refused(tmp_path, name):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("x" * len(name), b"x")
    raw = content.getvalue().replace(b"x" * len(name), name.encode())  # zipfile itself would mend some of them
    (tmp_path / "a.zip").write_bytes(raw)
    refused(tmp_path / "a.zip", tmp_path, "a name that leads out of the archive")
    refused(tar_with(tmp_path / "a.tar", name), tmp_path, "a name that leads out of the archive")


@pytest.mark.parametrize("kind", ["symlink", "hardlink", "device", "fifo"])
def test_links_and_devices_are_refused(tmp_path, kind):
    kinds = {
        "symlink": tarfile.SYMTYPE,
        "hardlink": tarfile.LNKTYPE,
        "device": tarfile.CHRTYPE,
        "fifo": tarfile.FIFOTYPE,
    }
    refused(
        tar_with(tmp_path / "a.tar", "w", kind=kinds[kind], target="/etc/passwd"), tmp_path, "is a link or a device"
    )
    modes = {"symlink": stat.S_IFLNK, "device": stat.S_IFCHR, "fifo": stat.S_IFIFO}
    if kind in modes:
        path = zip_with(tmp_path / "a.zip", "w", b"/etc/passwd", mode=modes[kind] | 0o777)
        refused(path, tmp_path, "is a link or a device")


def test_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(members, "FREE_BYTES", 2**20)
    monkeypatch.setattr(archives, "_COPY", 2**18)
    zeros = bytes(16 * 2**20)
    refused(zip_with(tmp_path / "a.zip", "weights.npy", zeros), tmp_path, "unpacks to more than 100 times")
    for mode, end in (("w:gz", "tar.gz"), ("w:xz", "tar.xz"), ("w:bz2", "tar.bz2")):
        path = tar_with(tmp_path / f"a.{end}", "weights.npy", zeros, mode=mode)
        refused(path, tmp_path, "unpacks to more than 100 times")
    assert sum(path.stat().st_size for path in (tmp_path / "scratch").iterdir()) < 8 * 2**20


def test_a_zip_that_lies_about_its_sizes_is_refused(tmp_path):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("layout.csv", bytes(10 * 2**20))
    raw = bytearray(content.getvalue())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = raw.index(signature) + offset
        raw[place : place + 4] = struct.pack("<I", 1000)
    (tmp_path / "a.zip").write_bytes(bytes(raw))
    (tmp_path / "scratch").mkdir()
    with (
        open_archive(tmp_path / "a.zip", tmp_path / "scratch") as archive,
        pytest.raises(ZooError, match=r"is damaged|has other bytes"),
    ):
        archive.read("layout.csv")


def test_members_that_share_their_bytes_are_refused(tmp_path):
    """As in the bombs whose thousands of members are one."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", os.urandom(10_000))
    with zipfile.ZipFile(content, "a") as archive:
        first = archive.infolist()[0]
        for number in range(3):
            copy = zipfile.ZipInfo(f"b{number}")
            for field in ("compress_type", "CRC", "compress_size", "file_size", "header_offset"):
                setattr(copy, field, getattr(first, field))
            archive.filelist.append(copy)
            archive.NameToInfo[copy.filename] = copy
        archive._didModify = True
    (tmp_path / "a.zip").write_bytes(content.getvalue())
    refused(tmp_path / "a.zip", tmp_path, "its members overlap")


def test_a_member_that_is_there_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a", b"2")
    refused(tmp_path / "a.zip", tmp_path, "holds a twice")


def test_a_gzipped_table_that_never_ends_is_refused(tmp_path, small_cnn_zoo, monkeypatch):
    from zoo_gen.published.formats import tables

    monkeypatch.setattr(tables, "MOST_TEXT", 2**20)
    files = small_cnn.files(small_cnn_zoo) | {"metrics.csv.gz": gzip.compress(bytes(2**21))}
    with pytest.raises(ZooError, match="unpacks to more than 1,048,576 bytes"):
        convert(small_cnn.folder(tmp_path, files), tmp_path / "zoo", format="small_cnn_zoo")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x1f\x8b\x08", b"not an archive"])
def test_what_is_no_archive_is_said_in_one_line(tmp_path, content):
    for end in ("zip", "tar", "tar.gz", "tar.xz"):
        path = tmp_path / f"broken.{end}"
        path.write_bytes(content)
        with pytest.raises(ZooError) as error:
            convert(path, tmp_path / "zoo", format="small_cnn_zoo")
        assert "\n" not in str(error.value)
    assert not (tmp_path / "zoo").exists()


def test_a_member_whose_name_is_as_long_as_a_disk_takes_is_laid_on_it(tmp_path):
    name, scratch = f"{'a' * 251}.npy", tmp_path / "scratch"
    scratch.mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, b"content")
    with open_archive(tmp_path / "a.zip", scratch) as archive:
        assert archive.on_disk(name, scratch).read_bytes() == b"content"
