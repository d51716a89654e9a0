"""Programs run in forks of one process that has imported their libraries, which a fresh interpreter does for seconds.

A fork is a process like any other to those that kill it, wait for it or look for it; it leads a process group of its
own. Tests of how a program starts run it in a fresh interpreter instead.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

IMPORTED = ("zoo_gen.cli.main", "zoo_gen.population.train", "pandas", "joblib", "distributed.cli.dask_worker")
_ANSWER = 1000  # bytes, at most


class Forked:
    """A program in a fork: what `subprocess.Popen` is to a program in a fresh interpreter."""

    def __init__(self, control: socket.socket, pid: int) -> None:
        self._control, self.pid = control, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = _answer_to(self._control, {"poll": self.pid})["code"]
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = time.monotonic() + (timeout or float("inf"))
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(0.005)
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


Process = subprocess.Popen[str] | Forked


def start(
    module: str, arguments: Sequence[str], *, output: IO[str], folder: Path, environment: dict[str, str]
) -> Forked:
    """Run a module as `python -m` does; what it prints goes to a file."""
    control = _template(os.getpid())
    request = {"module": module, "arguments": arguments, "folder": str(folder), "environment": environment}
    return Forked(control, _answer_to(control, request, output.fileno())["pid"])


@cache
def _template(owner: int) -> socket.socket:
    """Return the connection to the process that others are forked from; it ends with its owner."""
    control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = f"import sys; sys.path[:] = {sys.path!r}; from tests.forked import main; main({other.fileno()})"
    with other:
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            pass_fds=[other.fileno()],
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # which libraries read when they are imported
        )
    atexit.register(_end, control, process, owner)
    return control


def _end(control: socket.socket, process: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() == owner:
        control.close()
        process.wait()


def _answer_to(control: socket.socket, request: dict[str, object], *descriptors: int) -> dict[str, int]:
    socket.send_fds(control, [json.dumps(request).encode()], descriptors)
    return json.loads(control.recv(_ANSWER))


def main(descriptor: int) -> None:
    """Serve the process at the other end of a socket until it closes it; a fork becomes the program asked for."""
    control = socket.socket(fileno=descriptor)
    gc.disable()
    for module in IMPORTED:
        with suppress(ImportError):
            importlib.import_module(module)
    gc.freeze()  # no collection in a fork looks at it, which would copy its memory
    gc.enable()
    while True:
        content, descriptors, _, _ = socket.recv_fds(control, 2**18, 1)
        if not content:
            return
        request = json.loads(content)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if pid else None
            control.send(json.dumps({"code": code}).encode())
            continue
        pid = os.fork()
        if pid == 0:
            break
        os.close(descriptors[0])
        with suppress(PermissionError, ProcessLookupError):  # it has done so, or ended, itself
            os.setpgid(pid, pid)
        control.send(json.dumps({"pid": pid}).encode())
    control.close()
    os.setpgid(0, 0)
    for output in (1, 2):
        os.dup2(descriptors[0], output)
    os.close(descriptors[0])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if fsspec := sys.modules.get("fsspec"):
        fsspec.config.set_conf_env(fsspec.config.conf)  # which it has read before
    signal.signal(signal.SIGINT, signal.default_int_handler)  # heeded, whatever a shell has started us with
    sys.argv[1:] = request["arguments"]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
