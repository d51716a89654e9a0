"""The members of an archive: where their bytes lie, by which names they go, and how they are read without unpacking.

A name is kept as people write it: parts joined by "/", accents composed (NFC), whatever the archive or the disk has.
"""

import io
import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from zoo_gen.errors import ZooError

MOST_EXPANSION = 100  # times that what is inside may exceed the archive; trained weights reach about 1.3, text 20
FREE_BYTES = 64 * 2**20  # below which no expansion is dangerous
MOST_MEMBERS = 20_000_000  # the largest published zoos have some ten million files
LISTED_ITSELF = "is a link to a folder that is read under its own name"
_MOST_LINKS = 40  # that may lead to each other one after another, as Linux has it
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class Member:
    """One file of an archive: where its bytes begin, and how long it is when expanded."""

    size: int
    offset: int = -1  # in the file that holds it, where its bytes lie there as they are
    at: str = ""  # what the archive or the disk calls it
    sum: int | None = None  # CRC-32 of its bytes, where the archive says it
    leads_to: str = ""  # of a link: the target, which is not there
    beside: Path | None = None  # the file that it is, where it lies beside the archive


class MemberList:
    """The members of one archive as they are found: safe names, each once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.members: dict[str, Member] = {}
        self.remarks: list[tuple[str, str]] = []  # name, and what became of it
        self._links: dict[str, tuple[str, str]] = {}  # name of a link -> what it says, and the name that this means

    def add(self, raw: str, member: Member) -> None:
        """Add a file by the name that the archive has for it.

        Raises:
            ZooError: the name leads out of the archive or is there already, or there are too many.
        """
        name = plain_name(self.path, raw)
        if name in self.members or name in self._links:
            raise self.twice(raw, name)
        if len(self.members) >= MOST_MEMBERS:
            raise ZooError(f"{self.path}: has more than {MOST_MEMBERS:,} members; expected a zoo")
        self.members[name] = member

    def check(self, raw: str) -> None:
        """Refuse the name of a folder that leads out of the archive; its own top ("./") does not."""
        if raw.strip("./\\") or ".." in raw or raw.startswith(("/", "\\")):
            plain_name(self.path, raw)

    def add_link(self, raw: str, target: str, *, from_root: bool = False) -> None:
        """Add a link to another member, which is looked up when all are known."""
        name = plain_name(self.path, raw)
        if name in self.members or name in self._links:
            raise self.twice(raw, name)
        folder = "" if from_root else name.rpartition("/")[0]
        text = unicodedata.normalize("NFC", target.replace("\\", "/"))
        self._links[name] = target, os.path.normpath(f"{folder}/{text}" if folder else text)

    def resolve(self) -> "MemberList":
        """Make links what they lead to, and return itself.

        Raises:
            ZooError: a link leads to what is no file of the archive.
        """
        if not self._links:
            return self
        folders = {name[:end] for name in (*self.members, *self._links) for end in _slashes(name)}
        for name, (target, first) in self._links.items():
            meant, steps = first, 0
            while meant in self._links and steps < _MOST_LINKS:  # a link may lead to a link
                meant, steps = self._links[meant][1], steps + 1
            if meant in self.members:
                self.members[name] = self.members[meant]
            elif meant in folders:
                self.remarks.append((name, LISTED_ITSELF))
            else:
                raise ZooError(
                    f"{self.path}: {printable(name)} is a link or a device, to {printable(target)}, which is no file "
                    "of the archive; expected plain files"
                )
        return self

    def twice(self, raw: str, name: str) -> ZooError:
        """Return what to say of a second file of one name."""
        other = self.members[name].at if name in self.members else name
        if other in ("", raw):
            return ZooError(f"{self.path}: holds {printable(name)} twice; expected each file once")
        return ZooError(f"{self.path}: holds {raw!a} and {other!a}, which are one name; expected each file once")


def plain_name(path: Path, raw: str) -> str:
    """Return the name of a member as people write it.

    Raises:
        ZooError: it would lead out of the archive `path`.
    """
    text = raw.replace("\\", "/")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if text.startswith("/") or ".." in parts or _DRIVE.match(text) or "\0" in text or not parts:
        raise ZooError(f"{path}: holds {raw!r}, a name that leads out of the archive; expected relative names")
    return unicodedata.normalize("NFC", "/".join(parts))


def printable(name: str) -> str:
    """Return a name for a message of one line: what cannot be printed is written as an escape.

    >>> printable("a\\nb")
    'a\\\\nb'
    """
    if name.isprintable():
        return name
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in name)


def check_size(where: object, expanded: int, packed: int) -> None:
    """Refuse what expands to more than weights do."""
    if expanded > FREE_BYTES and expanded > MOST_EXPANSION * max(packed, 1):
        raise ZooError(
            f"{where}: unpacks to more than {MOST_EXPANSION} times its {packed:,} bytes; expected trained weights, "
            "which hardly compress"
        )


def _slashes(name: str) -> list[int]:
    return [position for position, character in enumerate(name) if character == "/"]


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
