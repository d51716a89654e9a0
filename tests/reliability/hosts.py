"""Network namespaces that stand for three hosts: each has a network of its own, joined by a bridge in the first."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class CannotIsolate(Exception):
    """Raised where there are no rights for networks of one's own."""


@dataclass(frozen=True)
class Host:
    """Where processes run: the words before their command, and the address that others reach them at."""

    prefix: tuple[str, ...]
    address: str


THIS = Host((), "127.0.0.1")


@contextmanager
def three_hosts() -> Iterator[list[Host]]:
    """Make three hosts for the time of a test; whatever runs on one must have ended before."""
    names = [f"zoo{os.getpid()}h{number}" for number in range(3)]
    try:
        _make(names)
        yield [Host(("ip", "netns", "exec", name), f"10.77.0.{number + 1}") for number, name in enumerate(names)]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _make(names: list[str]) -> None:
    first, *others = names
    for name in names:
        _ip("netns", "add", name)
        _ip("-n", name, "link", "set", "lo", "up")
    _ip("-n", first, "link", "add", "bridge", "type", "bridge")
    _ip("-n", first, "addr", "add", "10.77.0.1/24", "dev", "bridge")
    _ip("-n", first, "link", "set", "bridge", "up")
    for number, name in enumerate(others, start=2):
        _ip("-n", first, "link", "add", f"to{number}", "type", "veth", "peer", "name", "out", "netns", name)
        _ip("-n", first, "link", "set", f"to{number}", "master", "bridge", "up")
        _ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "out")
        _ip("-n", name, "link", "set", "out", "up")


def _ip(*words: str) -> None:
    try:
        subprocess.run(["ip", *words], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotIsolate(str(error)) from None
