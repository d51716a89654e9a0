"""Warnings that a process gives once, however many populations or shards they are true of."""

import logging
from functools import cache


@cache
def warn_once(logger: logging.Logger, message: str) -> None:
    """Log a warning, unless this process has logged the same by the same logger."""
    logger.warning(message)
