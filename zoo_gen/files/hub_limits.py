"""Limits of the Hugging Face Hub on files and folders, and how the files of a folder are divided into commits."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo_gen.errors import ZooError

# The Hub's documentation on storage limits, as of 2026-08.
MOST_FILES = 100_000
MOST_ENTRIES = 10_000  # of one folder
MOST_BYTES = 200 * 10**9  # of one file, as advised; 500 GB is the hard limit
FILES_PER_COMMIT = 100


def check_limits(files: Mapping[str, int], *, where: str) -> None:
    """Refuse files that exceed the limits of the Hub.

    Args:
        files: path -> bytes.
        where: what the message names.

    Raises:
        ZooError: there are too many files in all or in a folder, or one is too large.
    """
    if len(files) > MOST_FILES:
        raise ZooError(f"{where}: has {len(files):,} files; the Hub allows {MOST_FILES:,} a repository")
    entries: dict[str, set[str]] = {}
    for path in files:
        parts = path.split("/")
        for depth, name in enumerate(parts):
            entries.setdefault("/".join(parts[:depth]), set()).add(name)
    folder, most = max(entries.items(), key=lambda item: len(item[1]), default=("", set()))
    if len(most) > MOST_ENTRIES:
        raise ZooError(f"{where}/{folder}: has {len(most):,} entries; the Hub allows {MOST_ENTRIES:,} a folder")
    path, size = max(files.items(), key=lambda item: item[1], default=("", 0))
    if size > MOST_BYTES:
        raise ZooError(f"{where}/{path}: has {size / 1e9:.0f} GB; the Hub allows {MOST_BYTES / 1e9:.0f} GB a file")


def files_of(folder: Path) -> dict[str, int]:
    """Return the files of a folder that are uploaded, path -> bytes; hidden ones are not.

    Raises:
        ZooError: the folder is not there or is empty.
    """
    sizes = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
    if not sizes:
        raise ZooError(f"{folder}: holds no file; expected a folder to push")
    return sizes


def batches(files: Sequence[str], *, last: Sequence[str] = ()) -> list[list[str]]:
    """Return the files of each commit: `last` come last, so that what announces the others never comes before them."""
    first = [path for path in files if path not in last]
    pieces = [first[start : start + FILES_PER_COMMIT] for start in range(0, len(first), FILES_PER_COMMIT)]
    closing = [path for path in files if path in last]
    if closing and pieces and len(pieces[-1]) + len(closing) <= FILES_PER_COMMIT and len(pieces) == 1:
        return [[*pieces[0], *closing]]  # one commit appears whole or not at all
    return [*pieces, *(closing[start : start + FILES_PER_COMMIT] for start in range(0, len(closing), FILES_PER_COMMIT))]
