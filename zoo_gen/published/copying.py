"""A zoo of the Hub copied to another URL, file by file, without a copy of it on this machine.

As where a zoo is made at a URL, SHA256SUMS says first which zoo it will be, and the manifest comes last: until then no
reader takes it for a zoo. The same copy after an interruption brings what is missing.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from zoo_gen.errors import ZooError
from zoo_gen.files import hub, location
from zoo_gen.files.hub_errors import patiently
from zoo_gen.files.remote import Remote
from zoo_gen.store import checksums
from zoo_gen.store.create import MANIFEST

_AT_ONCE = 4  # files in memory; one is about as large as a shard, tens of MB


def copy(
    address: str, folder: Remote, *, needed: Sequence[str], progress: Callable[[int, int | None], None] | None = None
) -> None:
    """Copy a zoo of the Hub into a folder that is new, empty, or the same copy begun before.

    Args:
        address: of the zoo, as hf://org/zoo@revision.
        folder: where the files go.
        needed: files and folders without which nothing is copied.
        progress: called with (bytes done, bytes in all) after each file.

    Raises:
        ZooError: the Hub or the other store cannot be reached or refuses, the repository is no zoo or a damaged one,
            or the folder holds something else.
    """
    source = Remote(hub.pin(address))
    sizes = hub.list_files(hub.parse(source.url))
    hub.check_holds(hub.parse(address), sizes, needed)
    wrong = checksums.findings(source)
    if wrong:
        raise ZooError(f"{address}: is damaged on the Hub: {wrong[0][0]} {wrong[0][1]}")
    complete = _claim(folder, (source / checksums.NAME).read_bytes())
    pending = [name for name in sizes if name not in (checksums.NAME, MANIFEST) and complete.get(name) != sizes[name]]
    total = sum(sizes.values())
    done = total - sum(sizes[name] for name in pending)
    lock, stop = threading.Lock(), threading.Event()

    def bring(name: str) -> None:
        nonlocal done
        if stop.is_set():
            return
        content = patiently((source / name).read_bytes)
        if len(content) != sizes[name]:
            raise ZooError(f"{address}: {name} is not complete; the same command resumes")
        (folder / name).write_bytes(content)
        with lock:
            done += len(content)
            if progress:
                progress(done, total)

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        try:
            copies = [pool.submit(bring, name) for name in pending]
            for each in wait(copies, return_when=FIRST_EXCEPTION).done:
                each.result()
        finally:
            stop.set()
    (folder / MANIFEST).write_bytes((source / MANIFEST).read_bytes())


def _claim(folder: Remote, sums: bytes) -> dict[str, int]:
    """Say which zoo a folder will hold, and return what a copy that was begun before has brought, path -> bytes.

    A file of that copy is whole, as an object appears whole, and is the right one, as a new copy begins in an empty
    folder alone.

    Raises:
        ZooError: the folder holds something else.
    """
    present = location.files(folder)
    if MANIFEST in present or (present and checksums.NAME not in present):
        raise ZooError(f"{folder}: exists already; expected a new or empty folder")
    if not (folder / checksums.NAME).create(sums) and (folder / checksums.NAME).read_bytes() != sums:
        raise ZooError(f"{folder}: another zoo is begun there; expected another folder, or that this one is removed")
    return present
