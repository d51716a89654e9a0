"""Compressed files: which kind one is by its first bytes, and its expansion into one plain file, bounded in size."""

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo_gen.errors import ZooError, one_line
from zoo_gen.files import atomic
from zoo_gen.published.archives import tars
from zoo_gen.published.archives.members import check_size

_COPY = 4 * 2**20
_MAGIC = {
    b"\x1f\x8b": "gz",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bz2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
_TAR_ENDS = (".tgz", ".txz", ".tbz2", ".tbz", ".tzst")


def _open_arrow(path: Path, kind: str) -> Any:
    import pyarrow as pa

    return pa.input_stream(str(path), compression=kind)


_OPENERS: dict[str, Callable[[Path], Any]] = {
    "gz": gzip.open,
    "xz": lzma.open,
    "bz2": bz2.open,
    "zstd": lambda path: _open_arrow(path, "zstd"),
    "lz4": lambda path: _open_arrow(path, "lz4"),
}


def kind_of(start: bytes) -> str | None:
    """Return how a file is compressed, by its first bytes; None if it is not."""
    return next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)


def names_tar(path: Path) -> bool:
    """Return whether a compressed file is called a tar."""
    name = path.name.lower()
    return ".tar" in name or name.endswith(_TAR_ENDS)


def holds_tar(path: Path, kind: str) -> bool:
    """Return whether a compressed file begins as a tar does, whatever its name.

    Raises:
        ZooError: it is damaged.
    """
    try:
        with _OPENERS[kind](path) as file:
            return tars.begins(file.read(tarfile.BLOCKSIZE))
    except OSError as error:
        raise _damaged(path, error) from None


def expand(path: Path, target: Path, kind: str) -> None:
    """Expand a compressed file to `target`, if that has not been done, as far as the expansion stays credible.

    Raises:
        ZooError: it is damaged, or expands to more than weights do.
        OSError: there is no room for it.
    """
    if target.exists():
        return
    whole = path.stat().st_size
    temporary = target.with_name(f".{target.name}.tmp")
    done = 0
    with _OPENERS[kind](path) as file, temporary.open("wb") as out:
        while True:
            try:
                block = file.read(_COPY)
            except OSError as error:
                raise _damaged(path, error) from None
            if not block:
                break
            done += len(block)
            check_size(path, done, whole)
            with atomic.naming(target.parent):
                out.write(block)
                out.flush()
    temporary.replace(target)


def _damaged(path: Path, error: OSError) -> ZooError:
    return ZooError(f"{path}: is damaged or cut off ({one_line(error)})")
