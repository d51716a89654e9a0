"""A quick check that a server can be reached at all, before clients that would retry for minutes are started."""

import http.client
import queue
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence

from zoo_gen.errors import ZooError, one_line

SECONDS = 5.0  # to wait for a first answer


def require(urls: Sequence[str], *, needed_for: str, seconds: float | None = None) -> None:
    """Return if the server of one of the addresses answers anything at all.

    Args:
        urls: addresses of servers that can stand in for each other; proxies of the environment are used.
        needed_for: what needs the server; begins the message.
        seconds: how long the first answer may take; SECONDS if not given.

    Raises:
        ZooError: no answer comes.
    """
    seconds = SECONDS if seconds is None else seconds
    servers = list(dict.fromkeys(urllib.parse.urlsplit(url)[:2] for url in urls))
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()
    for scheme, host in servers:
        # A thread each, because looking up a name has no limit of time that could be set.
        threading.Thread(
            target=lambda url=f"{scheme}://{host}/": answers.put(_failure(url, seconds)), daemon=True
        ).start()
    reasons: list[str] = []
    end = time.monotonic() + seconds + 0.5
    while len(reasons) < len(servers):
        try:
            reason = answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            reasons.append(f"no answer within {seconds:g} s")
            break
        if not reason:
            return
        reasons.append(reason)
    hosts = ", ".join(host for _, host in servers)
    raise ZooError(f"{needed_for}: {hosts} cannot be reached ({reasons[-1]}); expected a network")


def _failure(url: str, seconds: float) -> str:
    """Return why a server does not answer; nothing if it does."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds):
            return ""
    except (urllib.error.HTTPError, http.client.HTTPException):  # a refusal is an answer
        return ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):  # the server's certificate is for its client to judge
            return ""
        return one_line(reason) if isinstance(reason, Exception) else str(reason)
