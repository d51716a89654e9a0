"""Pull: download a zoo, by its name in the registry or its address on the Hub, and convert it if it is an archive.

Archives lie in a cache that all projects share and are converted from there, without being unpacked.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from zoo_gen.errors import ZooError, argument, either, resumes
from zoo_gen.files import hub
from zoo_gen.files.location import Folder, locate, make_folder, on_disk, pinned
from zoo_gen.files.remote import Remote
from zoo_gen.machine.progress import progress_bar
from zoo_gen.published import convert, copying
from zoo_gen.published.sources import partial_zip, zenodo
from zoo_gen.published.sources.download import Progress, RemoteFile, cache_root, fetch
from zoo_gen.published.sources.registry import PublishedZoo, find_published
from zoo_gen.store import Store, checksums
from zoo_gen.store.create import MANIFEST
from zoo_gen.zoo import Zoo, open_zoo


@dataclass(frozen=True)
class Fetched:
    """An archive on this machine, and what is known of where it came from."""

    path: Path
    facts: Mapping[str, str]  # url, revision, sha256


@resumes()
def pull(
    name: str,
    out: str | Folder | None = None,
    *,
    zoo_name: str | None = None,
    epochs: Sequence[int] | None = None,
    models: Sequence[int] | None = None,
    file: str | None = None,
    splits: Mapping[str, str | Path] | None = None,
    cache: str | Path | None = None,
) -> Zoo:
    """Download a zoo, convert it if it is an archive, and open it. The same call after an interruption resumes.

    Args:
        name: a published zoo (see `list_published_zoos`), or hf://org/zoo@revision.
        out: the folder of the zoo, or its URL; zoos/NAME if not given. Archives lie on this machine, in `cache`; a zoo
            of the Hub is copied file by file.
        zoo_name: what a published zoo is called here; its population's name with `_published` if not given.
        epochs: of a published zoo, only these checkpoints.
        models: of a published zoo, only these models, by number.
        file: a pattern of names, where a publication has several archives.
        splits: more split files, name of the split -> file.
        cache: where archives are kept; $ZOO_CACHE_ROOT, or zoo_gen/published in the cache folder, if not given.

    Raises:
        ZooError: there is no such zoo, it cannot be had, or it is not what was expected.

    >>> import zoo_gen
    >>> _ = zoo_gen.push("zoos/tiny", "my-lab/tiny", tag="v1")
    >>> zoo_gen.pull("hf://my-lab/tiny@v1", "zoos/copy", cache="cache").name
    'tiny'
    """
    if hub.is_address(name):
        options = {"zoo_name": zoo_name, "epochs": epochs, "models": models, "file": file, "splits": splits}
        for option, value in options.items():
            if value:
                given = {
                    "zoo_name": either(command="--name", python="zoo_name"),
                    "splits": either(command="--split", python="splits"),
                }
                raise ZooError(
                    f"{given.get(option, argument(option))}: {name} is pulled whole; expected open_zoo, which reads "
                    "what is asked for"
                )
        folder = Path("zoos") / hub.parse(name).repository.partition("/")[2] if out is None else locate(out)
        _pull_from_hub(name, folder)
        return open_zoo(folder)
    zoo = find_published(name)
    folder = Path("zoos") / (zoo_name or zoo.zoo_name) if out is None else locate(out)
    Store.check_place(folder)
    zoo_cache = _cache_of(zoo, cache)
    if zoo.part.format is None:
        brings = either(command="--download-only", python="zoo_gen.download")
        raise ZooError(f"{name}: has no converter; {brings} brings what {zoo.part.way} has of it")
    archive = _fetch_part(zoo, zoo_cache, file, epochs=epochs, models=models) or _fetch(zoo, zoo_cache, file)
    with _bar("converting", "model") as shown:
        return convert(
            archive.path,
            folder,
            format=zoo.part.format,
            name=zoo_name or zoo.zoo_name,
            epochs=epochs,
            models=models,
            splits={**_published_splits(zoo, zoo_cache), **(splits or {})},
            data=zoo.part.data,
            provenance=zoo.provenance(**archive.facts),
            progress=shown,
            cache=cache,
        )


def download(name: str, *, file: str | None = None, cache: str | Path | None = None) -> Path:
    """Download the archive of a published zoo into the cache, and return its path. Arguments and errors as `pull`.

    >>> import zoo_gen
    >>> zoo_gen.download("hf://my-lab/tiny@v1")
    Traceback (most recent call last):
    zoo_gen.errors.ZooError: hf://my-lab/tiny@v1: is a zoo and no archive; expected `pull`, which brings it whole
    """
    if hub.is_address(name):
        raise ZooError(f"{name}: is a zoo and no archive; expected `pull`, which brings it whole")
    zoo = find_published(name)
    return _fetch(zoo, _cache_of(zoo, cache), file).path


def _cache_of(zoo: PublishedZoo, cache: str | Path | None) -> Path:
    return on_disk(cache or cache_root()) / zoo.plain_name


def plan_pull(name: str, *, file: str | None = None, cache: str | Path | None = None) -> dict[str, str]:
    """Return what `pull` would download, as lines for a person, title -> text. Nothing is downloaded.

    Arguments and errors as `pull`.

    >>> import zoo_gen
    >>> _ = zoo_gen.push("zoos/tiny", "my-lab/tiny", tag="v1")
    >>> list(zoo_gen.plan_pull("hf://my-lab/tiny@v1"))
    ['files', 'bytes', 'licence']
    """
    if hub.is_address(name):
        files = hub.list_files(hub.parse(name))
        return {"files": f"{len(files):,}", "bytes": f"{sum(files.values()):,}", "licence": "see its card"}
    zoo = find_published(name)
    zoo_cache = _cache_of(zoo, cache)
    lines = {"paper": zoo.publication.paper, "licence": _licence(zoo), "cache": str(zoo_cache)}
    if zoo.part.by_hand:
        return {**lines, "by hand": _instruction(zoo, zoo_cache)}
    if zoo.part.hub:
        return {**lines, "from": f"{zoo.part.hub.repository}: {', '.join(zoo.part.hub.files) or 'all files'}"}
    for remote in _remote_files(zoo, file, None):  # which writes nothing
        size = f"{remote.bytes:,} bytes" if remote.bytes else "of unknown size"
        cached = ", there already" if (zoo_cache / "files" / remote.name).exists() else ""
        lines[remote.name] = f"{size} from {remote.urls[0]}{cached}"
    return {**lines, **{f"defect {n}": text for n, text in enumerate(zoo.publication.defects, start=1)}}


def _pull_from_hub(address: str, out: Folder) -> None:
    parsed = hub.parse(address)
    if isinstance(out, Remote):
        Store.check_place(out)
    if (out / MANIFEST).exists() and (out / checksums.NAME).exists() and _is_same(out, address):
        return
    needed = (MANIFEST, "models", "weights.zarr")
    if isinstance(out, Remote):
        with _bar(out.name, "B") as shown:
            copying.copy(address, out, needed=needed, progress=shown)
        return
    hub.pull_folder(parsed.repository, out, revision=parsed.revision, needed=needed)
    wrong = checksums.findings(out)
    if wrong:
        raise ZooError(f"{out}: was downloaded, but is damaged on the Hub: {wrong[0][0]} {wrong[0][1]}")


def _is_same(folder: Folder, address: str) -> bool:
    """Return whether a sound and complete zoo here is the one at an address, by the digests of what names it."""
    listing = pinned(locate(address)) / checksums.NAME
    same = listing.exists() and listing.read_bytes() == (folder / checksums.NAME).read_bytes()
    return same and not checksums.findings(folder) and open_zoo(folder).complete


def _fetch(zoo: PublishedZoo, zoo_cache: Path, file: str | None) -> Fetched:
    """Return the archive of a zoo, downloaded into the cache unless it is there."""
    if zoo.part.by_hand:
        put = zoo.part.by_hand.put
        candidates = [zoo_cache / put, *sorted(zoo_cache.glob(f"{put}.*"))]  # a folder may have been left an archive
        path = next((path for path in candidates if path.exists()), None)
        if path is None:
            raise ZooError(f"{zoo.name}: {_instruction(zoo, zoo_cache)}")
        return Fetched(path, {"url": zoo.part.by_hand.page})
    if zoo.part.hub:
        return _fetch_from_hub(zoo, zoo_cache, file)
    remotes, paths, digests = _remote_files(zoo, file, zoo_cache), [], []
    for each in remotes:
        with _bar(each.name, "B") as shown:
            path, digest = fetch(each, zoo_cache / "files", progress=shown)
        paths.append(path)
        digests.append(digest)
    facts = {"url": _page(zoo) or remotes[0].urls[0], "sha256": ", ".join(digests)}
    return Fetched(_together(paths, zoo, zoo_cache), facts)


def _fetch_part(
    zoo: PublishedZoo, zoo_cache: Path, file: str | None, *, epochs: Sequence[int] | None, models: Sequence[int] | None
) -> Fetched | None:
    """Return what these epochs and models need of a zip on a server, or nothing where only the whole can be had."""
    if (
        zoo.part.format not in partial_zip.FORMATS
        or zoo.part.by_hand
        or zoo.part.hub
        or (epochs is None and models is None)
    ):
        return None
    zips = [each for each in _remote_files(zoo, file, zoo_cache) if each.name.endswith(".zip")]
    if len(zips) != 1 or (zoo_cache / "files" / zips[0].name).exists():
        return None
    url = zips[0].urls[0]
    try:
        with _bar(zips[0].name, "B") as shown:
            path = partial_zip.fetch_part(url, zoo_cache / "parts", epochs=epochs, models=models, progress=shown)
    except partial_zip.NoRanges:
        return None
    return Fetched(path, {"url": _page(zoo) or url})


def _page(zoo: PublishedZoo) -> str:
    """Return the page of a record of Zenodo, which lasts longer than the addresses of its files."""
    return f"https://zenodo.org/records/{zoo.part.zenodo.record}" if zoo.part.zenodo else ""


def _remote_files(zoo: PublishedZoo, file: str | None, zoo_cache: Path | None) -> list[RemoteFile]:
    """Return what to download; a record with several archives needs to be told which."""
    if zoo.part.files:
        return [RemoteFile(each.name, each.urls, each.bytes, each.sha256) for each in zoo.part.files]
    record = zoo.part.zenodo
    assert record is not None
    patterns = (file, "index_dict*.json") if file else record.files
    remotes = zenodo.files(record.record, patterns, needed_for=f"pull {zoo.name}", cache=zoo_cache)
    _only_one(zoo, [each.name for each in remotes], file, registered=record.files)
    return remotes


def _fetch_from_hub(zoo: PublishedZoo, zoo_cache: Path, file: str | None) -> Fetched:
    source = zoo.part.hub
    assert source is not None
    at = hub.Address(source.repository, source.revision, source.kind)
    patterns = (file,) if file else source.files
    names = [
        name
        for name in hub.list_files(at)
        if not patterns or any(fnmatchcase(name, pattern) or fnmatchcase(name, f"*/{pattern}") for pattern in patterns)
    ]
    if not names:
        raise ZooError(f"{zoo.name}: {at} has no {' or '.join(patterns)}")
    _only_one(zoo, names, file, registered=())
    commit = hub.commit_of(at)
    folder = zoo_cache / commit / _digest(names)
    if not folder.exists():
        make_folder(folder.parent)
        hub.pull_folder(source.repository, folder, revision=commit, kind=source.kind, patterns=names)
    prefix = "" if source.kind == "model" else "datasets/"
    facts = {"url": f"https://huggingface.co/{prefix}{source.repository}", "revision": commit}
    return Fetched(folder / names[0] if len(names) == 1 else folder, facts)


def _only_one(zoo: PublishedZoo, names: list[str], file: str | None, *, registered: tuple[str, ...]) -> None:
    """Refuse a choice among archives that the registry leaves to the user."""
    archives = [name for name in names if not name.endswith((".json", ".csv", ".md", ".txt"))]
    if len(archives) > 1 and not registered:
        what = f"{argument('file', file)} means several" if file else "has several archives"
        raise ZooError(f"{zoo.name}: {what}; expected {argument('file')} with one of {', '.join(archives)}")


def _together(paths: list[Path], zoo: PublishedZoo, zoo_cache: Path) -> Path:
    """Return the one file, or a folder with these files and no others that the cache may have."""
    if len(paths) == 1:
        return paths[0]
    folder = zoo_cache / _digest([path.name for path in paths]) / zoo.plain_name
    make_folder(folder)
    for path in paths:
        (folder / path.name).unlink(missing_ok=True)
        try:
            os.link(path, folder / path.name)
        except OSError:  # a disk that knows no links
            shutil.copyfile(path, folder / path.name)
    return folder


def _published_splits(zoo: PublishedZoo, zoo_cache: Path) -> dict[str, Path]:
    """Return the split files that have an address, downloaded and held against how their digests begin."""
    split_files = {}
    for split in zoo.part.splits:
        if split.url is None:
            continue
        path, digest = fetch(
            RemoteFile(f"{split.name}-{split.url.rpartition('/')[2]}", (split.url,)), zoo_cache / "splits"
        )
        if split.sha256_starts and not digest.startswith(split.sha256_starts):
            path.unlink()
            raise ZooError(
                f"{split.url}: has SHA-256 {digest[:16]}...; expected {split.sha256_starts}..., the published split"
            )
        split_files[split.name] = path
    return split_files


def _instruction(zoo: PublishedZoo, zoo_cache: Path) -> str:
    by_hand = zoo.part.by_hand
    assert by_hand is not None
    return f"is fetched by hand: {by_hand.what}, from {by_hand.page}; expected at {zoo_cache / by_hand.put}"


def _licence(zoo: PublishedZoo) -> str:
    licence = zoo.publication.licence
    allows = "may be passed on" if licence.redistribution else "not to be passed on"
    return f"{licence.name}, {allows}" + (f" ({licence.note})" if licence.note else "")


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]


@contextmanager
def _bar(label: str, unit: str) -> Iterator[Progress]:
    """Give a function that shows how far something is, where there is a terminal."""
    with progress_bar(label=label, unit=unit) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
