"""Downloads over HTTP into a cache that all projects share: resumed, checked, from any of several mirrors.

A note beside each partial download says of which version it is, so that halves of two versions are never joined: the
server is asked to continue only the same one (If-Range), or the digest of the whole decides.
"""

import hashlib
import http.client
import json
import logging
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo_gen.errors import ZooError, needing, one_line
from zoo_gen.files import atomic, reachable, retry
from zoo_gen.files.location import cache_folder

TRIES, FEW_TRIES = 5, 2  # of one address, without a byte in between; few while there is another mirror
TIMEOUT = 30.0
_BLOCK = 2**20
_BUSY = (408, 429, 500, 502, 503, 504)

_logger = logging.getLogger(__name__)
Progress = Callable[[int, int | None], None]  # bytes that are there, and in all if known


@dataclass(frozen=True)
class RemoteFile:
    """A file on one or more servers, and what is known of it."""

    name: str
    urls: tuple[str, ...]
    bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None


class _BadAddress(OSError):
    """An address that does not give the file; another one may."""


def cache_root() -> Path:
    """Return the folder of all archives: ZOO_CACHE_ROOT, or zoo_gen/published in the user's cache folder."""
    return cache_folder("published", variable="ZOO_CACHE_ROOT")


def fetch(remote: RemoteFile, folder: Path, *, progress: Progress | None = None) -> tuple[Path, str]:
    """Return the file in the folder, downloaded if it is not there, and its SHA-256 (hex).

    Where no digest is known, that of the first download is kept in `NAME.json`, and a later one that differs refused.

    Raises:
        ZooError: no address gives the file, it is not what was expected, or the disk has no room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / remote.name
    with alone(folder / f".{remote.name}.lock"):
        note = _read_note(folder / f"{remote.name}.json")  # another process may have written it meanwhile
        if digest := _cached_digest(target, remote, note):
            return target, digest
        reachable.require(remote.urls, needed_for=f"download {remote.name}")
        part, reasons = folder / f".{remote.name}.part", []
        for url in remote.urls:
            tries = TRIES if url == remote.urls[-1] else FEW_TRIES
            try:
                _download(url, remote, part, progress or (lambda done, total: None), tries)
                digest = _check(part, remote, note)
            except _BadAddress as error:
                reasons.append(f"{url}: {error}")
                continue
            atomic.flush(part)
            part.replace(target)
            _part_note(part).unlink(missing_ok=True)
            _write_note(target, digest, url)
            return target, digest
    raise ZooError(f"{remote.name}: cannot be downloaded ({'; '.join(reasons)}); the same command resumes")


def get_json(url: str, *, needed_for: str) -> Any:
    """Return what a server answers as JSON.

    Raises:
        ZooError: it does not answer, or not with JSON.
    """
    reachable.require([url], needed_for=needed_for)
    try:
        with open_url(url) as response:
            return json.loads(response.read(2**24))
    except (_BadAddress, OSError, http.client.HTTPException, ValueError) as error:
        raise ZooError(f"{needed_for}: {url} does not answer as expected ({one_line(error)})") from None


def _download(url: str, remote: RemoteFile, part: Path, progress: Progress, most: int) -> None:
    """Complete a partial download, giving up after so many tries in a row that bring nothing."""
    tries = 0
    while True:
        before = _length(part)
        try:
            if _resume(url, remote, part, progress):
                return
            problem = "the connection breaks"
        except (http.client.HTTPException, urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", error)
            problem = one_line(reason) if isinstance(reason, Exception) else str(reason)
        tries = 0 if _length(part) > before else tries + 1
        if tries >= most:
            raise _BadAddress(problem)
        time.sleep(min(0.2 * 2**tries, 8.0))


def _resume(url: str, remote: RemoteFile, part: Path, progress: Progress) -> bool:
    """Ask for what is missing and append it; return whether all is there."""
    note = _read_note(_part_note(part))
    known = remote.sha256 or remote.md5  # then the digest of the whole tells halves of two versions
    same = note.get("url") == url and note.get("version")
    have = _length(part) if same or known else 0
    if remote.bytes is not None and have > remote.bytes:
        have = 0
    request = urllib.request.Request(url)
    if have:
        request.add_header("Range", f"bytes={have}-")
        if same:
            request.add_header("If-Range", note["version"])
    try:
        response = open_url(request)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            if error.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
                return True
            part.unlink(missing_ok=True)
            return False
        if error.code == 429:
            wait = retry.stated_pause(error.headers, 0)
            raise _BadAddress(f"is too busy (HTTP 429), and asks to wait {wait:.0f} s") from None
        raise _BadAddress(f"answers {error.code} {error.reason}") from None
    with response:
        ranged = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        start = have if ranged else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdecimal() else None
        if remote.bytes is not None and total not in (None, remote.bytes):
            raise _BadAddress(f"has {total:,} bytes; expected {remote.bytes:,}")
        _check_room(part, total, start)
        _write_json(_part_note(part), {"url": url, "version": version_of(response.headers)})
        with part.open("r+b" if part.exists() else "wb") as file:
            file.truncate(start)
            file.seek(start)
            done = start
            while block := _read(response):
                with atomic.naming(part):
                    file.write(block)
                done += len(block)
                progress(done, total or remote.bytes)
    return total is None or done >= total


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_BLOCK)
    except OSError as error:  # an error of the disk is not one of the network
        raise ConnectionError(one_line(error)) from None


def version_of(headers: http.client.HTTPMessage) -> str:
    """Return what tells a version of the file from another, as If-Range takes it; a weak tag does not."""
    tag = headers.get("ETag") or ""
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified") or ""


def open_url(request: str | urllib.request.Request) -> Any:
    """Return the response to a request, which is sent again while the server is too busy."""
    return retry.patiently(lambda: urllib.request.urlopen(request, timeout=TIMEOUT), _pause)


def _pause(error: Exception, failures: int) -> float | None:
    if not isinstance(error, urllib.error.HTTPError) or error.code not in _BUSY:
        return None
    return None if error.code >= 500 and failures >= TRIES else retry.stated_pause(error.headers, 2.0**failures / 2)


def _check(part: Path, remote: RemoteFile, note: dict[str, Any]) -> str:
    """Return the SHA-256 of a download; a wrong one is deleted."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with part.open("rb") as file:
        while block := file.read(_BLOCK):
            sha256.update(block)
            if remote.md5:
                md5.update(block)
    digest = sha256.hexdigest()
    wrong = ""
    if remote.bytes not in (None, part.stat().st_size):
        wrong = f"has {part.stat().st_size:,} bytes; expected {remote.bytes:,}"
    elif remote.sha256 not in (None, digest):
        wrong = f"has SHA-256 {digest[:16]}...; expected {str(remote.sha256)[:16]}..."
    elif remote.md5 not in (None, md5.hexdigest()):
        wrong = f"has MD5 {md5.hexdigest()}; expected {remote.md5}"
    elif not remote.sha256 and not remote.md5 and note.get("sha256") not in (None, digest):
        wrong = (
            f"has SHA-256 {digest[:16]}..., and the first download had {note['sha256'][:16]}...; if its publisher "
            f"changed it, remove {part.parent / remote.name}.json"
        )
    if wrong:
        part.unlink()
        _part_note(part).unlink(missing_ok=True)
        raise _BadAddress(wrong)
    return digest


