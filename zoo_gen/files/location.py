"""Folders and files on a disk or in an object store (s3://bucket/zoo, hf://org/zoo), and the user's cache folder.

`Remote` has those methods of `pathlib.Path` that a zoo needs, under the same names, so that only what concerns disks
alone (flushing, renaming) asks which of both it has. An object appears whole or not at all and is durable when its
writing returns, so that nothing there has a temporary name. Listings are not cached, because other runs write.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

from zoo_gen.errors import ZooError, one_line, shown
from zoo_gen.files import hub

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
_BROKEN_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?!/)(.+)")  # as pathlib leaves it; C:/ is one letter
_AT_ONCE = 32  # files that are read at the same time
# These are answers of a store; every other error is a failure of the network or the store.
_ANSWERS = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
_OPTIONS: dict[str, dict[str, Any]] = {
    # Requests that are refused as too many, or not answered, are repeated, each time after a longer pause.
    "s3": {"config_kwargs": {"retries": {"mode": "legacy", "max_attempts": 6}}},
    # The client reads ahead by blocks of 5 MB unless told otherwise, and what follows is never needed here.
    "hf": {"block_size": 2**10},
}


@dataclass(frozen=True)
class Remote:
    """A folder or a file at a URL."""

    url: str  # without a slash at its end

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "Remote":
        return Remote(f"{self.url}/{name}")

    @property
    def name(self) -> str:
        """What follows the last slash."""
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> "Remote":
        """The folder that it is in."""
        return Remote(self.url.rpartition("/")[0])

    def absolute(self) -> "Remote":
        """Return itself: a URL is the same from everywhere."""
        return self

    resolve = absolute

    def exists(self) -> bool:
        """Return whether there is a file, or a folder with a file in it."""
        return self._kind() is not None

    def is_file(self) -> bool:
        """Return whether there is a file."""
        return self._kind() == "file"

    def is_dir(self) -> bool:
        """Return whether there is a folder with a file in it."""
        return self._kind() == "directory"

    def read_bytes(self) -> bytes:
        """Return the content of a file."""
        return bytes(self._ask("cat_file"))

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the content of a file as text."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Write a file; when this returns it is whole and durable."""
        self._write(content)

    def create(self, content: bytes) -> bool:
        """Write a file unless there is one; return whether it was written.

        Of several that do it at once one wins, where the store knows conditional writing, as S3 does.
        """
        try:
            self._write(content, mode="create")
        except FileExistsError:
            return False
        return True

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove a file."""
        try:
            self._ask("rm_file")
        except FileNotFoundError:
            if not missing_ok:
                raise

    def _write(self, content: bytes, **options: Any) -> None:
        _check_writable(self.url)
        try:
            self._ask("pipe_file", content, **options)
        except FileNotFoundError as error:  # a store makes folders, and no bucket
            raise ZooError(f"{self.url}: {one_line(error)}; expected a bucket that is there") from None

    def _kind(self) -> str | None:
        # fsspec's own exists() and isdir() take any failure for a no.
        try:
            return str(self._ask("info")["type"])
        except FileNotFoundError:
            return None

    def _ask(self, action: str, *arguments: Any, **options: Any) -> Any:
        with _one_line_errors(self.url):
            fs, path = _open(self.url)
            return getattr(fs, action)(path, *arguments, **options)


Folder = Path | Remote


def locate(address: str | Path | Remote) -> Folder:
    """Return the folder or file at a path, or at a URL such as s3://bucket/zoo.

    Raises:
        ZooError: it is no text and no path, or a URL that lacks a part.
    """
    if isinstance(address, Remote):
        return address
    text = os.fspath(address) if isinstance(address, str | os.PathLike) else None
    if not isinstance(text, str) or "\0" in text:
        raise ZooError(f"got {shown(address)} in place of a folder or file; expected its path or URL")
    match = _URL.fullmatch(text)
    if match is not None and match[1].lower() == "file":
        return Path(match[2])
    if match is not None:
        if not match[2].strip("/"):
            raise ZooError(f"{text}: names no place; expected a URL such as s3://bucket/zoo")
        return Remote(f"{match[1].lower()}://{match[2]}".rstrip("/"))
    broken = _BROKEN_URL.fullmatch(text)
    if broken is not None and not Path(f"{broken[1]}:").exists():
        raise ZooError(f"{text}: lacks a slash, which Path drops; expected text, {broken[1]}://{broken[2]}")
    return Path(text)


def on_disk(address: str | Path | Remote) -> Path:
    """Return the folder or file at a path, where none at a URL can be used.

    Raises:
        ZooError: it is at a URL, or no text and no path.

    >>> on_disk("zoos/tiny").name
    'tiny'
    """
    place = locate(address)
    if isinstance(place, Remote):
        raise ZooError(f"{place}: is a URL; expected a folder or file on this machine")
    return place


def make_folder(folder: Path) -> None:
    """Make a folder on this machine, and those that it is in, where they are not there.

    Raises:
        ZooError: a file stands in its place, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZooError(f"{folder}: cannot be made ({error.strerror}); expected a place for a folder") from None


