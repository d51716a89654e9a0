"""Archives read in place: a folder, a .zip, a .tar, a compressed .tar, or one file, all by one small interface.

Everything in an archive is untrusted; `members` says what refuses it. A compressed tar cannot be read from the middle:
it is expanded into one plain tar beside the output, never into files.
"""

import bz2
import gzip
import hashlib
import lzma
import os
import shutil
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from zoo_gen.errors import ZooError
from zoo_gen.published.archives.members import Member, Rows, Window, check_size, of_folder, of_tar, of_zip

MOST_TEXT = 2 * 2**30  # of a member that is read whole
_COPY = 4 * 2**20
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, gzip.BadGzipFile, ValueError)
_OPENERS: dict[str, Callable[[Path], Any]] = {"gz": gzip.open, "xz": lzma.open, "bz2": bz2.open}
_COMPRESSED = {b"\x1f\x8b": "gz", b"\xfd7zXZ\x00": "xz", b"BZh": "bz2"}


@dataclass(frozen=True)
class Archive:
    """The files of an archive by their names, which are relative and use "/"."""

    path: Path
    kind: Literal["folder", "zip", "tar", "file"]
    members: dict[str, Member]
    holder: Path  # the file that members with an offset lie in
    lock: threading.Lock  # of the one open zip, which threads share
    opened: zipfile.ZipFile | None = None

    def named(self, *patterns: str) -> list[str]:
        """Return the names whose last parts match one of the patterns ("weights.npy", "weights/*.bin"), sorted."""
        endings = [tuple(pattern.split("/")) for pattern in patterns]
        return sorted(name for name in self.members if any(_matches(name, pattern) for pattern in endings))

    def read(self, name: str, *, most: int = MOST_TEXT) -> bytes:
        """Return the bytes of a member.

        Raises:
            ZooError: it is not there, is damaged, or is larger than `most`.
        """
        member = self._member(name)
        if member.size > most:
            raise ZooError(f"{self.where(name)}: has {member.size:,} bytes; expected at most {most:,}")
        try:
            with self.open(name) as file:
                content = file.read(member.size + 1)
        except _DAMAGED as error:
            raise ZooError(f"{self.where(name)}: is damaged ({error})") from None
        if len(content) != member.size:
            raise ZooError(f"{self.where(name)}: has other bytes than the {member.size:,} that the archive says")
        return content

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a member for reading from its beginning.

        Raises:
            ZooError: it is not there.
        """
        member = self._member(name)
        if self.kind == "zip" and member.offset < 0:
            assert self.opened is not None
            with self.lock:  # zipfile seeks in one file for all
                file = self.opened.open(name)
            with file:
                yield file  # type: ignore[misc]
            return
        with self._file(name).open("rb") as plain:
            plain.seek(max(member.offset, 0))
            yield Window(plain, member.size)  # type: ignore[misc]

    def rows(self, name: str, scratch: Path) -> "Rows | np.ndarray":
        """Return the array of a .npy member without reading it; one that is compressed is first expanded to `scratch`.

        Raises:
            ZooError: it is no .npy of numbers, or is cut off.
        """
        member = self._member(name)
        holder, offset = self._file(name), max(member.offset, 0)
        if self.kind == "zip" and member.offset < 0:
            holder, offset = scratch / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.npy", 0
            if not holder.exists() or holder.stat().st_size != member.size:
                self._expand(name, holder)
        try:
            with holder.open("rb") as file:
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
            digest.update(f"{name}\0{self.members[name].size}\n".encode())
        return digest.hexdigest()

    def where(self, name: str) -> str:
        """Return how a message names a member."""
        return f"{self.path}/{name}" if self.kind != "file" else str(self.path)

    def close(self) -> None:
        """Close what is open."""
        if self.opened is not None:
            self.opened.close()

    def _member(self, name: str) -> Member:
        if name not in self.members:
            raise ZooError(f"{self.path}: has no {name}")
        return self.members[name]

    def _file(self, name: str) -> Path:
        return self.path / name if self.kind == "folder" else self.holder

    def _expand(self, name: str, target: Path) -> None:
        temporary = target.with_name(f".{target.name}.tmp")
        with self.open(name) as file, temporary.open("wb") as out:
            shutil.copyfileobj(file, out, _COPY)
        temporary.replace(target)


@contextmanager
def open_archive(path: Path, scratch: Path) -> Iterator[Archive]:
    """Open an archive; a compressed tar is expanded into one file in `scratch`, and which the caller removes.

    Raises:
        ZooError: there is nothing, it is no archive, or it is not safe to read; the message says what was found.
    """
    if not path.exists():
        raise ZooError(f"{path}: no such file or folder; expected an archive")
    try:
        archive = _open(path, scratch)
    except _DAMAGED as error:
        raise ZooError(f"{path}: is damaged or not the archive it seems to be ({error})") from None
    try:
        yield archive
    finally:
        archive.close()


def _open(path: Path, scratch: Path) -> Archive:
    if path.is_dir():
        return Archive(path, "folder", of_folder(path), path, threading.Lock())
    with path.open("rb") as file:
        start = file.read(512)
    is_torch = path.suffix in (".pt", ".pth", ".ckpt", ".bin", ".npy", ".safetensors", ".hdf5", ".h5")
    if zipfile.is_zipfile(path) and not is_torch:
        opened = zipfile.ZipFile(path)
        return Archive(path, "zip", of_zip(path, opened), path, threading.Lock(), opened)
    kind = next((kind for magic, kind in _COMPRESSED.items() if start.startswith(magic)), None)
    if kind is not None and (".tar" in path.name.lower() or _holds_tar(path, kind)):
        plain = scratch / "expanded.tar"
        _decompress(path, plain, kind)
        return Archive(path, "tar", of_tar(path, plain), plain, threading.Lock())
    if start[257:262] == b"ustar" or path.suffix.lower() == ".tar":
        return Archive(path, "tar", of_tar(path, path), path, threading.Lock())
    size = path.stat().st_size
    return Archive(path, "file", {path.name: Member(size, 0)}, path, threading.Lock())


def _holds_tar(path: Path, kind: str) -> bool:
    """Return whether a compressed file begins as a tar does, whatever its name."""
    with _OPENERS[kind](path) as file:
        return file.read(512)[257:262] == b"ustar"


def _decompress(path: Path, target: Path, kind: str) -> None:
    """Expand a compressed file to `target`, if that has not been done, as far as the expansion stays credible."""
    if target.exists():
        return
    whole = path.stat().st_size
    temporary = target.with_name(f".{target.name}.tmp")
    done = 0
    try:
        with _OPENERS[kind](path) as file, temporary.open("wb") as out:
            while block := file.read(_COPY):
                done += len(block)
                check_size(path, done, whole)
                out.write(block)
    except ZooError:
        temporary.unlink()
        raise
    temporary.replace(target)


def _matches(name: str, pattern: tuple[str, ...]) -> bool:
    parts = name.split("/")
    return len(parts) >= len(pattern) and all(map(fnmatchcase, parts[-len(pattern) :], pattern))


@contextmanager
def scratch_beside(out: Path) -> Iterator[Path]:
    """Make a folder beside `out` for what must be expanded, and remove it at the end."""
    out.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{out.name}.expanding."
    with tempfile.TemporaryDirectory(prefix=prefix, dir=out.parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


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
