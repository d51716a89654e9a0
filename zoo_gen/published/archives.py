"""Archives read where they lie: a folder, a .zip, a .tar, a compressed .tar, or one file; all by one small interface.

Everything in an archive is untrusted. What could lead out of it (absolute names, "..", links, devices) or is not what
it says it is (bombs, overlapping or double members) refuses the archive as a whole, before anything of it is read. A
compressed tar cannot be read from the middle: it is expanded into one plain tar beside the output, never into files.
"""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

import numpy as np

from zoo_gen.errors import ZooError

MOST_EXPANSION = 200  # times that what is inside may exceed the archive; trained weights reach about 1.3, text 20
FREE_BYTES = 64 * 2**20  # below which no expansion is dangerous
MOST_MEMBERS = 20_000_000  # the largest published zoos have some ten million files
MOST_TEXT = 2 * 2**30  # of a member that is read whole
_COPY = 4 * 2**20
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, gzip.BadGzipFile, ValueError)
_COMPRESSED = {b"\x1f\x8b": "gz", b"\xfd7zXZ\x00": "xz", b"BZh": "bz2"}


@dataclass(frozen=True)
class Member:
    """One file of an archive: where its bytes begin, and how long it is when expanded."""

    size: int
    offset: int = -1  # in the file that holds it, where its bytes lie there as they are


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
        wanted = [tuple(pattern.split("/")) for pattern in patterns]
        return sorted(name for name in self.members if any(_matches(name, pattern) for pattern in wanted))

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
            yield _Window(plain, member.size)  # type: ignore[misc]

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
        found = hashlib.sha256()
        for name in sorted(self.members):
            found.update(f"{name}\0{self.members[name].size}\n".encode())
        return found.hexdigest()

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


class Rows:
    """The rows of a matrix in a file, read when asked for: what is mapped instead counts as memory once it is read."""

    def __init__(self, file: int, start: int, shape: tuple[int, int], dtype: np.dtype) -> None:
        self.shape, self.dtype = shape, dtype
        self._file, self._start, self._length = file, start, shape[1] * dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return 2

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return some rows (row, column), neighbours in one go."""
        found = np.empty((len(rows), self.shape[1]), dtype=self.dtype)
        ends = np.flatnonzero(np.diff(rows) != 1) + 1
        for first, last in zip([0, *ends], [*ends, len(rows)], strict=True):
            if first == last:
                continue
            view = memoryview(found[first:last].data).cast("B")
            position = self._start + int(rows[first]) * self._length
            while view:
                count = os.preadv(self._file, [view], position)
                if not count:
                    raise ZooError("weights.npy: ends before its last row")
                view, position = view[count:], position + count
        return found

    def __del__(self) -> None:
        os.close(self._file)


class _Window(io.RawIOBase):
    """The next `size` bytes of an open file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__()
        self._file, self._left = file, size

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        """Fill a buffer as far as the window reaches."""
        found = self._file.read(min(len(buffer), self._left))
        buffer[: len(found)] = found
        self._left -= len(found)
        return len(found)


