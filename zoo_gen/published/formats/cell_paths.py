"""The files that cells of a table name: as they stand there, or with paths of the machine that wrote the table.

A path that is longer or shorter than the file's is taken only where all rows have or lack the same folders, so that the
file of another run never stands in for one that is missing.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from posixpath import commonpath, normpath
from urllib.parse import unquote

from zoo_gen.published.archives.names import path_ends

_URL = re.compile(r"file://(localhost)?(?=/)", re.IGNORECASE)
WEIGHTS_OF_FOLDERS = ("model.safetensors", "pytorch_model.bin")
_ABSOLUTE = re.compile(r"[A-Za-z]:(?=/)|~(?=/)|//?|[a-z0-9]+://")  # a drive, a home, a root or share, an object store


class Files:
    """The files that a table may name.

    Args:
        names: of all of them.
        table: the name of the table; what a cell names may lie relative to it.
    """

    def __init__(self, names: Sequence[str], table: str) -> None:
        self._names = set(names)
        self._folder = plain(table).rpartition("/")[0]
        whole = {name: plain(name) for name in names}
        top = commonpath([path.rpartition("/")[0] for path in (*whole.values(), plain(table))])
        self._whole = _Index(whole)
        roots = [f"{root}/" for root in {self._folder, top} if root]
        below = {
            name: next((path[len(r) :] for r in roots if path.startswith(r)), path) for name, path in whole.items()
        }
        self._below = _Index(below)
        self._ends = path_ends({path: name for name, path in whole.items()})
        self._ends |= {
            k: v for k, v in path_ends({_stem(p): n for n, p in whole.items()}).items() if k not in self._ends
        }

    def named(self, cells: Sequence[str]) -> list[str | None]:
        """Return the file that each cell names, None where there is none or it is not certain which."""
        exact = [self._exact(cell) for cell in cells]
        lacking = [row for row, name in enumerate(exact) if name is None]
        if not lacking:
            return exact
        is_mixed = len(lacking) < len(cells)
        longer = {row: self._longer(cells[row], only_absolute=is_mixed) for row in lacking}
        pairs = [pair for pair in longer.values() if pair]
        if pairs and _is_one({before for _, before in pairs}, {name.rpartition("/")[0] for name, _ in pairs}):
            return [name or (pair[0] if (pair := longer[row]) else None) for row, name in enumerate(exact)]
        if not is_mixed and not pairs:
            shorter = [self._shorter(cell) for cell in cells]
            if len({pair[1] for pair in shorter if pair}) == 1:
                return [pair[0] if pair else None for pair in shorter]
        return exact

    def _exact(self, cell: str) -> str | None:
        """Return the file that a cell names relative to the table or to the whole, with or without its ending."""
        if cell in self._names:
            return cell
        path = plain(cell)
        beside = normpath(f"{self._folder}/{path}") if self._folder else path
        return self._whole.get(beside) or self._whole.get(path) or self._inside(beside) or self._inside(path)

    def _inside(self, folder: str) -> str | None:
        """Return the weights in a folder that accelerate or a trainer saved, by the names that these give them."""
        return next((name for leaf in WEIGHTS_OF_FOLDERS if (name := self._whole.get(f"{folder}/{leaf}"))), None)

    def _longer(self, cell: str, *, only_absolute: bool) -> tuple[str, str] | None:
        """Return the file whose path a cell ends with, and what the cell says before it."""
        path = plain(cell)
        if only_absolute and not _ABSOLUTE.match(_with_slashes(cell)):
            return None
        parts = path.strip("/").split("/")
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            name = self._whole.get(end) or self._below.get(end)
            if name is not None:
                return name, "/".join(parts[:start])
        return None

    def _shorter(self, cell: str) -> tuple[str, str] | None:
        """Return the only file whose path ends with what a cell says, and the folders that the cell leaves out."""
        path = plain(cell).strip("/")
        name = self._ends.get(path)
        return None if name is None else (name, plain(name).rpartition(path)[0])


class _Index:
    """Files by their path, and by it without the ending or in small letters where that names only one."""

    def __init__(self, path_of: dict[str, str]) -> None:
        self._maps: list[dict[str, str | None]] = []
        for key in (str, _stem, str.casefold, lambda path: _stem(path).casefold()):
            index: dict[str, str | None] = {}
            for name, path in path_of.items():
                index[key(path)] = None if key(path) in index else name
            self._maps.append(index)

    def get(self, path: str) -> str | None:
        whole, stems, folded, folded_stems = self._maps
        if path in whole:
            return whole[path]
        return stems.get(path) or folded.get(path.casefold()) or folded_stems.get(path.casefold())


def plain(path: str) -> str:
    """Return a path as it is compared: slashes, composed accents, no drive, no "./" and no address before it.

    >>> plain("C:\\\\zoo\\\\.\\\\run 1\\\\a.pt"), plain("file:///zoo/run%201/a.pt")
    ('/zoo/run 1/a.pt', '/zoo/run 1/a.pt')
    """
    text = unicodedata.normalize("NFC", _with_slashes(path).strip())
    if _URL.match(text):
        text = unquote(_URL.sub("", text))
    text = re.sub(r"^([A-Za-z]:|~)(?=/)", "", text)
    return normpath(re.sub(r"^//+", "/", text)) if text else ""


def _with_slashes(path: str) -> str:
    return path.replace("\\", "/")


def _stem(path: str) -> str:
    folder, slash, last = path.rpartition("/")
    return folder + slash + (last.rpartition(".")[0] or last)


def _is_one(before: Iterable[str], folders: Iterable[str]) -> bool:
    """Return whether cells drop the same folders, or name files that all lie in one."""
    return len(set(before)) == 1 or len(set(folders)) == 1
