"""Shards handed to devices: each GPU has a process of its own, so that one that fails takes no other's work with it.

joblib's pool ends all of its workers when one dies; here a pool holds one process, and only what that one was at is
tried again, on whichever device is free.
"""

import logging
import os
import sys
from collections import Counter, deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from zoo_gen.errors import ZooError, one_line
from zoo_gen.machine.cluster import Answer
from zoo_gen.machine.workers import end_with, ended_by_this_process_alone

if TYPE_CHECKING:
    from joblib.externals.loky import ProcessPoolExecutor

ATTEMPTS = 3  # of a block
PATIENCE = 2  # failures in a row after which a device gets no more work
_logger = logging.getLogger(__name__)


Trained_co = TypeVar("Trained_co", bound=Iterable[int], covariant=True)


class DeviceTask(Protocol[Trained_co]):
    """Trains shards on a device; it is pickled."""

    def __call__(self, shards: list[int], *, device: str) -> Trained_co:
        """Return the numbers of the shards in their order, or a dict of them."""


class DeviceError(Exception):
    """What a computation on a device failed of, as one line; its process can compute no more."""


@dataclass
class _Worker:
    """The process of one device."""

    device: str
    failures: int = 0  # in a row
    pool: "ProcessPoolExecutor | None" = None

    def submit(self, task: DeviceTask[Answer], shards: list[int], *, threads: int) -> "Future[Answer]":
        """Start on shards, in a new process if there is none."""
        from joblib.externals.loky import ProcessPoolExecutor

        with ended_by_this_process_alone():
            if self.pool is None:
                limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
                self.pool = ProcessPoolExecutor(1, initializer=end_with, initargs=(os.getpid(),), env=limits)
            return self.pool.submit(_train, task, shards, self.device)

    def end(self) -> None:
        """End the process, whatever it is at."""
        if self.pool is not None:
            self.pool.shutdown(wait=True, kill_workers=True)
            self.pool = None


def train_on_devices(
    task: DeviceTask[Answer], blocks: Sequence[list[int]], lost: list[list[int]], *, devices: Sequence[str]
) -> Generator[Answer, None, None]:
    """Train blocks of shards on devices, a process each, and yield the task's answer for each as it is complete.

    What a device was at when it failed is tried again after all other blocks. A device that fails twice in a row gets
    no more work, and the others go on. One device alone is used by this process itself.

    Args:
        task: what trains a block.
        blocks: numbers of shards that are trained together.
        lost: blocks that failed three times, or that no device is left for, are added to it.
        devices: their names; one that occurs twice is used by two processes.

    Raises:
        ZooError: the only device failed, or the task raised it.
    """
    if len(devices) == 1:
        yield from _train_here(task, blocks, devices[0])
        return
    import joblib

    workers = [_Worker(device) for device in devices[: len(blocks)]]
    threads = max(1, joblib.cpu_count() // max(1, len(workers)))
    waiting, failures = deque(blocks), Counter[int]()
    at_work: dict[Future[Any], tuple[_Worker, list[int]]] = {}
    try:
        while waiting or at_work:
            busy = [worker for worker, _ in at_work.values()]
            for worker in workers:
                if waiting and worker not in busy and worker.failures < PATIENCE:
                    shards = waiting.popleft()
                    at_work[worker.submit(task, shards, threads=threads)] = worker, shards
            if not at_work:
                lost.extend(waiting)
                return
            done, _ = wait(at_work, return_when=FIRST_COMPLETED)
            for future in done:
                worker, shards = at_work.pop(future)
                try:
                    answer = future.result()
                except (BrokenProcessPool, DeviceError) as error:
                    worker.end()
                    worker.failures += 1
                    failures[shards[0]] += 1
                    _say(worker, shards, error)
                    (lost if failures[shards[0]] == ATTEMPTS else waiting).append(shards)
                    continue
                worker.failures = 0
                yield answer
    finally:
        for worker in workers:
            worker.end()


def _train_here(task: DeviceTask[Answer], blocks: Sequence[list[int]], device: str) -> Generator[Answer, None, None]:
    """Train blocks in this process, and leave its GPU's memory to other processes."""
    try:
        for shards in blocks:
            yield _train(task, shards, device)
    except DeviceError as error:
        raise ZooError(
            f"device {device!r}: failed at shard {shards[0]} ({error}); expected a device that works; what is complete "
            "is kept, the same command tries again"
        ) from None
    finally:
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            # torch keeps what it frees, and `zoo-bench run` goes on in processes of its own. After an error of CUDA it
            # can free nothing.
            with suppress(RuntimeError):
                torch.cuda.empty_cache()


def _say(worker: _Worker, shards: list[int], error: Exception) -> None:
    reason = str(error) if isinstance(error, DeviceError) else "its process died"
    last = "; it gets no more work" if worker.failures == PATIENCE else ""
    _logger.warning("%s: failed at shard %d (%s), which is tried again%s", worker.device, shards[0], reason, last)


def _train(task: DeviceTask[Answer], shards: list[int], device: str) -> Answer:
    """Train shards.

    Raises:
        DeviceError: CUDA failed, or has no memory left, which torch and our own calls raise as RuntimeError.
    """
    try:
        return task(shards, device=device)
    except RuntimeError as error:
        if not device.startswith("cuda"):
            raise
        raise DeviceError(one_line(error)) from error
