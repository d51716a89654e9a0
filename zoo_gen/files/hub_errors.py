"""What the Hub's client raises: whether to wait, to try again, or what to say to a person.

Told by names and by what the errors carry, so that the client, and the HTTP library below it, stay unimported.
"""

import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from zoo_gen.errors import one_line

Found = TypeVar("Found")

PATIENCE = 300.0  # seconds to wait in all when the Hub says "too many requests"
_TRIES = 5  # of one call whose connection breaks
_logger = logging.getLogger(__name__)


def patiently(call: Callable[[], Found]) -> Found:
    """Return what a call gives, called again where the Hub asks to wait or the connection breaks."""
    waited, tries = 0.0, 0
    while True:
        try:
            return call()
        except Exception as error:
            status, tries = _status(error), tries + 1
            if status in (429, 503) and (wait := _retry_after(error, tries)) <= PATIENCE - waited:
                _logger.warning("the Hub asks to wait %.0f s", wait)
            elif status is None and _is_broken_connection(error) and tries < _TRIES:
                wait = float(tries)
            else:
                raise
            waited += wait
            time.sleep(wait)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that led to it: the client wraps some."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _status(error: BaseException) -> int | None:
    responses = (getattr(each, "response", None) for each in _causes(error))
    return next((response.status_code for response in responses if response is not None), None)


def _retry_after(error: BaseException, tries: int) -> float:
    responses = (getattr(each, "response", None) for each in _causes(error))
    text = next((response.headers.get("Retry-After", "") for response in responses if response is not None), "")
    return float(text) if text.isdecimal() else float(2**tries)


def _is_broken_connection(error: BaseException) -> bool:
    return any(type(each).__module__.partition(".")[0].startswith("httpx") for each in _causes(error)) or any(
        isinstance(each, ConnectionError | TimeoutError) for each in _causes(error)
    )


def reason(error: Exception, *, kind: str, revision: str, endpoint: str, writes: bool) -> str:
    """Return what went wrong at a repository of that kind, asked for that revision, and what was expected."""
    names = {type(each).__name__ for each in _causes(error)}
    status = _status(error)
    if "GatedRepoError" in names:
        return f"is gated; expected its terms to be accepted at {endpoint}, and a token in HF_TOKEN"
    if "RevisionNotFoundError" in names:
        return f"there is no revision {revision!r}; expected a branch, a tag or a commit of it"
    if writes and status == 401:
        return "the Hub takes nothing without a valid token; expected one in HF_TOKEN, or `hf auth login`"
    if "RepositoryNotFoundError" in names or status == 401:
        return f"there is no such {kind}, or it opens to a valid token only (HF_TOKEN, or `hf auth login`)"
    if status == 403:
        return "the token may not do that; expected one that may write there"
    if status == 429:
        return "the Hub has had too many requests; expected the same command again in some minutes"
    if "OfflineModeIsEnabled" in names:
        return "the environment forbids the network (HF_HUB_OFFLINE); expected it unset"
    deepest: BaseException = error
    while deepest.__cause__ is not None:  # the client's own words are only where it was at
        deepest = deepest.__cause__
    return f"{one_line(deepest)}; the same command goes on where it was"
