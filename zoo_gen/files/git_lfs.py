"""Pointers of Git LFS: the few lines of text that lie in a file's place where a repository was cloned without LFS.

Read as what they stand for, they are only a damaged file; named for what they are, one command mends them.
"""

import re
from pathlib import Path

from zoo_gen.errors import ZooError

MOST_BYTES = 1024  # of a pointer, by its specification
_BEGINNING = re.compile(rb"version https://(git-lfs|hawser)\.github\.com/spec/")
_SIZE = re.compile(rb"^size (\d{1,18})$", re.MULTILINE)


def is_pointer(content: bytes) -> bool:
    """Return whether a file's content is a pointer of Git LFS.

    >>> is_pointer(b"version https://git-lfs.github.com/spec/v1\\nsize 12345\\n")
    True
    """
    return len(content) <= MOST_BYTES and _BEGINNING.match(content) is not None


def check(content: bytes, *, where: object) -> None:
    """Refuse content that is a pointer of Git LFS; the message says how the file itself is had."""
    if is_pointer(content):
        size = _SIZE.search(content)
        of = f" to a file of {int(size[1]):,} bytes" if size else ""
        raise ZooError(f"{where}: is a Git LFS pointer{of}; expected the file itself (git lfs install; git lfs pull)")


def check_file(path: Path) -> None:
    """Refuse a file that is a pointer of Git LFS; one that is not there, or is larger, is none."""
    if path.is_file() and path.stat().st_size <= MOST_BYTES:
        check(path.read_bytes(), where=path)
