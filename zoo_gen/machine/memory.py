"""Memory that a process frees and soon takes again, where the C library is glibc.

Each operation of a training step takes blocks of megabytes and frees others. glibc hands such blocks to the system at
once and asks it for new ones, whose pages are cleared and mapped one by one: up to a third of a step on a CPU.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # the numbers by which mallopt(3) knows what it sets
_LARGEST_BLOCK = 2**30  # bytes; larger ones still go to the system
_NEVER_TRIM = 2**31 - 1
_USUAL_BLOCK, _USUAL_TRIM = 2**25, 2**26  # at which glibc's own rule ends up once blocks are large
_OF_USERS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep what is freed inside for the next blocks, and give it back to the system at the end.

    Nothing changes without glibc, where glibc refuses, or where the environment says how it should allocate.
    """
    libc = _glibc()
    if libc is None or any(name in os.environ for name in _OF_USERS) or not _keep(libc):
        yield
        return
    try:
        yield
    finally:
        libc.mallopt(_MMAP_THRESHOLD, _USUAL_BLOCK)
        libc.mallopt(_TRIM_THRESHOLD, _USUAL_TRIM)
        libc.malloc_trim(0)


def give_back() -> None:
    """Give what is free to the system, if the C library can."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _keep(libc: ctypes.CDLL) -> bool:
    """Let glibc keep freed blocks up to the largest size that it accepts; return whether it accepts any.

    Older releases refuse large thresholds. A trim threshold alone would end glibc's own adjustment of the other one.
    """
    size = _LARGEST_BLOCK
    while size >= _USUAL_BLOCK:
        if libc.mallopt(_MMAP_THRESHOLD, size):
            return bool(libc.mallopt(_TRIM_THRESHOLD, _NEVER_TRIM))
        size //= 2
    return False


@cache
def _glibc() -> ctypes.CDLL | None:
    """Return glibc, or None where the C library is another one."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
