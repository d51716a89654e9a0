"""Archives as people really have them: each variety gives the zoo of its folder, or one line that names the fault."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import unicodedata
import zipfile

import pyarrow as pa
import pytest
import torch
from safetensors.torch import save

from tests.zoo_gen.published import packed, ray
from zoo_gen import ZooError, convert
from zoo_gen.files import atomic


def zst(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def plain_tar(folder, **options):
    return packed.tarred(folder / "plain", packed.files(), **options).read_bytes()


def zip_of(folder, compression=zipfile.ZIP_DEFLATED):
    return packed.zipped(folder / "zip", packed.files(), compression=compression).read_bytes()


PACKINGS = {
    "plain.tar": plain_tar,
    "named_zip.zip": plain_tar,
    "named_gz.tar.gz": plain_tar,
    "no_name": plain_tar,
    "pax.tar": lambda folder: plain_tar(folder, format=tarfile.PAX_FORMAT),
    "gnu.tar": lambda folder: plain_tar(folder, format=tarfile.GNU_FORMAT),
    "ustar.tar": lambda folder: plain_tar(folder, format=tarfile.USTAR_FORMAT),
    "zoo.tar.gz": lambda folder: gzip.compress(plain_tar(folder)),
    "zoo.tgz": lambda folder: gzip.compress(plain_tar(folder)),
    "zoo.gz": lambda folder: gzip.compress(plain_tar(folder)),
    "zoo.tar.xz": lambda folder: lzma.compress(plain_tar(folder)),
    "zoo.tar.bz2": lambda folder: bz2.compress(plain_tar(folder)),
    "zoo.tar.zst": lambda folder: zst(plain_tar(folder)),
    "xz_named_gz.tar.gz": lambda folder: lzma.compress(plain_tar(folder)),
    "stored.zip": lambda folder: packed.zipped(
        folder / "p", packed.files(), compression=zipfile.ZIP_STORED
    ).read_bytes(),
    "deflated.zip": zip_of,
    "bzipped.zip": lambda folder: packed.zipped(
        folder / "p", packed.files(), compression=zipfile.ZIP_BZIP2
    ).read_bytes(),
    "lzma.zip": lambda folder: zip_of(folder, zipfile.ZIP_LZMA),
    "named_tar.tar": zip_of,
    "zip_named.bin": zip_of,
    "with_a_head.zip": lambda folder: b"#!/bin/sh\nexit\n" + zip_of(folder),
}


@pytest.mark.parametrize("name", PACKINGS)
def test_every_packing_gives_the_same_zoo_whatever_its_name(tmp_path, name):
    content = PACKINGS[name](tmp_path)
    (tmp_path / name).write_bytes(content)
    packed.is_right(convert(tmp_path / name, tmp_path / "out", format="folder"))


def test_zip64_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "large.zip", "w") as archive:
        for name, content in packed.files().items():
            with archive.open(name, "w", force_zip64=True) as out:
                out.write(content)
    packed.is_right(convert(tmp_path / "large.zip", tmp_path / "out", format="folder"))


def test_a_tar_of_safetensors_is_read(tmp_path):
    contents = {f"zoo/c{seed}.safetensors": save(packed.state(seed)) for seed in (0, 1)}
    contents["zoo/models.csv"] = packed.TABLE.replace(".pt", ".safetensors").encode()
    packed.is_right(convert(packed.tarred(tmp_path / "zoo.tar", contents), tmp_path / "out", format="folder"))


def test_a_checkpoint_in_which_a_tar_seems_to_lie_is_a_checkpoint(tmp_path):
    """A plain tar of one .pt, the last member, so that the end of a zip lies just before the end of the tar."""
    contents = dict(sorted(packed.files().items(), reverse=True))
    packed.is_right(convert(packed.tarred(tmp_path / "zoo.tar", contents), tmp_path / "out", format="folder"))


NAMES = {
    "dots": lambda name: f"./zoo/./{name}",
    "double slashes": lambda name: f"zoo//{name}",
    "backslashes": lambda name: f"zoo\\runs\\{name}",
    "decomposed accents": lambda name: unicodedata.normalize("NFD", f"zoö/é/{name}"),
    "a long path": lambda name: "/".join(["folder" * 12] * 6) + f"/{name}",
    "spaces and signs": lambda name: f"a b/#1 [x] {{y}} 'z' & ;$/{name}",
    "other letters": lambda name: f"モデル/модель/{name}",
    "a line break": lambda name: f"one\ntwo/{name}",
}


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("how", NAMES)
def test_names_inside_an_archive_are_read_as_people_write_them(tmp_path, kind, how):
    contents = {NAMES[how](name): content for name, content in packed.files("").items()}
    pack = packed.zipped if kind == "zip" else packed.tarred
    packed.is_right(convert(pack(tmp_path / f"z.{kind}", contents), tmp_path / "out", format="folder"))


CLASSES = [
    "é",
    "e\u0301",
    "ß",
    "模型",
    "a b",
    "a,b",
    'a"b',
    "a'b",
    "a;b",
    "a#b",
    "a%20b",
    "a+b",
    "\uff41",
    "a\tb",
    "ıİ",
    "🦊",
]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("letters", CLASSES)
def test_odd_letters_mean_the_same_file_in_the_table_and_on_the_disk(tmp_path, letters, form):
    folder = tmp_path / "in"
    folder.mkdir()
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    rows = ["file,run,test_accuracy"]
    for seed, value in ((0, 0.5), (1, 0.75)):
        (folder / unicodedata.normalize(form, f"{letters}{seed}.pt")).write_bytes(ray.saved(packed.state(seed)))
        cell = unicodedata.normalize(other, f"{letters}{seed}.pt").replace('"', '""')
        rows.append(f'"{cell}",r{seed},{value}')
    (folder / "models.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    packed.is_right(convert(folder, tmp_path / "out", format="folder"))


def test_names_of_a_zip_of_macos_are_utf_8_without_its_mark(tmp_path):
    contents = {
        name.replace("c", "ç", 1): content for name, content in packed.files("").items() if name != "models.csv"
    }
    contents["models.csv"] = packed.TABLE.replace("c0", "ç0").replace("c1", "ç1").encode()
    content = packed.zipped(tmp_path / "p", contents).read_bytes()
    unmarked = bytearray(content)
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := content.find(signature, at + 1)) >= 0:
            if b"\xc3\xa7" in content[at : at + 60]:
                unmarked[at + flags + 1] &= ~0x08
    (tmp_path / "mac.zip").write_bytes(bytes(unmarked))
    packed.is_right(convert(tmp_path / "mac.zip", tmp_path / "out", format="folder"))


def test_names_that_differ_in_capitals_alone_are_two_files(tmp_path):
    contents = {"zoo/C0.pt": ray.saved(packed.state(5)), **packed.files()}
    for kind, pack in (("zip", packed.zipped), ("tar", packed.tarred)):
        packed.is_right(convert(pack(tmp_path / f"z.{kind}", contents), tmp_path / f"out_{kind}", format="folder"))


def test_links_inside_a_tar_are_the_files_that_they_lead_to(tmp_path):
    """As a packed cache of the Hub's client has them."""
    contents = packed.files("")
    with tarfile.open(tmp_path / "cache.tar", "w") as archive:
        for number, (name, content) in enumerate(contents.items()):
            blob = tarfile.TarInfo(f"cache/blobs/b{number}")
            blob.size = len(content)
            archive.addfile(blob, io.BytesIO(content))
            link = tarfile.TarInfo(f"cache/snapshots/main/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, f"../../blobs/b{number}"
            archive.addfile(link)
        latest = tarfile.TarInfo("cache/latest")
        latest.type, latest.linkname = tarfile.SYMTYPE, "snapshots/main"
        archive.addfile(latest)
    zoo = convert(tmp_path / "cache.tar", tmp_path / "out", format="folder")
    packed.is_right(zoo)
    assert any("cache/latest: is a link to a folder that is read under" in note for note in zoo.conversion.notes)


# Archives that are damaged or are something else.


def refused(path, tmp_path, *patterns):
    import re

    with pytest.raises(ZooError) as error:
        convert(path, tmp_path / "new" / "out", format="folder")
    text = str(error.value)
    assert "\n" not in text
    assert all(re.search(pattern, text) for pattern in patterns), text
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])  # the rest of the plain tar is its end
@pytest.mark.parametrize(
    "name", ["plain.tar", "zoo.tar.gz", "zoo.tar.xz", "zoo.tar.bz2", "zoo.tar.zst", "deflated.zip"]
)
def test_an_archive_that_is_cut_off_is_refused_by_name(tmp_path, name, share):
    content = PACKINGS[name](tmp_path)
    (tmp_path / name).write_bytes(content[: int(len(content) * share)])
    refused(tmp_path / name, tmp_path, name.replace(".", r"\."))


