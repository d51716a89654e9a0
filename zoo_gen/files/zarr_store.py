"""What zarr reads and writes a folder through, on a disk or at a URL."""

import os
from collections.abc import Callable
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

from zoo_gen.files.location import Folder
from zoo_gen.files.url_client import async_file_system, check_writable, one_line_errors


def zarr_store(folder: Folder, *, read_only: bool = True) -> Any:
    """Return what zarr opens a group or an array in a folder with."""
    if isinstance(folder, Path):
        return folder
    if not read_only:
        check_writable(folder.url)
    from zarr.storage import FsspecStore

    with one_line_errors(folder.url):
        fs, path = async_file_system(folder.url)
    return FsspecStore(_FileSystem(fs, folder.url), path=path, read_only=read_only)


class _FileSystem:
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
            self._fs, self._process = async_file_system(self._url)[0], os.getpid()
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
            with one_line_errors(self._url):
                answer = coroutine(*arguments, **options)
                if not self._fs.asynchronous:
                    answer = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(answer, self._fs.loop))
                return await answer

        return ask
