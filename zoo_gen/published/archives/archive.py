"""Archives read in place: a folder, a .zip, a .tar, a compressed .tar, or one file, all by one small interface.

The first bytes of an archive say what it is, never its name. Everything in it is untrusted; `folders`, `zips` and
`tars` say what refuses it. A compressed tar cannot be read from the middle: it is expanded into one plain tar beside
the output, never into files. Some zoos are published as an archive and a table of its runs beside it: a folder most of
whose bytes lie in its one archive is that archive, with the other files beside it.
"""

import gzip
import hashlib
import io
import lzma
import os
import shutil
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from zoo_gen.errors import ZooError, one_line
from zoo_gen.files import git_lfs
from zoo_gen.published.archives import compressed, folders, tars, zips
from zoo_gen.published.archives.members import Member, MemberList, Rows, Window, printable

MOST_TEXT = 2 * 2**30  # of a member that is read whole
_COPY = 4 * 2**20
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    gzip.BadGzipFile,
    ValueError,
    NotImplementedError,
    RuntimeError,
)
# Files that are read as one, also where they are zips themselves.
_ONE_FILE = (".pt", ".pth", ".ckpt", ".bin", ".npy", ".safetensors", ".hdf5", ".h5")
_PACKED = (
    ".zip",
    ".tar",
    ".tgz",
    ".txz",
    ".tbz2",
    ".tzst",
    ".tar.gz",
    ".tar.xz",
    ".tar.bz2",
    ".tar.zst",
    ".7z",
    ".rar",
)
_FOREIGN = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "rar"}