def test_a_tar_that_is_cut_between_two_members_is_refused(tmp_path):
    path = packed.tarred(tmp_path / "z.tar", packed.files())
    with tarfile.open(path) as archive:
        ends = [entry.offset_data + -(-entry.size // 512) * 512 for entry in archive]
    for end in ends:
        (tmp_path / "cut.tar").write_bytes(path.read_bytes()[:end])
        refused(tmp_path / "cut.tar", tmp_path, "is cut off after")


def test_a_tar_with_a_damaged_header_or_a_second_tar_behind_it_is_refused(tmp_path):
    path = packed.tarred(tmp_path / "z.tar", packed.files())
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1].offset
    content[last + 20] ^= 0xFF
    (tmp_path / "damaged.tar").write_bytes(bytes(content))
    refused(tmp_path / "damaged.tar", tmp_path, "goes on after .* with what is no member")
    (tmp_path / "two.tar").write_bytes(path.read_bytes() * 2)
    refused(tmp_path / "two.tar", tmp_path, "expected one undamaged tar")


def test_a_wrong_byte_in_a_large_stored_member_of_a_zip_is_found(tmp_path):
    weights = {"weight": torch.arange(400_000, dtype=torch.float32)}
    contents = {"c0.safetensors": save(weights), "models.csv": b"file,run\nc0.safetensors,a\n"}
    path = packed.zipped(tmp_path / "z.zip", contents, compression=zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[1_000_000] ^= 1
    path.write_bytes(bytes(content))
    refused(path, tmp_path, r"z\.zip/c0\.safetensors: is damaged \(its check sum")


def test_two_files_of_one_name_are_refused_by_both_names(tmp_path):
    contents = {**packed.files(), "zoo\\c0.pt": b"x"}
    refused(packed.tarred(tmp_path / "z.tar", contents), tmp_path, r"zoo\\\\c0\.pt", "which are one name")
    accents = {"é.pt": b"1", unicodedata.normalize("NFD", "é.pt"): b"2"}
    refused(packed.zipped(tmp_path / "z.zip", accents), tmp_path, "which are one name")


def test_an_archive_in_an_archive_is_named(tmp_path):
    inner = packed.zipped(tmp_path / "p", packed.files()).read_bytes()
    path = packed.zipped(tmp_path / "outer.zip", {"download/inner.zip": inner, "download/.DS_Store": b""})
    refused(path, tmp_path, "holds only archives", r"download/inner\.zip")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "zoo.tar.gz").write_bytes(PACKINGS["zoo.tar.gz"](tmp_path))
    refused(tmp_path / "in", tmp_path, r"holds only archives \(zoo\.tar\.gz\)")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("z.7z", b"7z\xbc\xaf\x27\x1c" + bytes(60), "is a 7z"),
        ("z.zip", b"Rar!\x1a\x07\x00" + bytes(60), "is a rar"),
        ("z.tar", b"<html>not found</html>", "is none: it begins with b'<html>no'"),
        ("z.tar.gz", b"", "is empty"),
    ],
)
def test_what_is_no_archive_that_can_be_read_is_said(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, tmp_path, message, "expected a folder, a .zip, a .tar")