def cache_folder(kind: str, *, variable: str) -> Path:
    """Return the folder of downloads of one kind: what an environment variable names, or zoo_gen/<kind> in the cache.

    The user's cache folder is XDG_CACHE_HOME, or ~/.cache.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return Path(os.environ.get(variable) or cache / "zoo_gen" / kind).expanduser()


def pinned(folder: Folder) -> Folder:
    """Return a folder at a fixed revision: one on the Hub at the commit that it has now, any other as it is.

    Raises:
        ZooError: the Hub cannot be reached, or has no such repository or revision.
    """
    if isinstance(folder, Path) or not hub.is_address(folder.url):
        return folder
    return Remote(hub.pin(folder.url))


def files(folder: Folder) -> dict[str, int]:
    """Return every file below a folder, its path from there -> its bytes; none if there is no such folder."""
    if isinstance(folder, Path):
        paths = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    with _one_line_errors(folder.url):
        fs, path = _open(folder.url)
        try:
            below = fs.find(path, detail=True)
        except FileNotFoundError:
            return {}
    # A file of the folder's own name, as some stores mark folders, is none of its files.
    return {name[len(path) + 1 :]: entry["size"] for name, entry in below.items() if name.startswith(f"{path}/")}


def names(folder: Folder, *, known: Iterable[str] = ()) -> list[str]:
    """Return the names of the files in a folder; none if there is no such folder at a URL.

    Args:
        folder: to be listed.
        known: names that are asked for one by one where a web server lists no folders.
    """
    if isinstance(folder, Path):
        return [path.name for path in folder.iterdir()]
    with _one_line_errors(folder.url):
        fs, path = _open(folder.url)
        try:
            listed = [name.rpartition("/")[2] for name in fs.ls(path, detail=False)]
        except FileNotFoundError:
            listed = []
    if listed or not folder.url.startswith("http"):
        return listed
    return [name for name in known if (folder / name).exists()]


def read_all(paths: list[Folder]) -> Iterator[bytes]:
    """Yield the contents of files in their order; several at once from a URL, where each waits for an answer."""
    for start in range(0, len(paths), _AT_ONCE):
        some = paths[start : start + _AT_ONCE]
        remote = [path.url for path in some if isinstance(path, Remote)]
        if len(remote) < len(some):
            yield from (path.read_bytes() for path in some)
            continue
        with _one_line_errors(remote[0]):
            fs, _ = _open(remote[0])
            keys = [str(fs._strip_protocol(url)) for url in remote]
            contents = fs.cat(keys) if len(keys) > 1 else {keys[0]: fs.cat_file(keys[0])}
        yield from (contents[key] for key in keys)


def remove(folder: Folder) -> None:
    """Remove a folder, if it is there, and all that is in it."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
        return
    for name in files(folder):
        (folder / name).unlink(missing_ok=True)


