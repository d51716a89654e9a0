"""Folders and files by their addresses, on a disk or at a URL (s3://bucket/zoo, hf://org/zoo), and the cache folder."""

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from zoo_gen.errors import ZooError, shown
from zoo_gen.files import hub
from zoo_gen.files.remote import Remote
from zoo_gen.files.url_client import file_system, one_line_errors

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
_BROKEN_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?!/)(.+)")  # as pathlib leaves it; C:/ is one letter
_AT_ONCE = 32  # files that are read at the same time
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
    with one_line_errors(folder.url):
        fs, path = file_system(folder.url)
        try:
            below = fs.find(path, detail=True)
        except FileNotFoundError:
            return {}
    # Some stores mark a folder by a file of its name, with a slash or without, which is none of its files.
    return {
        name[len(path) + 1 :]: entry["size"]
        for name, entry in below.items()
        if name.startswith(f"{path}/") and not name.endswith("/")
    }


def names(folder: Folder, *, known: Iterable[str] = ()) -> list[str]:
    """Return the names of the files in a folder; none if there is no such folder at a URL.

    Args:
        folder: to be listed.
        known: names that are asked for one by one where a web server lists no folders.
    """
    if isinstance(folder, Path):
        return [path.name for path in folder.iterdir()]
    with one_line_errors(folder.url):
        fs, path = file_system(folder.url)
        try:
            listed = [name.rpartition("/")[2] for name in fs.ls(path, detail=False) if not name.endswith("/")]
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
        with one_line_errors(remote[0]):
            fs, _ = file_system(remote[0])
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