@dataclass(frozen=True)
class Archive:
    """The files of an archive by their names, which are relative and use "/"."""

    path: Path
    kind: Literal["folder", "zip", "tar", "file"]
    members: dict[str, Member]
    holder: Path  # the file that members with an offset lie in
    lock: threading.Lock = field(default_factory=threading.Lock)  # of the one open zip, which threads share
    opened: zipfile.ZipFile | None = None
    _remarks: dict[str, dict[str, None]] = field(default_factory=dict)  # text -> the members that it is true of

    def named(self, *patterns: str) -> list[str]:
        """Return the names whose last parts match one of the patterns ("weights.npy", "weights/*.bin"), sorted."""
        endings = [tuple(pattern.split("/")) for pattern in patterns]
        return sorted(name for name in self.members if any(_matches(name, pattern) for pattern in endings))

    def read(self, name: str, *, most: int = MOST_TEXT) -> bytes:
        """Return the bytes of a member.

        Raises:
            ZooError: it is not there, is damaged, is a pointer of Git LFS, or is larger than `most`.
        """
        member = self._member(name)
        if member.size > most:
            raise ZooError(f"{self.where(name)}: has {member.size:,} bytes; expected at most {most:,}")
        try:
            with self.open(name) as file:
                content = file.read(member.size + 1)
        except DAMAGED as error:
            raise ZooError(f"{self.where(name)}: is damaged ({one_line(error)})") from None
        if len(content) != member.size:
            raise ZooError(f"{self.where(name)}: has other bytes than the {member.size:,} that the archive says")
        if member.sum is not None and member.offset >= 0 and zlib.crc32(content) != member.sum:
            raise ZooError(f"{self.where(name)}: is damaged (its check sum is not what the archive says)")
        return content

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a member for reading from its beginning.

        Raises:
            ZooError: it is not there, or is a pointer of Git LFS.
        """
        member = self._member(name)
        if self.kind == "zip" and member.offset < 0 and member.beside is None:
            assert self.opened is not None
            with self.lock:  # zipfile seeks in one file for all
                file = self.opened.open(member.at)
            with file:
                yield self._no_pointer(file, name)  # type: ignore[arg-type]
            return
        with self.file_of(name).open("rb") as plain:
            plain.seek(max(member.offset, 0))
            yield self._no_pointer(Window(plain, member.size), name)  # type: ignore[arg-type]

    def rows(self, name: str, scratch: Path) -> "Rows | np.ndarray":
        """Return the array of a .npy member without reading it; one that is compressed is first expanded to `scratch`.

        Raises:
            ZooError: it is no .npy of numbers, or is cut off.
        """
        member = self._member(name)
        holder, offset = self.file_of(name), max(member.offset, 0)
        if self.kind == "zip" and member.offset < 0 and member.beside is None:
            holder, offset = self.on_disk(name, scratch), 0
        try:
            with holder.open("rb") as file:
                file.seek(offset)
                git_lfs.check(file.read(min(member.size, git_lfs.MOST_BYTES)), where=self.where(name))
                file.seek(offset)
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, fortran, dtype = read(file)
                start = file.tell()
        except (ValueError, OSError, EOFError) as error:
            raise ZooError(f"{self.where(name)}: is not a .npy file ({error})") from None
        if dtype.hasobject or dtype.kind not in "fiu":
            raise ZooError(f"{self.where(name)}: holds {dtype}; expected numbers, since objects would have to be run")
        if start - offset + int(np.prod(shape, dtype=object)) * dtype.itemsize > member.size:
            raise ZooError(f"{self.where(name)}: is cut off; its header says shape {shape}")
        if fortran or len(shape) != 2:
            order: Literal["F", "C"] = "F" if fortran else "C"
            return np.memmap(holder, dtype=dtype, mode="r", offset=start, shape=shape, order=order)
        return Rows(os.open(holder, os.O_RDONLY), start, shape, dtype)

    def listing_sha256(self) -> str:
        """Return the SHA-256 (hex) of the names and sizes of all members."""
        digest = hashlib.sha256()
        for name in sorted(self.members):
            digest.update(f"{name}\0{self.members[name].size}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def where(self, name: str) -> str:
        """Return how a message names a member."""
        beside = self.members[name].beside if name in self.members else None
        if beside is not None:
            return f"{beside.parent}/{printable(beside.name)}"
        return f"{self.path}/{printable(name)}" if self.kind != "file" else str(self.path)

    def file_of(self, name: str) -> Path:
        """Return the file on the disk that holds a member: its own in a folder, the archive otherwise."""
        member = self._member(name)
        return member.beside or (self.path / member.at if self.kind == "folder" else self.holder)

    def remark(self, text: str, name: str) -> None:
        """Note that something of a member was not kept, or became something else; the conversion says so at its end."""
        with self.lock:
            self._remarks.setdefault(text, {})[name] = None

    def remarks(self) -> list[str]:
        """Return what was noted, a line each: the first member that it is about, and of how many it is true."""
        return [
            f"{printable(next(iter(names)))}{f' and {len(names) - 1:,} more' if len(names) > 1 else ''}: {text}"
            for text, names in self._remarks.items()
        ]

    def close(self) -> None:
        """Close what is open."""
        if self.opened is not None:
            self.opened.close()

    def _member(self, name: str) -> Member:
        if name not in self.members:
            raise ZooError(f"{self.path}: has no {printable(name)}")
        member = self.members[name]
        if member.leads_to:
            raise ZooError(
                f"{self.where(name)}: is a link to {printable(member.leads_to)}, which is not there; expected the file "
                "itself: a copy that follows links (cp -rL, rsync -L), or a download with --local-dir"
            )
        return member

    def _no_pointer(self, file: BinaryIO, name: str) -> BinaryIO:
        """Return an open member; a small one is read, to be told from a pointer of Git LFS."""
        if self._member(name).size > git_lfs.MOST_BYTES:
            return file
        content = file.read(git_lfs.MOST_BYTES + 1)
        git_lfs.check(content, where=self.where(name))
        return io.BytesIO(content)

    def on_disk(self, name: str, scratch: Path) -> Path:
        """Return a file that holds a member and nothing else: where it lies, or a copy in `scratch`, made once."""
        member = self._member(name)
        if self.kind in ("folder", "file") or member.beside is not None:
            path = self.file_of(name)
            git_lfs.check_file(path)
            return path
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        target = scratch / f"{digest}{Path(name).suffix[:20]}"  # a member's own name may be longer than a disk takes
        if target.exists() and target.stat().st_size == member.size:
            return target
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            with self.open(name) as file, temporary.open("wb") as out:
                shutil.copyfileobj(file, out, _COPY)
        except DAMAGED as error:
            raise ZooError(f"{self.where(name)}: is damaged ({one_line(error)})") from None
        return temporary.replace(target)


@contextmanager
def open_archive(path: Path, scratch: Path, *, without: Collection[Path] = ()) -> Iterator[Archive]:
    """Open an archive; a compressed tar is expanded into one file in `scratch`, which the caller removes.

    Args:
        path: the archive.
        scratch: a folder.
        without: folders inside a folder that are none of its files, such as the zoo that is made from it.

    Raises:
        ZooError: there is nothing, it is no archive, or it is not safe to read; the message says what was found.
    """
    if not path.exists():
        raise ZooError(f"{path}: no such file or folder; expected an archive")
    try:
        archive = _open(path, scratch, without)
    except DAMAGED as error:
        raise ZooError(f"{path}: is damaged or not the archive it seems to be ({one_line(error)})") from None
    try:
        _check_holds_files(archive)
        yield archive
    finally:
        archive.close()


def _open(path: Path, scratch: Path, without: Collection[Path]) -> Archive:
    if path.is_dir():
        listing = folders.list_folder(path, without=[*without, scratch])
        archive = _archive_with_files_beside(path, listing, scratch)
        return _noted(archive or Archive(path, "folder", listing.members, path), listing)
    git_lfs.check_file(path)
    with path.open("rb") as file:
        start = file.read(tarfile.BLOCKSIZE)
    alone = Archive(path, "file", {path.name: Member(path.stat().st_size, 0, at=path.name)}, path)
    one_file = path.suffix.lower() in _ONE_FILE
    is_tar = tars.begins(start)  # of checkpoints it ends as a zip does
    is_zip = path.suffix.lower() == ".zip" and not is_tar and zipfile.is_zipfile(path)  # behind something else
    if start.startswith(zips.BEGINNINGS) or is_zip:
        return alone if one_file and not zipfile.is_zipfile(path) else _open_zip(path) or alone
    kind = compressed.kind_of(start)
    if kind is not None and (compressed.names_tar(path) or compressed.holds_tar(path, kind)):
        plain = scratch / "expanded.tar"
        compressed.expand(path, plain, kind)
        listing = tars.list_tar(path, plain)
        return _noted(Archive(path, "tar", listing.members, plain), listing)
    if is_tar or (path.suffix.lower() == ".tar" and not start.strip(b"\0") and start):
        listing = tars.list_tar(path, path)
        return _noted(Archive(path, "tar", listing.members, path), listing)
    foreign = next((kind for magic, kind in _FOREIGN.items() if start.startswith(magic)), None)
    if foreign or path.name.lower().endswith(_PACKED):
        nature = f"is a {foreign}" if foreign else f"is none: it begins with {start[:8]!r}" if start else "is empty"
        raise ZooError(f"{path}: {nature}; expected a folder, a .zip, a .tar, or a .tar.gz, .xz, .bz2, .zst or .lz4")
    return alone


def _archive_with_files_beside(path: Path, listing: MemberList, scratch: Path) -> Archive | None:
    """Return the archive that a folder holds, with its other files; None where it holds more than one archive's."""
    packed = [name for name in listing.members if name.lower().endswith(_PACKED)]
    others = {name: member for name, member in listing.members.items() if name not in packed}
    if len(packed) != 1 or not others:
        return None
    inner = listing.members[packed[0]]
    if inner.leads_to or inner.size <= sum(member.size for member in others.values()):
        return None
    archive = _open(path / inner.at, scratch, ())
    twice = next((name for name in others if name in archive.members), None)
    if twice is not None:
        archive.close()
        raise ZooError(f"{path}: {printable(twice)} is also in {printable(packed[0])}; expected one of them")
    archive.members.update({name: replace(other, beside=path / other.at) for name, other in others.items()})
    return archive