def arrays(folder: Folder, *, read_only: bool = True) -> Any:
    """Return what zarr opens a group or an array in a folder with."""
    if isinstance(folder, Path):
        return folder
    if not read_only:
        _check_writable(folder.url)
    from zarr.storage import FsspecStore

    with _one_line_errors(folder.url):
        fs, path = _open_async(folder.url)
    return FsspecStore(_ForZarr(fs, folder.url), path=path, read_only=read_only)


def _open_async(url: str) -> tuple[Any, str]:
    """Return what `_open` does, a file system with coroutines."""
    fs, path = _open(url)
    if not fs.async_impl:
        from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

        fs = AsyncFileSystemWrapper(fs, asynchronous=True)
    return fs, path


class _ForZarr:
    """A file system for zarr's event loop whose coroutines raise errors of one line.

    Zarr's readers take other errors for damaged files, and a repair would delete good shards because of a bad network.
    The coroutines run in the loop of fsspec's own thread, so that a process has one client and fsspec closes it; a
    forked process, such as a worker of torch's DataLoader, opens a client of its own.
    """

    asynchronous = True

    def __init__(self, fs: Any, url: str) -> None:
        self._fs, self._url, self._process = fs, url, os.getpid()

    @property
    def _client(self) -> Any:
        if self._process != os.getpid():
            self._fs, self._process = _open_async(self._url)[0], os.getpid()
        return self._fs

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        return self._wrapped(attribute) if iscoroutinefunction(attribute) else attribute

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """Return a file, or a range of it, which some servers (`python -m http.server`) answer with the whole file."""
        content: bytes = await self._wrapped(self._client._cat_file)(path, start=start, end=end, **options)
        if end is None:
            return content if start is None or start >= 0 else content[start:]
        return content[start:end] if len(content) > end - (start or 0) else content

    def _wrapped(self, coroutine: Callable[..., Any]) -> Callable[..., Any]:
        import asyncio

        async def ask(*arguments: Any, **options: Any) -> Any:
            with _one_line_errors(self._url):
                answer = coroutine(*arguments, **options)
                if not self._fs.asynchronous:
                    answer = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(answer, self._fs.loop))
                return await answer

        return ask


def _check_writable(url: str) -> None:
    if hub.is_address(url):  # every file would be a commit
        raise ZooError(
            f"{url}: zoos cannot be written on the Hub file by file; expected a local folder, then zoo-gen push"
        )


def _options(url: str) -> dict[str, Any]:
    """Return the options of a URL's client; fsspec's own configuration takes precedence."""
    from fsspec.config import conf

    protocol = url.partition("://")[0]
    endpoint = {"endpoint": hub.endpoint()} if protocol == "hf" else {}
    return {"use_listings_cache": False, **_OPTIONS.get(protocol, {}), **endpoint, **conf.get(protocol, {})}


def _open(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, which fsspec caches, and the path in it."""
    from fsspec.core import url_to_fs

    fs, path = url_to_fs(url, **_options(url))
    if hub.is_address(url):
        hub.share_pinned_commits(fs)
    return fs, path


@contextmanager
def _one_line_errors(url: str) -> Iterator[None]:
    """Turn what a store's client raises into one line; answers such as FileNotFoundError stay as they are."""
    try:
        yield
    except (*_ANSWERS, ZooError):
        raise
    except ModuleNotFoundError as error:
        raise ZooError(f"{url}: {one_line(error)}; expected pip install 'zoo-gen[remote]'") from None
    except ImportError as error:  # says which client the store needs, of which ours is that of S3 alone
        wanted = "pip install 'zoo-gen[remote]'" if url.startswith("s3:") else "that package"
        raise ZooError(f"{url}: {one_line(error)}; expected {wanted}") from None
    except Exception as error:  # each store's client has its own
        if str(error).startswith("Protocol not known"):
            raise ZooError(f"{url}: {error}; expected s3://, hf://, https:// or another that fsspec knows") from None
        if "not satisfiable" in str(error):  # a file that is too short, which its reader calls damaged
            raise
        raise ZooError(
            f"{url}: the store does not answer as expected ({one_line(error)}); what is complete is kept"
        ) from error
