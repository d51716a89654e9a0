"""Records of Zenodo through its API: which files they hold, with the digests that Zenodo states."""

import json
import os
from fnmatch import fnmatchcase
from pathlib import Path

from zoo_gen.errors import ZooError
from zoo_gen.files import atomic
from zoo_gen.published.sources.download import RemoteFile, get_json


def endpoint() -> str:
    """Return the address of Zenodo: ZENODO_ENDPOINT, or the public one."""
    return (os.environ.get("ZENODO_ENDPOINT") or "https://zenodo.org").rstrip("/")


def files(record: int, patterns: tuple[str, ...], *, needed_for: str, cache: Path | None = None) -> list[RemoteFile]:
    """Return the files of a record whose names match one of the patterns; all if there are none.

    The number of all versions of a record leads to the newest one. What Zenodo said last is kept in the folder `cache`,
    and taken where Zenodo cannot be reached: what it lists may be in the cache too.

    Raises:
        ZooError: Zenodo cannot be reached, or has no such record or no such file in it.
    """
    url = f"{endpoint()}/api/records/{record}"
    listing = cache / f"zenodo-{record}.json" if cache else None
    try:
        answer = get_json(url, needed_for=needed_for)
        if listing:
            listing.parent.mkdir(parents=True, exist_ok=True)
            atomic.replace(listing, json.dumps(answer).encode())
    except ZooError:
        if listing is None or not listing.exists():
            raise
        answer = json.loads(listing.read_bytes())
    try:
        remotes = [_remote_file(entry) for entry in answer["files"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ZooError(f"{needed_for}: {url} does not answer as expected ({error!r})") from None
    chosen = [each for each in remotes if not patterns or any(fnmatchcase(each.name, pattern) for pattern in patterns)]
    if not chosen:
        names = ", ".join(each.name for each in remotes) or "nothing"
        raise ZooError(f"{needed_for}: {url} has no {' or '.join(patterns) or 'file'}; it has {names}")
    return chosen


def _remote_file(entry: dict) -> RemoteFile:
    name, address = str(entry["key"]), str(entry["links"]["self"])
    if "/" in name or name.startswith(".") or not address.startswith(("https://", "http://")):
        raise ValueError(f"a file named {name!r} at {address!r}")
    kind, _, digest = str(entry.get("checksum", "")).partition(":")
    return RemoteFile(name, (address,), bytes=int(entry["size"]), md5=digest if kind == "md5" else None)