def _cached_digest(target: Path, remote: RemoteFile, note: dict[str, Any]) -> str | None:
    """Return the SHA-256 of the cached file; None if there is none or it is another one."""
    if not target.is_file() or not note:
        return None
    stat, digest = target.stat(), str(note.get("sha256"))
    if remote.sha256 not in (None, digest) or remote.bytes not in (None, stat.st_size):
        return None
    if [stat.st_size, stat.st_mtime_ns] == [note.get("bytes"), note.get("mtime_ns")]:
        return digest
    with target.open("rb") as file:  # copied, or touched: the bytes decide
        return digest if hashlib.file_digest(file, "sha256").hexdigest() == digest else None


def _write_note(target: Path, sha256: str, url: str) -> None:
    stat = target.stat()
    content = {"sha256": sha256, "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "url": url}
    _write_json(target.with_name(f"{target.name}.json"), content)


def _check_room(part: Path, total: int | None, have: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - have > free:
        raise ZooError(
            f"{part.parent}: the disk has no room; {(total - have) / 1e6:.1f} MB are to come, {free / 1e6:.1f} are free"
        )


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait until no other process downloads the same file into the same cache."""
    with needing("downloads", extra="convert"):
        from filelock import FileLock, Timeout
    held = FileLock(lock)
    try:
        held.acquire(blocking=False)
    except Timeout:
        _logger.warning("%s: another process downloads it; waiting", lock.parent)
        held.acquire()
    try:
        yield
    finally:
        held.release()


def _part_note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    atomic.replace(path, (json.dumps(content) + "\n").encode())


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
