"""Names of files in archives: by the numbers in them, and against the whole paths of their authors' machines."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

Value = TypeVar("Value")

_NUMBERS = re.compile(r"(\d+)")


def natural_order(name: str) -> list[Any]:
    """Return a key that sorts numbers in names by their value.

    >>> sorted(["run10", "run9"], key=natural_order)
    ['run9', 'run10']
    """
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in _NUMBERS.split(name)]


def path_ends(values: Mapping[str, Value]) -> dict[str, Value | None]:
    """Return the value of each end of each path; None where paths of several values end so."""
    ends: dict[str, Value | None] = {}
    for path, value in values.items():
        parts = path.split("/")
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            ends[end] = value if ends.get(end, value) == value else None
    return ends


def by_longest_end(path: str, ends: Mapping[str, Value | None]) -> Value | None:
    """Return the value of the path that shares the longest end with this one; None if there is none.

    >>> ends = path_ends({"zoo/run1/model.pt": 1, "zoo/run2/model.pt": 2})
    >>> by_longest_end("/home/author/run2/model.pt", ends)
    2
    """
    parts = path.split("/")
    values = (ends.get("/".join(parts[start:])) for start in range(len(parts)))
    return next((value for value in values if value is not None), None)