def _open_zip(path: Path) -> Archive | None:
    """Return an opened zip; None where it is one checkpoint of torch."""
    opened = zipfile.ZipFile(path)
    try:
        if zips.is_checkpoint(opened):
            opened.close()
            return None
        listing = zips.list_zip(path, opened)
        return _noted(Archive(path, "zip", listing.members, path, opened=opened), listing)
    except BaseException:
        opened.close()
        raise


def _noted(archive: Archive, listing: MemberList) -> Archive:
    for name, text in listing.remarks:
        archive.remark(text, name)
    return archive


def _check_holds_files(archive: Archive) -> None:
    """Refuse an archive that holds other archives and nothing else."""
    files = [name for name in archive.members if not name.rpartition("/")[2].startswith(".")]
    if files and archive.kind != "file" and all(name.lower().endswith(_PACKED) for name in files):
        inner = ", ".join(map(printable, sorted(files)[:3])) + (", ..." if len(files) > 3 else "")
        raise ZooError(f"{archive.path}: holds only archives ({inner}); expected one of them itself, taken out of it")


def _matches(name: str, pattern: tuple[str, ...]) -> bool:
    parts = name.split("/")
    return len(parts) >= len(pattern) and all(map(fnmatchcase, parts[-len(pattern) :], pattern))


def only(archive: Archive, names: Iterable[str], what: str) -> str:
    """Return the one name there is.

    Raises:
        ZooError: there is none, or there are several.
    """
    matches = list(names)
    if len(matches) != 1:
        several = f"{len(matches)} ({', '.join(matches[:3])}, ...)" if matches else "none"
        raise ZooError(f"{archive.path}: expected one {what}, found {several}")
    return matches[0]
