"""The folder beside an output in which an archive is expanded; what killed conversions have left of it goes away.

A lock in the folder says that its conversion lives: the kernel gives it up with the process, however that ends.
"""

import glob
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo_gen.errors import needing

_LOCK = "lock"
_BEGINNING = 60.0  # seconds in which a folder may not have its lock yet


@contextmanager
def scratch_beside(out: Path) -> Iterator[Path]:
    """Make a folder beside `out` for what must be expanded, and remove it at the end; those of dead processes too.

    Folders above `out` that had to be made are removed too where nothing has come into them.
    """
    with needing("converting", extra="convert"):
        from filelock import FileLock
    new = [folder for folder in (out.parent, *out.parent.parents) if not folder.exists()]
    out.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{out.name}.expanding."
    for left in out.parent.glob(f"{glob.escape(prefix)}*"):
        _remove_dead(left)
    try:
        with tempfile.TemporaryDirectory(prefix=prefix, dir=out.parent, ignore_cleanup_errors=True) as folder:
            lock = FileLock(Path(folder) / _LOCK)
            with lock:
                yield Path(folder)
    finally:
        for folder_above in new:
            try:
                folder_above.rmdir()
            except OSError:  # there is something in it
                break


def _remove_dead(folder: Path) -> None:
    from filelock import FileLock, Timeout

    lock = folder / _LOCK
    try:
        if not lock.exists() and time.time() - folder.stat().st_mtime < _BEGINNING:
            return
        with FileLock(lock).acquire(blocking=False):
            shutil.rmtree(folder, ignore_errors=True)
    except (Timeout, OSError, NotImplementedError):  # another conversion is at work in it
        return
