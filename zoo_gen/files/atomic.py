"""Atomic, fsynced file writes, and clean-up after killed writers.

A kill loses nothing that was written, a loss of power does: whatever another file will vouch for is flushed first.
At a URL a file is whole and durable when its writing returns, and no temporary files exist.
"""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo_gen.files.location import Folder
from zoo_gen.files.remote import Remote

_CANNOT_FLUSH = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.EBADF}


@contextmanager
def naming(path: Folder) -> Iterator[None]:
    """Let an OSError inside name a path, where it names none: a full disk does not say where it is."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def replace(path: Folder, content: bytes) -> None:
    """Write a file so that it has either its old content or all of the new, also after a loss of power.

    Threads, processes and machines may replace one file at once: the last one wins, and readers see whole files only.

    Raises:
        OSError: the folder is missing or cannot be written to; the file keeps its old content.
    """
    if isinstance(path, Remote):
        path.write_bytes(content)
        return
    while True:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(8)}.tmp")
        try:
            with naming(path):
                temporary.write_bytes(content)
                flush(temporary)
                temporary.replace(path)
        except FileNotFoundError:
            if not path.parent.is_dir():
                raise
            continue  # another run that completed the same zoo removed the temporary file
        finally:
            temporary.unlink(missing_ok=True)
        flush(path.parent)
        return


def flush(path: Folder) -> None:
    """Wait until a file's content, or a folder's names, are on the disk, where the file system can say so.

    Raises:
        OSError: the disk fails or is full; it names the path.
    """
    if isinstance(path, Remote):
        return
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # another run has put its own, equal file there
        return
    try:
        os.fsync(file)
    except OSError as error:
        # CIFS, some of FUSE and others cannot flush a folder or a file: it is then as durable as they make it.
        if error.errno not in _CANNOT_FLUSH:
            error.filename = error.filename or str(path)
            raise
    finally:
        os.close(file)


def flush_below(folder: Folder) -> None:
    """Wait until a folder and all that is in it are on the disk."""
    for path in (*_matches(folder, "**/*"), folder):
        flush(path)


def tidy_file(path: Folder) -> None:
    """Remove the temporary files that other writers of a file have left beside it."""
    _remove(path.parent, f".{path.name}.*.tmp")


def tidy_chunks(folder: Folder, shard: str = "*") -> None:
    """Remove what zarr writes before it renames it to a chunk, of one shard or of all."""
    _remove(folder / "weights.zarr", f"*/c/{shard}/**/*.partial")


def tidy(folder: Folder) -> None:
    """Remove from a complete zoo all temporary files that killed runs have left."""
    folder = folder.resolve()
    for parent in (folder, folder.parent):
        for unfinished in _matches(parent, f".{folder.name}.making.*"):
            shutil.rmtree(unfinished, ignore_errors=True)
    _remove(folder, ".*.tmp")
    _remove(folder / "models", ".*.tmp")
    tidy_chunks(folder)


def _matches(folder: Folder, pattern: str) -> list[Path]:
    """Return what matches below a folder on a disk; at a URL there is nothing to flush or to tidy up."""
    return list(folder.glob(pattern)) if isinstance(folder, Path) else []


def _remove(folder: Folder, pattern: str) -> None:
    for path in _matches(folder, pattern):
        path.unlink(missing_ok=True)
