"""The template process: what encoders need is imported in it once, and each fit gets a fork of it within milliseconds.

It never reads what an encoder is, so no encoder's code runs in it. It waits for each fork, and ends every process that
the fork has left behind: on Linux they become its children, wherever they have hidden. It ends with its driver.
"""

import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

FORK, FORK_WITH_TORCH, KILL = b"f", b"t", b"k"  # what a driver asks for; the first two with a socket for the fork
STATUS_BYTES = 4  # of the answer: how the fork ended, as waitpid(2) says it

_LINUX = sys.platform == "linux"
_END_WITH_PARENT, _ADOPT_ORPHANS = 1, 36  # PR_SET_PDEATHSIG and PR_SET_CHILD_SUBREAPER of prctl(2)
# What encoders of many kinds import; torch takes seconds and is imported when the first one needs it.
_IMPORTED = ("sklearn.decomposition", "sklearn.ensemble", "threadpoolctl", "zoo_bench.evaluation.processes.hosting")
# The last two come with torch's first step of an optimiser and its first counted operation: a second for every fit.
_WITH_TORCH = ("torch", "zoo_bench.encoders.training.supervised", "torch.utils.flop_counter", "torch._dynamo")
_IGNORED = (signal.SIGINT, signal.SIGHUP)  # reach all processes of a terminal; the driver ends us


def main(descriptor: int) -> None:
    """Serve the driver at the other end of a socket until it is closed."""
    control = socket.socket(fileno=descriptor)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    _prctl(_ADOPT_ORPHANS, 1)
    ended, wake = socket.socketpair()
    for end in (ended, wake):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)  # so that it wakes us
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    _import(_IMPORTED)
    while True:
        asked, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not asked:
            return
        if asked == KILL:  # what it was meant for has just ended
            continue
        if asked == FORK_WITH_TORCH:
            _import(_WITH_TORCH)
        fork = os.fork()
        if fork == 0:
            signal.set_wakeup_fd(-1)
            for end in (control, ended, wake):
                end.close()
            _serve(descriptors[0])
        os.close(descriptors[0])
        status = _wait(fork, control, ended)
        _end_children(fork)
        control.sendall(status.to_bytes(STATUS_BYTES, "little"))


def _serve(descriptor: int) -> None:
    """Be the process of one encoder, and end without a trace of it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if _LINUX:
        _prctl(_END_WITH_PARENT, signal.SIGKILL)
    else:
        os.setpgid(0, 0)
    from zoo_bench.evaluation.processes import hosting

    code = 1
    try:
        hosting.serve(Connection(descriptor))
        code = 0
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(code)


def _wait(fork: int, control: socket.socket, ended: socket.socket) -> int:
    """Wait for the end of a fork, which the driver may ask for; return its status."""
    while True:
        pid, status = os.waitpid(fork, os.WNOHANG)
        if pid:
            return status
        ready, _, _ = select.select([control, ended], [], [])
        if control in ready:
            asked = control.recv(1)
            os.kill(fork, signal.SIGKILL)
            if not asked:
                _end_children(fork)
                os._exit(0)
        if ended in ready:
            with suppress(BlockingIOError):
                ended.recv(4096)


def _end_children(fork: int) -> None:
    """End what a fork has started, and what that has started in turn."""
    if not _LINUX:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(fork, signal.SIGKILL)
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            for child in _children():
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            time.sleep(0.001)


def _children() -> list[int]:
    """Return the processes whose parent is this one."""
    children = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The second field is the name in brackets, which may hold anything; the parent is the fourth.
            parent = path.read_text(errors="replace").rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                children.append(int(path.parent.name))
    return children


def _import(modules: tuple[str, ...]) -> None:
    """Import modules whose objects no garbage collection looks at, which would copy their memory in every fork."""
    gc.disable()
    for module in modules:
        with suppress(ImportError):  # whoever needs it says so
            importlib.import_module(module)
    gc.freeze()
    gc.enable()


def _prctl(option: int, value: int) -> None:
    if _LINUX:
        ctypes.CDLL(None).prctl(option, value)
