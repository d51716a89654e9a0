"""A Dask cluster whose workers train shards in place of processes here; distributed is imported by this file alone.

Tasks go to the scheduler one by one and not through joblib, which trains in this process where a cluster has one worker
of one thread. What a person can mend there, a scheduler that is gone or a worker without this package, is one line.
"""

import asyncio
import logging
import socket
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from zoo_gen.errors import ZooError, one_line

if TYPE_CHECKING:
    from distributed import Client, Future

Answer = TypeVar("Answer", bound=Iterable[int])  # of a task: the numbers of its shards in order, or a dict of them
Task = Callable[[list[int]], Answer]  # trains shards

CONNECT_SECONDS = 10  # in which a scheduler has to answer
WORKER_SECONDS = 60  # in which a cluster has to have a worker
LOOK_SECONDS = 10  # between two looks whether a cluster has a worker
_SAME = ("zoo-gen", "torch", "numpy")  # packages whose versions the bytes of a shard follow from
_NONE = "none"
_logger = logging.getLogger(__name__)


@contextmanager
def cluster(scheduler: str | None) -> "Iterator[Client | None]":
    """Connect to the scheduler of a Dask cluster at an address such as tcp://host:8786; to none, if none is given.

    Raises:
        ZooError: distributed is not installed, no scheduler answers at the address, or no worker is there.
    """
    if scheduler is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError:
        raise ZooError("engine dask: distributed is not installed; expected pip install 'zoo-gen[cluster]'") from None
    _check_answers(scheduler)
    with _quiet():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other versions of its own choice of packages
            client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        with client:
            try:
                client.wait_for_workers(1, timeout=WORKER_SECONDS)
            except TimeoutError:
                raise ZooError(f"scheduler {scheduler!r}: has no worker; expected dask worker {scheduler}") from None
            _check_package(client, scheduler)
            with _telling_of_no_worker(client, scheduler):
                yield client


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep distributed from printing its tracebacks of a lost connection beside our line; each of its files logs."""
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def deaths() -> tuple[type[Exception], ...]:
    """Return what is raised when the worker of a task has died, and others that tried the same task."""
    from distributed import KilledWorker

    return (KilledWorker,)


def on_cluster(
    task: Task[Answer], blocks: Iterable[list[int]], client: "Client", *, all_at_once: bool
) -> Iterator[Answer]:
    """Give blocks of shards to the workers of a cluster and yield the task's answer for each as it is complete.

    Args:
        task: what trains a block.
        blocks: numbers of shards that are trained together; taken from as they are handed out.
        client: of the cluster.
        all_at_once: whether all blocks are handed out, so that workers that come later take their share; else no more
            than there are threads.

    Raises:
        ZooError: the scheduler is gone, or a worker lacks a package or has another version of one.
        KilledWorker: as `deaths` says.
    """
    from distributed import as_completed

    scheduler = str(getattr(client.scheduler, "address", ""))
    waiting, versions = iter(blocks), _versions()
    given: set[Future[Any]] = set()

    def submit(count: int | None) -> "list[Future[Any]]":
        some = islice(waiting, count)
        futures = [client.submit(_with_these_versions, task, versions, shards, pure=False) for shards in some]
        given.update(futures)
        return futures

    try:
        with _one_line_errors(scheduler):
            count = None if all_at_once else max(1, sum(client.nthreads().values()))
            done = as_completed(submit(count), loop=client.loop)
        for future in done:
            given.remove(future)
            with _one_line_errors(scheduler):
                answer: Answer = future.result()
                done.update(submit(1))
            yield answer
    finally:
        if given and client.status == "running":
            with suppress(OSError):  # the scheduler may be gone
                client.cancel(list(given))


@contextmanager
def _one_line_errors(scheduler: str) -> Iterator[None]:
    """Turn what a person can mend of a cluster into one line."""
    from distributed.comm import CommClosedError

    try:
        yield
    except (CancelledError, CommClosedError):  # whichever its client hears of first
        raise ZooError(
            f"scheduler {scheduler!r}: is gone; expected it to be there again; what is complete is kept, the same "
            "command resumes"
        ) from None
    except (ImportError, RuntimeError) as error:  # distributed wraps what a machine cannot unpickle
        missing = error.__cause__ if isinstance(error.__cause__, ImportError) else error
        if not isinstance(missing, ImportError):
            raise
        raise ZooError(
            f"scheduler {scheduler!r}: it or a worker lacks a package ({one_line(missing)}); expected those that are "
            "here on all machines"
        ) from None


def _versions() -> dict[str, str]:
    """Return the versions of packages here; without what follows a +, which says for which device torch was built."""
    installed: dict[str, str] = {}
    for name in _SAME:
        try:
            installed[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            installed[name] = _NONE
    return installed


def _with_these_versions(task: Task[Answer], versions: dict[str, str], shards: list[int]) -> Answer:
    """Do a task in a worker whose packages are those of the client.

    Raises:
        ZooError: they are not.
    """
    here = _versions()
    for name, expected in versions.items():
        if here[name] != expected:
            raise ZooError(
                f"worker on {socket.gethostname()}: has {name} {here[name]}; expected {expected}, as where the command "
                "was given"
            )
    return task(shards)


def _check_answers(scheduler: str) -> None:
    """Refuse an address at which no scheduler answers; distributed's client hangs where another server does.

    Raises:
        ZooError: no scheduler answers.
    """
    from distributed.core import rpc
    from distributed.security import Security

    async def ask() -> None:
        remote = rpc(scheduler, connection_args=Security().get_connection_args("client"), timeout=CONNECT_SECONDS)
        try:
            await asyncio.wait_for(remote.identity(n_workers=0), CONNECT_SECONDS + 1)
        finally:
            await remote.close_rpc()

    try:
        with ThreadPoolExecutor(1) as elsewhere:  # a notebook has a loop of its own in this thread
            elsewhere.submit(asyncio.run, ask()).result()
    except Exception as error:  # each way not to be a scheduler has its own
        raise ZooError(f"scheduler {scheduler!r}: {one_line(error)}; expected one such as tcp://host:8786") from None


def _check_package(client: "Client", scheduler: str) -> None:
    """Refuse workers that lack this package: a task that names it would end each of them, again and again.

    Raises:
        ZooError: one lacks it.
    """
    if _versions()["zoo-gen"] == _NONE:  # it runs here without being installed, and so it may there
        return
    for worker, installed in client.run(version, "zoo-gen", on_error="return").items():
        if isinstance(installed, PackageNotFoundError):
            raise ZooError(f"scheduler {scheduler!r}: its worker {worker} lacks zoo-gen; expected it on all machines")


@contextmanager
def _telling_of_no_worker(client: "Client", scheduler: str) -> Iterator[None]:
    """Say so when a cluster has lost all its workers: the run waits for one to come."""
    ended = threading.Event()

    def watch() -> None:
        was_there = True
        while not ended.wait(LOOK_SECONDS):
            try:
                is_there = bool(client.nthreads())
            except Exception:  # the scheduler is gone, which whoever waits for an answer hears
                return
            if was_there and not is_there:
                _logger.warning("scheduler %r: has no worker any more; waiting for one to come", scheduler)
            was_there = is_there

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
