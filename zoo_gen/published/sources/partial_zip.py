"""A part of a zip on a server, as a smaller zip: only the members that a conversion needs travel.

The directory at the zip's end says where each member is; ranges of bytes are copied as they are and a new directory is
written behind them. Each member keeps its check sum, which takes the place of the digest of the whole.
"""

import hashlib
import http.client
import io
import json
import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from zoo_gen.errors import ZooError, one_line
from zoo_gen.files import atomic, reachable
from zoo_gen.published.formats.model_zoos import ABOUT_A_RUN, STATE
from zoo_gen.published.sources.download import Progress, alone, open_url, version_of

FORMATS = ("model_zoos",)
_GAP = 2**18  # bytes between two members that are not worth a request of their own


class NoRanges(Exception):
    """The server gives files whole only, or the file is no zip."""


@dataclass(frozen=True)
class _Range:
    """Neighbouring members, and where they are in the whole zip."""

    start: int
    stop: int
    members: tuple[zipfile.ZipInfo, ...]


def needed(names: Collection[str], *, epochs: Sequence[int] | None, models: Sequence[int] | None) -> set[str]:
    """Return the members of a zip of Ray folders that a conversion reads; optimiser states are not among them.

    Runs are numbered as the converter does, in the order of their names; what says that a run exists is always needed.

    Raises:
        NoRanges: the states alone say that some run exists, so that a part without them would number runs otherwise.
    """
    states = {name: match for name in names if (match := STATE.fullmatch(name))}
    about = {name for name in names if name.rpartition("/")[2] in ABOUT_A_RUN}
    begun = {name.rpartition("/")[0] for name in about if name.endswith("/params.json")}
    runs = sorted({match[1] or "" for match in states.values()} | begun)
    if not begun.issuperset(runs):
        raise NoRanges
    chosen_runs = runs if models is None else {runs[model] for model in models if 0 <= model < len(runs)}
    chosen = {
        name
        for name, match in states.items()
        if (epochs is None or int(match[2]) in epochs) and (match[1] or "") in chosen_runs
    }
    return about | chosen


