"""EncoderProcess: an encoder in a process of its own, as the process that evaluates it sees it.

Ended is ended: when the context is left, the encoder's process, all that it started and its temporary files are gone.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import numpy as np

from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.evaluation.candidate import Candidate
from zoo_bench.evaluation.costs import Cost
from zoo_bench.evaluation.failing import EncoderError, named
from zoo_bench.evaluation.fit_input import FitInput
from zoo_bench.evaluation.processes import messages, template
from zoo_bench.protocol.selection import Selection
from zoo_bench.protocol.views import WeightsView
from zoo_gen.errors import ZooError

# Threads of OpenMP that wait for each other sleep: by default they compute nothing at full speed, and where other work
# holds a core all wait for the one that has none.
_WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}
_templates = threading.local()  # one a thread, because a template serves one process at a time


class Template:
    """The template process of a thread, started once."""

    def __init__(self) -> None:
        self._control, other = socket.socketpair()
        with other:
            command = f"import sys; sys.path[:] = {sys.path!r}; from {template.__name__} import main"
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"{command}; main({other.fileno()})"],
                pass_fds=[other.fileno()],
                env=_WAITING | os.environ,
            )
        self.owner = os.getpid()
        self._forked = threading.Event()
        weakref.finalize(self, _end, self._process, self._control, self._forked, self.owner)  # at exit at the latest

    @classmethod
    def started(cls) -> "Template":
        """Return that of this thread; it is started on first use and serves until this process ends."""
        current = getattr(_templates, "current", None)
        if current is None or current.owner != os.getpid() or current._process.poll() is not None:
            current = _templates.current = cls()
        return current

    def fork(self, *, torch: bool) -> Connection:
        """Start a process of an encoder and return the connection to it."""
        ours, theirs = Pipe()
        try:
            asked = template.FORK_WITH_TORCH if torch else template.FORK
            self._forked.set()
            socket.send_fds(self._control, [asked], [theirs.fileno()])
        except OSError as error:
            ours.close()
            raise ZooError(f"the process that encoders start from has ended ({error}); run the command again") from None
        finally:
            theirs.close()
        return ours

    def wait(self, *, kill: bool) -> int | None:
        """Return how the last process ended, once all that it started has ended too; None if nobody knows."""
        try:
            if kill:
                self._control.sendall(template.KILL)
            status = self._control.recv(template.STATUS_BYTES, socket.MSG_WAITALL)
        except OSError:
            return None
        return int.from_bytes(status, "little") if status else None


def _end(process: "subprocess.Popen[bytes]", control: socket.socket, forked: threading.Event, owner: int) -> None:
    """End a template process and all that it started; a forked copy of its driver has no say in it."""
    with control:
        if os.getpid() != owner:
            return
        if not forked.is_set():
            process.kill()  # it imports, which nobody waits for any more
        with suppress(OSError):  # it has ended by itself
            control.shutdown(socket.SHUT_RDWR)  # which copies of the socket in other processes cannot keep open
        process.wait()


class EncoderProcess:
    """A candidate in a process of its own; a context manager.

    Every method raises EncoderError where the encoder fails, or ends its process.
    """

    def __init__(self, candidate: Candidate, *, torch: bool = False) -> None:
        self.candidate, self._torch = candidate, torch
        self.name = candidate.name
        self._status: int | None = None
        self._waits = False  # for the template to say that the process has ended
        self._selection: Selection | None = None  # what scores predictions while the encoder is fitted
        self.costs: list[Cost] = []  # of every encoding and predicting

    def __enter__(self) -> Self:
        self._temporary = TemporaryDirectory(prefix="zoo-bench-encoder-", ignore_cleanup_errors=True)
        self._template = Template.started()
        self._connection = self._template.fork(torch=self._torch)
        self._waits = True
        try:
            surroundings = (self.name, sys.path, str(Path.cwd()), dict(os.environ), self._temporary.name)
            self._ask("start", "begin", *surroundings)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        # An encoder that is at work does not see that nobody waits for it.
        self._end(kill=error is not None)
        self._temporary.cleanup()

    def make(self, runtime: Runtime | None) -> dict[str, Any]:
        """Make the encoder there; return its settings."""
        return self._ask("cannot be made", "make", self.candidate, runtime)[0]["config"]

    def describe(self) -> dict[str, Any]:
        """Return the digest of the encoder and what it needs; nothing is made."""
        return self._ask("cannot be used", "describe", self.candidate)[0]

    def fit(self, fit_input: FitInput) -> dict[str, Any]:
        """Fit the encoder; return its cost, settings, number of parameters and GPU."""
        self._selection = fit_input.selection
        left_out = fit_input.selection.left_out if fit_input.selection else 0
        return self._ask(
            "fit", "fit", fit_input.train, fit_input.validation, fit_input.problem, fit_input.seed, left_out
        )[0]

    def ask(self, step: str, *arguments: Any) -> tuple[dict[str, Any], np.ndarray | None]:
        """Call a method of the host, called as `step` is."""
        return self._ask(step, step, *arguments)

    def operations(self, view: WeightsView) -> int | None:
        """Return how many operations the encoder takes for a network; None where none can be counted."""
        facts, _ = self._ask("encode", "operations", view)
        return None if facts["operations"] is None else int(facts["operations"])

    def encode(self, view: WeightsView) -> np.ndarray:
        """Return whatever array the encoder returned."""
        return self._called("encode", view)

    def predict(self, view: WeightsView) -> np.ndarray:
        """Return whatever array the encoder returned."""
        return self._called("predict", view)

    def _called(self, method: str, view: WeightsView) -> np.ndarray:
        facts, array = self._ask(method, "call", method, view)
        if array is None:
            raise EncoderError(f"encoder {self.name!r}: {method}: its process answered without an array")
        self.costs.append(Cost(**facts["cost"]))
        return array

    def _ask(self, step: str, method: str, *arguments: Any) -> tuple[dict[str, Any], np.ndarray | None]:
        with named(self.name, "cannot be copied into a process of its own"):
            request = messages.request(method, *arguments)
        try:
            messages.send_request(self._connection, request)
            facts, array = messages.receive_answer(self._connection)
            while "score" in facts:
                messages.send_request(self._connection, messages.request("scored", *self._score(facts, array)))
                facts, array = messages.receive_answer(self._connection)
        except (EOFError, OSError):
            self._end(kill=True)
            raise EncoderError(f"encoder {self.name!r}: {step}: {self._ending()}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise EncoderError(f"encoder {self.name!r}: {step}: its process answered nonsense ({error})") from None
        if "error" in facts:
            raise EncoderError(
                str(facts["error"]),
                traceback=str(facts.get("traceback", "")),
                asked_for_labels=facts.get("asked_for_labels") is True,
            )
        return facts, array

    def _score(self, facts: dict[str, Any], predicted: np.ndarray | None) -> tuple[float, str]:
        """Return the score that the encoder asks for, or the error."""
        if self._selection is None or predicted is None:
            return 0.0, "scores of predictions are given while an encoder is fitted to a target"
        try:
            rows = None if facts["score"] is None else np.array(facts["score"])
            return self._selection.score(predicted, rows=rows), ""
        except ZooError as error:
            return 0.0, str(error)

    def _end(self, *, kill: bool) -> None:
        if self._waits:
            self._waits = False
            self._status = self._template.wait(kill=kill)

    def _ending(self) -> str:
        """Say how the process ended."""
        if self._status is None:
            return "its process has ended"
        code = os.waitstatus_to_exitcode(self._status)
        if code >= 0:
            return f"ended its process with exit code {code}; expected that it returns or raises an error"
        hint = ", as happens without enough memory" if code == -signal.SIGKILL else ""
        return f"its process was ended by {signal.Signals(-code).name}{hint}"