@contextmanager
def open_archive(path: Path, scratch: Path) -> Iterator[Archive]:
    """Open an archive; a compressed tar is expanded into one file in `scratch`, and taken away by whoever made that.

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
        return Archive(path, "folder", _folder(path), path, threading.Lock())
    with path.open("rb") as file:
        start = file.read(512)
    is_torch = path.suffix in (".pt", ".pth", ".ckpt", ".bin", ".npy", ".safetensors", ".hdf5", ".h5")
    if zipfile.is_zipfile(path) and not is_torch:
        opened = zipfile.ZipFile(path)
        return Archive(path, "zip", _zip(path, opened), path, threading.Lock(), opened)
    kind = next((kind for magic, kind in _COMPRESSED.items() if start.startswith(magic)), None)
    if (kind is not None and ".tar" in path.name.lower()) or path.suffix.lower() in (".tgz", ".txz", ".tbz2"):
        plain = scratch / "expanded.tar"
        _decompress(path, plain, kind or "gz")
        return Archive(path, "tar", _tar(path, plain), plain, threading.Lock())
    if start[257:262] == b"ustar" or path.suffix.lower() == ".tar":
        return Archive(path, "tar", _tar(path, path), path, threading.Lock())
    size = path.stat().st_size
    return Archive(path, "file", {path.name: Member(size, 0)}, path, threading.Lock())


def _folder(path: Path) -> dict[str, Member]:
    found: dict[str, Member] = {}
    root = path.resolve()
    for folder, _, files in os.walk(path):
        for file in files:
            whole = Path(folder) / file
            name = whole.relative_to(path).as_posix()
            if whole.is_symlink() and not whole.resolve().is_relative_to(root):
                raise ZooError(f"{path}: {name} is a link that leads out of the folder; expected plain files")
            if whole.is_file():
                found[name] = Member(whole.stat().st_size, 0)
    return found


def _zip(path: Path, opened: zipfile.ZipFile) -> dict[str, Member]:
    found: dict[str, Member] = {}
    whole = path.stat().st_size
    entries = opened.infolist()
    _count(path, len(entries))
    _size(path, sum(entry.file_size for entry in entries), whole)
    if sum(entry.compress_size for entry in entries) > whole:
        raise ZooError(f"{path}: its members overlap; an archive that unpacks to more than it holds is refused")
    for entry in entries:
        if entry.is_dir():
            _safe(path, entry.filename)
            continue
        _safe(path, entry.filename)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise ZooError(f"{path}: {entry.filename} is a link or a device; expected plain files")
        if entry.flag_bits & 1:
            raise ZooError(f"{path}: {entry.filename} is encrypted; expected plain files")
        if entry.filename in found:
            raise ZooError(f"{path}: holds {entry.filename} twice")
        _size(f"{path}: {entry.filename}", entry.file_size, entry.compress_size)
        offset = -1
        if entry.compress_type == zipfile.ZIP_STORED and entry.file_size == entry.compress_size:
            offset = _stored_at(path, opened, entry)
        found[entry.filename] = Member(entry.file_size, offset)
    return found


def _stored_at(path: Path, opened: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int:
    """Return where the bytes of a stored member begin: after its local header, whose names may be longer."""
    if entry.file_size < FREE_BYTES // 64:
        return -1  # small ones are read through zipfile, which also checks their sum
    file = opened.fp
    assert file is not None
    file.seek(entry.header_offset)
    header = file.read(30)
    if header[:4] != b"PK\x03\x04":
        raise ZooError(f"{path}: {entry.filename} has no header where the archive says")
    start = entry.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    if start + entry.file_size > path.stat().st_size:
        raise ZooError(f"{path}: {entry.filename} is cut off")
    return start


def _tar(path: Path, plain: Path) -> dict[str, Member]:
    found: dict[str, Member] = {}
    whole = plain.stat().st_size
    with tarfile.open(plain, "r:") as opened:
        for number, entry in enumerate(opened):
            _count(path, number + 1)
            name = entry.name.removeprefix("./")
            if entry.isdir():
                _safe(path, entry.name, folder=True)
                continue
            _safe(path, name)
            if not entry.isreg() or entry.issparse():
                raise ZooError(f"{path}: {entry.name} is a link or a device; expected plain files")
            if name in found:
                raise ZooError(f"{path}: holds {name} twice")
            if entry.offset_data + entry.size > whole:
                raise ZooError(f"{path}: {entry.name} is cut off")
            found[name] = Member(entry.size, entry.offset_data)
    return found


def _decompress(path: Path, target: Path, kind: str) -> None:
    """Expand a compressed file to `target`, if that has not been done, as far as the expansion stays credible."""
    if target.exists():
        return
    whole = path.stat().st_size
    temporary = target.with_name(f".{target.name}.tmp")
    openers: dict[str, Callable[[Path], BinaryIO]] = {"gz": gzip.open, "xz": lzma.open, "bz2": bz2.open}  # type: ignore[dict-item]
    done = 0
    try:
        with openers[kind](path) as file, temporary.open("wb") as out:
            while block := file.read(_COPY):
                done += len(block)
                _size(path, done, whole)
                out.write(block)
    except ZooError:
        temporary.unlink()
        raise
    temporary.replace(target)


def _safe(path: Path, name: str, *, folder: bool = False) -> None:
    """Refuse a name that would lead out of the archive."""
    parts = PurePosixPath(name).parts
    leads_out = name.startswith(("/", "\\")) or ".." in parts or (len(name) > 1 and name[1] == ":")
    if leads_out or "\\" in name or "\0" in name or (not parts and not folder):
        raise ZooError(f"{path}: holds {name!r}, a name that leads out of the archive; expected relative names")


def _count(path: Path, count: int) -> None:
    if count > MOST_MEMBERS:
        raise ZooError(f"{path}: has more than {MOST_MEMBERS:,} members; expected a zoo")


def _size(where: object, expanded: int, packed: int) -> None:
    if expanded > FREE_BYTES and expanded > MOST_EXPANSION * max(packed, 1):
        raise ZooError(
            f"{where}: unpacks to more than {MOST_EXPANSION} times its {packed:,} bytes; expected trained weights, "
            "which hardly compress"
        )


def _matches(name: str, pattern: tuple[str, ...]) -> bool:
    parts = name.split("/")
    return len(parts) >= len(pattern) and all(map(fnmatchcase, parts[-len(pattern) :], pattern))


@contextmanager
def scratch_beside(out: Path) -> Iterator[Path]:
    """Make a folder beside `out` for what must be expanded, and take it away at the end."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.expanding.", dir=out.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def only(archive: Archive, names: Iterable[str], what: str) -> str:
    """Return the one name there is.

    Raises:
        ZooError: there is none, or there are several.
    """
    found = list(names)
    if len(found) != 1:
        several = f"{len(found)} ({', '.join(found[:3])}, ...)" if found else "none"
        raise ZooError(f"{archive.path}: expected one {what}, found {several}")
    return found[0]
