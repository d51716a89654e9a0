"""Calls of a server that are made again while it is too busy or the connection breaks, with a bound on the waiting."""

import logging
from collections.abc import Callable
from time import sleep
from typing import Any, TypeVar

Answer = TypeVar("Answer")

PATIENCE = 300.0  # seconds to wait in all
_logger = logging.getLogger(__name__)


def patiently(call: Callable[[], Answer], pause: Callable[[Exception, int], float | None]) -> Answer:
    """Return what a call returns, made again as often as it is worth it.

    Args:
        call: asks the server.
        pause: for an error and how often the call has failed, the seconds to wait before the next one; None if there
            should be none.

    Raises:
        Exception: that of the last call, when `pause` says None or would wait for more than PATIENCE in all.
    """
    waited, failures = 0.0, 0
    while True:
        try:
            return call()
        except Exception as error:
            failures += 1
            seconds = pause(error, failures)
            if seconds is None or waited + seconds > PATIENCE:
                raise
            _logger.log(logging.WARNING if seconds >= 10 else logging.DEBUG, "%s; next try in %.0f s", error, seconds)
        waited += seconds
        sleep(seconds)


def stated_pause(headers: Any, default: float) -> float:
    """Return the seconds that a server's headers ask to wait (Retry-After), or else the default."""
    text = headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else default