def test_a_method_of_compression_that_is_not_known_is_named(tmp_path):
    path = packed.zipped(tmp_path / "z.zip", packed.files())
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 10 : at + 12] = (93).to_bytes(2, "little")
    path.write_bytes(bytes(content))
    refused(path, tmp_path, r"zoo/c0\.pt is compressed by method 93; expected stored, deflate")


# Links of folders.


def test_links_that_lead_out_of_a_folder_are_followed_and_said(tmp_path):
    for name, content in packed.files("").items():
        place = tmp_path / "cache" / "blobs" / name.replace(".", "_")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        link = tmp_path / "cache" / "snapshots" / "0123" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(place, link.parent))
    zoo = convert(tmp_path / "cache" / "snapshots" / "0123", tmp_path / "out", format="folder")
    packed.is_right(zoo)
    assert "c0.pt and 2 more: is read through a link that leads out of the folder" in zoo.conversion.notes


def test_a_folder_of_links_to_folders_is_followed_and_a_circle_refused(tmp_path):
    ray.folder(tmp_path / "disk", {"c0.pt": ray.saved(packed.state(0)), "c1.pt": ray.saved(packed.state(1))})
    table = packed.TABLE.replace("c0.pt", "runs/c0.pt").replace("c1.pt", "runs/c1.pt")
    folder = ray.folder(tmp_path / "in", {"models.csv": table.encode()})
    (folder / "runs").symlink_to(tmp_path / "disk")
    packed.is_right(convert(folder, tmp_path / "out", format="folder"))
    (tmp_path / "disk" / "again").symlink_to(folder)
    refused(folder, tmp_path, "runs/again: is a link to a folder that it lies in")