def fetch_part(
    url: str,
    folder: Path,
    *,
    epochs: Sequence[int] | None,
    models: Sequence[int] | None,
    progress: Progress,
) -> Path:
    """Return a zip with what a conversion of these epochs and models needs of the one at `url`.

    What has come of an interrupted call is kept, and the same call resumes.

    Raises:
        NoRanges: it can only be had whole.
        ZooError: the server does not answer, or the zip is damaged.
    """
    choice = json.dumps([url, epochs and list(epochs), models and list(models)])
    folder = folder / hashlib.sha256(choice.encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / url.rpartition("/")[2].partition("?")[0]
    target = target if target.suffix == ".zip" else folder / "part.zip"  # Zenodo's addresses end in /content
    with alone(folder / ".lock"):
        if target.exists():
            return target
        reachable.require([url], needed_for=f"download a part of {url}")
        part, note = folder / f".{target.name}.part", folder / f".{target.name}.json"
        try:
            _copy(url, part, note, epochs=epochs, models=models, progress=progress)
        except (OSError, zipfile.BadZipFile, ValueError) as error:
            raise ZooError(f"{url}: {one_line(error)}; the same command resumes") from None
        atomic.flush(part)
        part.replace(target)
        note.unlink()
    return target


def _copy(
    url: str,
    part: Path,
    note: Path,
    *,
    epochs: Sequence[int] | None,
    models: Sequence[int] | None,
    progress: Progress,
) -> None:
    remote = _Remote(url)
    with zipfile.ZipFile(io.BufferedReader(remote, 2**16)) as whole:
        names = needed(whole.namelist(), epochs=epochs, models=models)
        ranges = _ranges(whole, names)
    total = sum(each.stop - each.start for each in ranges)
    same = note.exists() and note.read_text(encoding="utf-8") == remote.version
    have = part.stat().st_size if part.exists() and same and remote.version else 0
    atomic.replace(note, remote.version.encode())
    if total - have > shutil.disk_usage(part.parent).free:
        raise ZooError(f"{part.parent}: the disk has no room for {total / 1e6:.1f} MB")
    members, begin = [], 0
    with part.open("r+b" if part.exists() else "wb") as file:
        file.truncate(min(have, total))  # a directory that was begun behind them is written again
        for each in ranges:
            end = begin + each.stop - each.start
            for member in each.members:
                moved = copy(member)
                moved.header_offset = begin + member.header_offset - each.start
                members.append(moved)
            if end > have:
                skip = max(0, have - begin)
                file.seek(begin + skip)
                content = remote.bytes(each.start + skip, each.stop)
                with atomic.naming(part):
                    file.write(content)
                progress(end, total)
            begin = end
        file.seek(begin)
        _write_directory(file, members, begin)


def _ranges(whole: zipfile.ZipFile, names: set[str]) -> list[_Range]:
    """Return the ranges of a zip that hold these members; near ones are one range."""
    entries = sorted(whole.infolist(), key=lambda entry: entry.header_offset)
    ends = [entry.header_offset for entry in entries[1:]] + [whole.start_dir]
    ranges: list[_Range] = []
    for entry, stop in zip(entries, ends, strict=True):
        if entry.filename not in names:
            continue
        start = entry.header_offset
        last = ranges[-1] if ranges else None
        # A range is held in memory while it comes, so that it is bounded.
        if last and start - last.stop < _GAP and stop - last.start < 2**26:
            ranges[-1] = _Range(last.start, stop, (*last.members, entry))
        else:
            ranges.append(_Range(start, stop, (entry,)))
    if not ranges:
        raise NoRanges
    return ranges


def _write_directory(file: BinaryIO, members: list[zipfile.ZipInfo], start: int) -> None:
    """Write the directory of members that are in the file already."""
    with zipfile.ZipFile(file, "a") as archive:
        archive.filelist = members
        archive.NameToInfo = {member.filename: member for member in members}
        archive.start_dir = start
        archive._didModify = True  # type: ignore[attr-defined]  # zipfile has no public way to list what is there


class _Remote(io.RawIOBase):
    """A file on a server, read by ranges of its bytes, all of one version."""

    def __init__(self, url: str) -> None:
        self.url, self.place, self.version = url, 0, ""
        request = urllib.request.Request(url, headers={"Range": "bytes=0-0"})
        with open_url(request) as response:
            size = response.headers.get("Content-Range", "").rpartition("/")[2]
            if response.status != 206 or not size.isdecimal():
                raise NoRanges
            self.size, self.version = int(size), version_of(response.headers)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.place = offset + (0, self.place, self.size)[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = self.bytes(self.place, min(self.place + len(buffer), self.size))
        buffer[: len(content)] = content
        self.place += len(content)
        return len(content)

    def bytes(self, start: int, stop: int) -> bytes:
        """Return a range of bytes, asked for again where the connection breaks."""
        content, tries = b"", 0
        while start + len(content) < stop:
            headers = {"Range": f"bytes={start + len(content)}-{stop - 1}"}
            if self.version:
                headers["If-Range"] = self.version
            request = urllib.request.Request(self.url, headers=headers)
            before = len(content)
            try:
                with open_url(request) as response:
                    if response.status != 206:
                        raise ZooError(f"{self.url}: has changed while it was read; expected the same command again")
                    content += response.read(stop - start - len(content))
            except urllib.error.HTTPError:
                raise
            except (OSError, http.client.HTTPException) as error:
                content += getattr(error, "partial", b"")
                if len(content) == before and tries >= 4:
                    raise ConnectionError(f"the connection breaks ({one_line(error)})") from None
            tries = tries + 1 if len(content) == before else 0
        return content
