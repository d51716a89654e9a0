"""The files of a folder on the disk, links followed: to another disk, or to the cache of the Hub's client.

The folder is the user's own, so that a link in it is meant; one that closes a circle or leads nowhere is named.
"""

import os
from collections.abc import Collection
from pathlib import Path

from zoo_gen.errors import ZooError
from zoo_gen.published.archives.members import LISTED_ITSELF, Member, MemberList

_LED_OUT = "is read through a link that leads out of the folder"
_MOST_LINKED = 100_000  # folders behind links, which may multiply each other


def list_folder(path: Path, *, without: Collection[Path] = ()) -> MemberList:
    """Return the files of a folder.

    Args:
        path: the folder.
        without: folders in it that are none of its files, such as the zoo that is made from it.

    Raises:
        ZooError: a folder cannot be read, a link closes a circle, or two files have one name.
    """
    listing = MemberList(path)
    left_out = {_identity(folder) for folder in without if folder.exists()}
    root, linked = path.resolve(), 0
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(path, frozenset({_identity(path)}))]
    while waiting:
        folder, above = waiting.pop()
        for entry in _entries(folder):
            whole = folder / entry.name
            raw = _decoded(whole.relative_to(path))
            if entry.is_symlink() and not whole.exists():
                listing.add(raw, Member(0, 0, at=str(whole.relative_to(path)), leads_to=str(whole.readlink())))
                continue
            if entry.is_symlink() and not whole.resolve().is_relative_to(root):
                listing.remarks.append((raw, _LED_OUT))
            if entry.is_file():
                listing.add(raw, Member(entry.stat().st_size, 0, at=str(whole.relative_to(path))))
            elif entry.is_dir():
                identity = _identity(whole)
                if identity in above:
                    raise ZooError(f"{whole}: is a link to a folder that it lies in; expected no circle of links")
                if entry.is_symlink():
                    linked += 1
                    if whole.resolve().is_relative_to(root):
                        listing.remarks.append((raw, LISTED_ITSELF))
                        continue
                if linked > _MOST_LINKED:
                    raise ZooError(f"{path}: has more than {_MOST_LINKED:,} links to folders; expected a zoo")
                if identity in left_out:
                    continue
                if _is_zoo(whole):
                    listing.remarks.append((raw, "is a zoo of its own and was not read"))
                    continue
                waiting.append((whole, above | {identity}))
    return listing.resolve()


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ZooError(f"{folder}: cannot be read ({error.strerror}); expected a folder that may be listed") from None


def _is_zoo(folder: Path) -> bool:
    return (folder / "manifest.toml").is_file() and (folder / "weights.zarr").is_dir()


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _decoded(path: Path) -> str:
    """Return a name as UTF-8 says it, in whichever locale Python runs."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")
