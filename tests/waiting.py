"""How long tests wait for other processes: one limit for all of them, which only catches what hangs."""

import os
import time
from collections.abc import Callable

LIMIT = float(os.environ.get("ZOO_TEST_LIMIT", "600"))  # seconds; far more than a busy, slow machine needs


def until(condition: Callable[[], object], *, pause: float = 0.01) -> None:
    """Return as soon as a condition holds; fail after the limit."""
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"nothing came within {LIMIT:.0f} s (ZOO_TEST_LIMIT)")
        time.sleep(pause)
