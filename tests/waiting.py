"""How tests watch other processes: one limit for all of them, which only catches what hangs."""

import os
import time
from collections.abc import Callable
from pathlib import Path

LIMIT = float(os.environ.get("ZOO_TEST_LIMIT", "600"))  # seconds; far more than a busy, slow machine needs


def until(condition: Callable[[], object], *, pause: float = 0.01) -> None:
    """Return as soon as a condition holds; fail after the limit."""
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"nothing came within {LIMIT:.0f} s (ZOO_TEST_LIMIT)")
        time.sleep(pause)


def paths_below(folder: Path) -> set[str]:
    """Return all that is below a folder in which others work; unlike `rglob`, it never fails at what is removed."""
    return {str(Path(place, name)) for place, folders, files in os.walk(folder) for name in (*folders, *files)}
