"""Retry policy and one-line messages for huggingface_hub's errors.

Errors are told apart by their names and by what they carry, so that the client, and the HTTP library below it, stay
unimported.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from zoo_gen.errors import one_line
from zoo_gen.files import retry

Answer = TypeVar("Answer")

_TRIES = 5  # of one call whose connection breaks


def patiently(call: Callable[[], Answer]) -> Answer:
    """Return what a call of the client returns, made again where the Hub asks to wait or the connection breaks."""
    return retry.patiently(call, _pause)


def _pause(error: Exception, failures: int) -> float | None:
    response = _response(error)
    if response is not None:
        return retry.stated_pause(response.headers, 2.0**failures) if response.status_code in (429, 503) else None
    return float(failures) if _is_broken_connection(error) and failures < _TRIES else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that led to it: the client wraps some."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _response(error: BaseException) -> Any:
    """Return the HTTP response that led to an error; None if there was none."""
    responses = (getattr(cause, "response", None) for cause in _causes(error))
    return next((response for response in responses if response is not None), None)


def _is_broken_connection(error: BaseException) -> bool:
    return any(
        isinstance(cause, ConnectionError | TimeoutError) or type(cause).__module__.startswith("httpx")
        for cause in _causes(error)
    )


def reason(error: Exception, *, kind: str, revision: str, endpoint: str, writes: bool) -> str:
    """Return one line on what failed and what was expected.

    Args:
        error: what the client raised.
        kind: of the repository that was asked for.
        revision: that was asked for.
        endpoint: address of the Hub.
        writes: whether the call would have changed the repository.
    """
    names = {type(cause).__name__ for cause in _causes(error)}
    response = _response(error)
    status = None if response is None else response.status_code
    if "GatedRepoError" in names:
        return f"is gated; expected its terms to be accepted at {endpoint}, and a token in HF_TOKEN"
    if "RevisionNotFoundError" in names:
        return f"there is no revision {revision!r}; expected a branch, a tag or a commit of it"
    if writes and status == 401:
        return "the Hub accepts no upload without a valid token; expected one in HF_TOKEN, or `hf auth login`"
    if "RepositoryNotFoundError" in names or status == 401:
        return f"there is no such {kind}, or it is private and needs a valid token (HF_TOKEN, or `hf auth login`)"
    if status == 403:
        return "the token does not allow that; expected one with write access"
    if status == 429:
        return "too many requests; repeat the command in a few minutes"
    if "OfflineModeIsEnabled" in names:
        return "the environment forbids the network (HF_HUB_OFFLINE); expected it unset"
    if status in (404, 405, 410, 413, 422):
        return f"{one_line(_deepest(error))}; the Hub does not take this request, so that repeating it does not help"
    return f"{one_line(_deepest(error))}; the same command resumes"


def _deepest(error: BaseException) -> BaseException:
    """Return the cause of all, since the client's own message says only which step failed."""
    deepest = error
    while deepest.__cause__ is not None:
        deepest = deepest.__cause__
    return deepest
