"""Shards handed to processes: joblib's on this machine, or the workers of a Dask cluster.

A task is a function with paths in it and a list of shard numbers, nothing larger. A worker that dies takes no run with
it: what it was at is tried again, in the end alone, so that only a shard that has nobody beside it to blame is given
up. GPUs have another way, `device_workers`; joblib is imported by these two files alone.
"""

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from zoo_gen.machine.cluster import Answer, Task, deaths, on_cluster

if TYPE_CHECKING:
    from zoo_gen.machine.cluster import Client

_END_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_TRACKER = "multiprocessing.resource_tracker"
_logger = logging.getLogger(__name__)


def count_processes(workers: int | None, n_shards: int) -> int:
    """Return how many processes share so many shards: the workers asked for, or all cores."""
    if workers is None:
        import joblib

        workers = joblib.cpu_count()
    return max(1, min(workers, n_shards))


def train_all(
    task: Task[Answer],
    blocks: list[list[int]],
    lost: list[list[int]],
    *,
    processes: int,
    client: "Client | None" = None,
) -> Generator[Answer, None, None]:
    """Train blocks of shards in processes, or on a cluster, and yield the task's answer for each as it is complete.

    When one worker dies, joblib ends the others' work too and does not say whose fault it was. So what was at work is
    tried a second time together with what is left, and what was at work when that fails a third time with no other.

    Args:
        task: what trains a block.
        blocks: numbers of shards that are trained together.
        lost: blocks whose worker died each time are added to it.
        processes: how many work at once on this machine; 1 stands for this process itself.
        client: of a cluster, whose workers are used instead, also those that come later.
    """
    of_a_worker = deaths() if client else (BrokenProcessPool,)
    waiting, alone, attempts = list(blocks), [], 0
    while waiting:
        begun: list[list[int]] = []
        # Later attempts hand out no more than is worked on, so that few are suspected.
        ahead = "n_jobs" if attempts else "all" if client else "2 * n_jobs"
        attempts += 1
        try:
            for answer in _parallel(task, waiting, begun, processes, ahead=ahead, client=client):
                begun.remove(list(answer))
                waiting.remove(list(answer))
                yield answer
        except of_a_worker:
            _logger.warning("a worker died; the shards that were being trained are tried again")
            if attempts > 1:
                alone += begun
                waiting = [shards for shards in waiting if shards not in begun]
    for shards in alone:
        # joblib would train a single block in this process if it were asked for one worker.
        try:
            yield from _parallel(task, [shards], [], 2, ahead="n_jobs", client=client)
        except of_a_worker:
            lost.append(shards)


def _parallel(
    task: Task[Answer],
    blocks: list[list[int]],
    begun: list[list[int]],
    processes: int,
    *,
    ahead: str,
    client: "Client | None",
) -> Iterator[Answer]:
    """Start workers on blocks of shards; what has been handed out is in `begun`."""

    def handed_out() -> Iterator[list[int]]:
        for shards in list(blocks):
            begun.append(shards)
            yield shards

    if client:
        return on_cluster(task, handed_out(), client, all_at_once=ahead == "all")
    import joblib

    tasks = (joblib.delayed(task)(shards) for shards in handed_out())
    backend: Any = nullcontext()
    if processes > 1:
        backend = joblib.parallel_config("loky", initializer=end_with, initargs=(os.getpid(),))
    with ended_by_this_process_alone(), backend:
        return joblib.Parallel(
            n_jobs=processes,
            return_as="generator_unordered",
            batch_size=1,
            pre_dispatch=ahead,
        )(tasks)


def end_with(driver: int) -> None:
    """End a worker process with its driver, from its start.

    After a SIGKILL nobody else would end the workers; those that wait for a task would wait for minutes. Linux does it
    by itself. Elsewhere a thread watches, which comes too late where a library is being loaded or Python is ending.
    """
    if sys.platform == "linux":
        # The thread that started us counts as the driver: joblib's, which lives until it has seen its workers end.
        ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == driver:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def ended_by_this_process_alone() -> Iterator[None]:
    """Let processes that are started inside inherit what makes an interruption quiet.

    Ctrl-C and the end of a terminal reach the workers too, where they would print a traceback each: workers ignore
    them and are killed by us. The semaphores of a killed worker are cleaned up by Python's tracker, which need not
    warn of them.
    """
    # Only the main thread may set handlers.
    numbers = (signal.SIGINT, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ()
    handlers, silenced = [signal.getsignal(number) for number in numbers], os.environ.get("PYTHONWARNINGS")
    try:
        os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [silenced, "ignore::UserWarning:" + _TRACKER]))
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        yield
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
        del os.environ["PYTHONWARNINGS"]
        if silenced is not None:
            os.environ["PYTHONWARNINGS"] = silenced
