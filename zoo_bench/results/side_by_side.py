"""Results that are read or scored side by side, in threads: numpy lets others work while it computes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from zoo_gen.machine.workers import count_processes

T = TypeVar("T")


def side_by_side(function: Callable[[Path], T], paths: Sequence[Path]) -> Iterator[T]:
    """Yield what a function returns for the file of each result, in their order, computed on all cores.

    All encoders' seed 0 come first, then all their seeds 1: an encoder that draws nothing predicts the same with every
    seed, and `metrics.estimate` knows by then what it computed from it.
    """
    pool = ThreadPoolExecutor(count_processes(None, len(paths)))
    try:
        computed = {path: pool.submit(function, path) for path in sorted(paths, key=lambda path: (path.name, path))}
        for path in paths:
            yield computed.pop(path).result()
    finally:
        pool.shutdown(cancel_futures=True)
