"""Canonical rows: the order and the blocks in which shipped encoders compute, whatever the order they were given.

A sum depends in its last bits on where in a batch a row stands, and on how large the batch is. So rows are sorted by a
digest of their content and go through in blocks of one size, the last one filled up; what comes out of one network is
then the same in any order, and beside any others as far as a matrix product treats the rows of a block alike.
"""

import hashlib
from collections.abc import Callable, Iterator

import numpy as np


def canonical_order(rows: np.ndarray) -> np.ndarray:
    """Return the order that sorts rows (row, number) by a digest of their content, int64 (row,).

    >>> rows = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> bool((rows[canonical_order(rows)] == rows[[2, 0, 1]][canonical_order(rows[[2, 0, 1]])]).all())
    True
    """
    digests = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
    return np.argsort(np.array(digests, dtype="S16"), kind="stable").astype(np.int64)


def blocks(count: int, size: int) -> Iterator[np.ndarray]:
    """Yield the numbers 0 to count - 1 in blocks of `size`, int64 (size,); the last number fills up the last block."""
    for start in range(0, count, size):
        yield np.minimum(np.arange(start, start + size), count - 1)


def in_canonical_blocks(rows: np.ndarray, compute: Callable[[np.ndarray], np.ndarray], *, size: int) -> np.ndarray:
    """Return what `compute` gives for rows (row, number), a block of canonical rows at a time, in the rows' order.

    Args:
        rows: what is computed from.
        compute: from a block (size, number) to (size, ...).
        size: rows a block.
    """
    order = canonical_order(rows)
    parts = [compute(rows[order[block]]) for block in blocks(len(rows), size)]
    computed = np.concatenate(parts)[: len(rows)]
    result = np.empty_like(computed)
    result[order] = computed
    return result