def test_a_link_that_leads_nowhere_matters_only_where_its_file_is_asked_for(tmp_path):
    folder = ray.folder(tmp_path / "in", packed.files(""))
    (folder / "latest.log").symlink_to("gone.log")
    packed.is_right(convert(folder, tmp_path / "out", format="folder"))
    (folder / "c1.pt").unlink()
    (folder / "c1.pt").symlink_to("../blobs/gone")
    refused(folder, tmp_path, r"c1\.pt: is a link to \.\./blobs/gone, which is not there", "--local-dir")


def test_a_read_only_folder_is_read(tmp_path):
    folder = ray.folder(tmp_path / "in", packed.files(""))
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        packed.is_right(convert(folder, tmp_path / "out", format="folder"))
    finally:
        folder.chmod(0o755)


def test_the_zoo_may_lie_in_the_folder_that_it_is_made_from(tmp_path, monkeypatch):
    folder = ray.folder(tmp_path / "in", packed.files(""))
    monkeypatch.chdir(folder)
    for _ in range(2):  # the second time it is there
        zoo = convert(".", format="folder")
        packed.is_right(zoo)
    assert zoo.path.resolve() == folder / "zoos" / "in"
    assert zoo.manifest.origin.members == 3
    with pytest.raises(ZooError, match="is the archive itself"):
        convert(".", ".", format="folder")
    atomic.tidy(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["c0.pt", "c1.pt", "models.csv", "zoos"]


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@pytest.mark.parametrize("name", ["c0.pt", "c1.safetensors", "models.csv"])
def test_a_pointer_of_git_lfs_is_named_wherever_a_file_is_read(tmp_path, kind, name):
    contents = packed.files("")
    if name.endswith("safetensors"):
        contents["models.csv"] = packed.TABLE.replace("c1.pt", "c1.safetensors").encode()
    contents[name] = POINTER
    pack = {"folder": ray.folder, "zip": packed.zipped, "tar": packed.tarred}[kind]
    path = pack(tmp_path / f"in.{kind}", contents)
    refused(path, tmp_path, name.replace(".", r"\."), "is a Git LFS pointer to a file of 12,345 bytes", "git lfs pull")


def test_an_archive_that_is_a_pointer_is_named(tmp_path):
    (tmp_path / "zoo.tar.gz").write_bytes(POINTER)
    refused(tmp_path / "zoo.tar.gz", tmp_path, r"zoo\.tar\.gz: is a Git LFS pointer")
