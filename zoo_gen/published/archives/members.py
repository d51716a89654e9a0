"""The members of an archive, and what refuses an archive as a whole before anything of it is read.

Refused are names that lead out of it, links and devices, members that are there twice or share their bytes, and
archives that are much smaller than what they say is inside.
"""

import io
import os
import stat
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from zoo_gen.errors import ZooError

MOST_EXPANSION = 100  # times that what is inside may exceed the archive; trained weights reach about 1.3, text 20
FREE_BYTES = 64 * 2**20  # below which no expansion is dangerous
MOST_MEMBERS = 20_000_000  # the largest published zoos have some ten million files


@dataclass(frozen=True)
class Member:
    """One file of an archive: where its bytes begin, and how long it is when expanded."""

    size: int
    offset: int = -1  # in the file that holds it, where its bytes lie there as they are


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
        block = np.empty((len(rows), self.shape[1]), dtype=self.dtype)
        ends = np.flatnonzero(np.diff(rows) != 1) + 1
        for first, last in zip([0, *ends], [*ends, len(rows)], strict=True):
            if first == last:
                continue
            view = memoryview(block[first:last].data).cast("B")
            position = self._start + int(rows[first]) * self._length
            while view:
                count = os.preadv(self._file, [view], position)
                if not count:
                    raise ZooError("weights.npy: ends before its last row")
                view, position = view[count:], position + count
        return block

    def __del__(self) -> None:
        os.close(self._file)


class Window(io.RawIOBase):
    """The next `size` bytes of an open file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__()
        self._file, self._left = file, size

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        """Fill a buffer as far as the window reaches."""
        content = self._file.read(min(len(buffer), self._left))
        buffer[: len(content)] = content
        self._left -= len(content)
        return len(content)


def of_folder(path: Path) -> dict[str, Member]:
    """Return the files of a folder.

    Raises:
        ZooError: it is not safe to read.
    """
    members: dict[str, Member] = {}
    root = path.resolve()
    for folder, _, files in os.walk(path):
        for file in files:
            whole = Path(folder) / file
            name = whole.relative_to(path).as_posix()
            if whole.is_symlink() and not whole.resolve().is_relative_to(root):
                raise ZooError(f"{path}: {name} is a link that leads out of the folder; expected plain files")
            if whole.is_file():
                members[name] = Member(whole.stat().st_size, 0)
    return members


def of_zip(path: Path, opened: zipfile.ZipFile) -> dict[str, Member]:
    """Return the files of a zip.

    Raises:
        ZooError: it is not safe to read.
    """
    members: dict[str, Member] = {}
    whole = path.stat().st_size
    entries = opened.infolist()
    _count(path, len(entries))
    check_size(path, sum(entry.file_size for entry in entries), whole)
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
        if entry.filename in members:
            raise ZooError(f"{path}: holds {entry.filename} twice")
        check_size(f"{path}: {entry.filename}", entry.file_size, entry.compress_size)
        offset = -1
        if entry.compress_type == zipfile.ZIP_STORED and entry.file_size == entry.compress_size:
            offset = _stored_at(path, opened, entry)
        members[entry.filename] = Member(entry.file_size, offset)
    return members


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


def of_tar(path: Path, plain: Path) -> dict[str, Member]:
    """Return the files of a plain tar `plain`, which messages call `path`.

    Raises:
        ZooError: it is not safe to read.
    """
    members: dict[str, Member] = {}
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
            if name in members:
                raise ZooError(f"{path}: holds {name} twice")
            if entry.offset_data + entry.size > whole:
                raise ZooError(f"{path}: {entry.name} is cut off")
            members[name] = Member(entry.size, entry.offset_data)
    return members


def _safe(path: Path, name: str, *, folder: bool = False) -> None:
    """Refuse a name that would lead out of the archive."""
    parts = PurePosixPath(name).parts
    leads_out = name.startswith(("/", "\\")) or ".." in parts or (len(name) > 1 and name[1] == ":")
    if leads_out or "\\" in name or "\0" in name or (not parts and not folder):
        raise ZooError(f"{path}: holds {name!r}, a name that leads out of the archive; expected relative names")


def _count(path: Path, count: int) -> None:
    if count > MOST_MEMBERS:
        raise ZooError(f"{path}: has more than {MOST_MEMBERS:,} members; expected a zoo")


def check_size(where: object, expanded: int, packed: int) -> None:
    """Refuse what expands to more than weights do.

    Raises:
        ZooError: it is not safe to read.
    """
    if expanded > FREE_BYTES and expanded > MOST_EXPANSION * max(packed, 1):
        raise ZooError(
            f"{where}: unpacks to more than {MOST_EXPANSION} times its {packed:,} bytes; expected trained weights, "
            "which hardly compress"
        )
