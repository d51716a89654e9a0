"""Results that are scored side by side, in threads: numpy lets others work while it computes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from zoo_bench.results.machine import usable_cores

S = TypeVar("S")
T = TypeVar("T")


def side_by_side(function: Callable[[S], T], results: Sequence[S], *, seed: Callable[[S], int]) -> Iterator[T]:
    """Yield what a function returns for each result, in their order, computed on all cores.

    Those of the first seed are computed first, whatever the encoder, then those of the next: an encoder that draws
    nothing predicts the same with every seed, and `metrics.estimate` knows by then what it computed from it.

    Args:
        function: of a result.
        results: or what stands for them, such as their paths.
        seed: returns the seed of a result.
    """
    pool = ThreadPoolExecutor(usable_cores())
    try:
        order = sorted(range(len(results)), key=lambda place: seed(results[place]))
        computed = {place: pool.submit(function, results[place]) for place in order}
        for place in range(len(results)):
            yield computed.pop(place).result()
    finally:
        pool.shutdown(cancel_futures=True)
