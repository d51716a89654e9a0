"""Costs of an encoder: seconds, and the most memory that it takes.

The kernel keeps a process's highest resident memory and lets the process itself reset it (Linux). The cost is the
growth since the start, so that zoos and libraries that are in memory already count for no encoder.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zoo_bench.results import cuda_in_use
from zoo_gen.machine import memory

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # written to clear_refs, it sets the peak to what is resident now; see proc(5)


@dataclass
class Cost:
    """Seconds and bytes of what ran; memory is None where the system does not say."""

    seconds: float = 0.0
    memory_bytes: int | None = None  # of the process, over what it held at the start
    gpu_memory_bytes: int | None = None  # allocated by torch; None without a GPU

    @classmethod
    def of(cls, parts: Iterable["Cost"]) -> "Cost":
        """Return the cost of several things that ran one after the other: all seconds, and the most memory."""
        parts = list(parts)
        return cls(
            seconds=sum(part.seconds for part in parts),
            memory_bytes=largest(part.memory_bytes for part in parts),
            gpu_memory_bytes=largest(part.gpu_memory_bytes for part in parts),
        )


def largest(values: Iterable[int | None]) -> int | None:
    """Return the largest of the values that are known; None if none is."""
    return max((value for value in values if value is not None), default=None)


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure what runs inside; the cost is known once it has ended."""
    cost = Cost()
    began = time.monotonic()
    before = _reset_peak()
    gpu = cuda_in_use()
    if gpu:
        gpu.reset_peak_memory_stats()
    try:
        yield cost
    finally:
        cost.seconds = time.monotonic() - began
        if before is not None:
            cost.memory_bytes = max(0, (_resident("VmHWM") or 0) - before)
        gpu = cuda_in_use()
        if gpu:
            cost.gpu_memory_bytes = int(gpu.max_memory_allocated())


def _reset_peak() -> int | None:
    """Reset the highest resident memory and return what is resident now; None where that cannot be done.

    Memory that was freed but kept by the allocator goes back to the system first: its reuse would not be seen.
    """
    memory.give_back()
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return None
    return _resident("VmHWM")


def _resident(field: str) -> int | None:
    """Return a field of the process's status in bytes."""
    lines = (line.split() for line in _STATUS.read_text().splitlines())
    return next((1024 * int(words[1]) for words in lines if words and words[0] == f"{field}:"), None)
