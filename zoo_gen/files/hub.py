"""The Hugging Face Hub: folders to it and from it; the one file that speaks with its client.

Whole folders travel in few commits and appear whole under their name; both ways go on where they were when repeated.
Whatever the client raises comes out as one line.
"""

import glob
import logging
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo_gen.errors import ZooError
from zoo_gen.files import reachable
from zoo_gen.files.hub_errors import patiently, reason
from zoo_gen.files.hub_limits import batches, check_limits, files_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Kind = Literal["dataset", "model"]

_ADDRESS = re.compile(r"hf://(datasets/)?([\w.-]+/[\w.-]+?)(?:@([^@/]+))?/?")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PINNED: set[tuple[str, str, str]] = set()  # kind, repository and commit of what was found to exist


@dataclass(frozen=True)
class Place:
    """A repository of the Hub at a revision."""

    repository: str
    revision: str = "main"  # a branch, a tag or a commit
    kind: Kind = "dataset"

    def __str__(self) -> str:
        return f"hf://{self.repository}" + ("" if self.revision == "main" else f"@{self.revision}")


@dataclass(frozen=True)
class Pushed:
    """What a push has led to."""

    url: str
    commit: str
    tag: str
    changed: bool  # whether anything was sent that was not there already


def is_address(text: object) -> bool:
    """Return whether a text is an address of the Hub, right or wrong."""
    return str(text).startswith("hf://")


def parse(address: str, *, kind: Kind = "dataset") -> Place:
    """Return the place that hf://org/name or hf://org/name@revision names; of a data set, hf://datasets/... too.

    Raises:
        ZooError: it is none.
    """
    match = _ADDRESS.fullmatch(address)
    if not match or not _REPOSITORY.fullmatch(match[2]) or (match[1] and kind != "dataset"):
        what = "a zoo" if kind == "dataset" else "an encoder"
        raise ZooError(
            f"{address}: is no address of {what} on the Hub; expected hf://org/name or hf://org/name@revision"
        )
    return Place(match[2], match[3] or "main", kind)


def check_repository(name: str) -> str:
    """Return the name of a repository.

    Raises:
        ZooError: it is not org/name.
    """
    if not _REPOSITORY.fullmatch(name) or name.endswith((".git", ".")) or "--" in name or ".." in name:
        raise ZooError(f"repository {name!r}: expected org/name, of letters, digits, '.', '-' and '_'")
    return name


def endpoint() -> str:
    """Return the address of the Hub: HF_ENDPOINT, or the public one."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def push_folder(
    folder: Path,
    repository: str,
    *,
    kind: Kind = "dataset",
    message: str = "",
    tag: str = "",
    private: bool = False,
    last: Sequence[str] = (),
    tell: Sequence[str] = (),
) -> Pushed:
    """Upload a folder to a repository, which is made if it is not there, and tag what it then holds.

    The same call after an interruption sends what is still missing; where nothing is, it makes no commit.

    Args:
        folder: what is uploaded; hidden files are not.
        repository: org/name.
        kind: of the repository, if it is made.
        message: of the commits.
        tag: the version's name; none if empty.
        private: whether a repository that is made is private.
        last: files (paths in the folder) that are sent after all others.
        tell: files that tell one version from another. Where the tag has these, nothing is sent.

    Raises:
        ZooError: the Hub cannot be reached or refuses, limits do not allow it, or the tag is at another commit.
    """
    check_repository(repository)
    files = files_of(folder)
    check_limits(files, where=str(folder))
    place = Place(repository, kind=kind)
    with _speaking(place, "push") as api:
        patiently(lambda: api.create_repo(repository, repo_type=kind, private=private or None, exist_ok=True))
        prefix = "" if kind == "model" else f"{kind}s/"
        url, refs = f"{endpoint()}/{prefix}{repository}", _refs(api, place)
        if tell and tag in refs and _holds(api, Place(repository, tag, kind), folder, files, tell):
            return Pushed(url, refs[tag], tag, changed=False)
        for batch in batches(list(files), last=last):
            patiently(
                lambda batch=batch: api.upload_folder(  # type: ignore[misc]
                    repo_id=repository,
                    folder_path=folder,
                    repo_type=kind,
                    commit_message=message or f"Push {folder.name}",
                    allow_patterns=[glob.escape(path) for path in batch],
                )
            )
        after = _refs(api, place)
        commit = after["main"]
        if tag and after.get(tag, commit) != commit:
            raise ZooError(f"{place}: has the tag {tag!r} at another commit, {after[tag][:8]}; expected a new tag")
        if tag and tag not in after:
            patiently(lambda: api.create_tag(repository, tag=tag, revision=commit, repo_type=kind, exist_ok=True))
    return Pushed(url, commit, tag, changed=commit != refs.get("main"))


def pull_folder(
    repository: str,
    folder: Path,
    *,
    revision: str = "main",
    kind: Kind = "dataset",
    patterns: Sequence[str] | None = None,
) -> str:
    """Download a repository, or the files of it that match, into a new folder; return the commit.

    The folder appears when all is there; until then what has come lies hidden beside it, where the same call goes on.

    Args:
        repository: org/name.
        folder: where the files come; new or empty.
        revision: a branch, a tag or a commit.
        kind: of the repository.
        patterns: which files, as `models/*`; all if not given.

    Raises:
        ZooError: the Hub cannot be reached or refuses, there is no such repository or revision, or the folder is taken.
    """
    check_repository(repository)
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ZooError(f"{folder}: exists already; expected a new or empty folder")
    place = Place(repository, revision, kind)
    staged = folder.with_name(f".{folder.name}.pulling")
    with _speaking(place, "pull") as api:
        commit, files = _listing(api, place)
        (staged / ".cache").mkdir(parents=True, exist_ok=True)
        patiently(
            lambda: api.snapshot_download(
                repository,
                repo_type=kind,
                revision=commit,
                local_dir=staged,
                allow_patterns=list(patterns) if patterns is not None else None,
            )
        )
    shutil.rmtree(staged / ".cache")  # the client's notes on what it has fetched
    _check_pulled(place, staged, files, whole=patterns is None)
    if folder.exists():
        folder.rmdir()
    staged.rename(folder)
    return commit


def commit_of(place: Place) -> str:
    """Return the commit that a place is at now.

    Raises:
        ZooError: the Hub cannot be reached or refuses, or there is no such repository or revision.
    """
    with _speaking(place, "read") as api:
        named = _refs(api, place)  # a short answer, where the one below names every file
        if place.revision in named:
            return named[place.revision]
        found = patiently(lambda: api.repo_info(place.repository, repo_type=place.kind, revision=place.revision))
    return str(found.sha)


def list_files(place: Place) -> dict[str, int]:
    """Return the files of a place, path -> bytes. Errors as `commit_of`."""
    with _speaking(place, "list") as api:
        return _listing(api, place)[1]


def pin(address: str) -> str:
    """Return the address of what a zoo's repository holds now, which names a commit. Errors as `parse`, `commit_of`."""
    place = parse(address)
    if re.fullmatch(r"[0-9a-f]{40}", place.revision) and address.startswith("hf://datasets/"):
        return address
    commit = commit_of(place)
    _PINNED.add((place.kind, place.repository, commit))
    return f"hf://datasets/{place.repository}@{commit}"


def tell_pinned(fs: Any) -> None:
    """Tell the client's file system which commits exist: it asks for each, and is answered with all names of files."""
    known = getattr(fs, "_repo_and_revision_exists_cache", None)  # where a later client has none, it asks
    if isinstance(known, dict):
        known.update(dict.fromkeys(_PINNED, (True, None)))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the Hub's client from writing a line for every try inside: what failed in the end is said once.

    What it deprecates in libraries of its own is for its makers.
    """
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _speaking(place: Place, doing: str) -> "Iterator[HfApi]":
    """Give the client, with its errors in one line and its bars only where there is a terminal."""
    try:
        import huggingface_hub
        from huggingface_hub import utils
    except ImportError:
        raise ZooError(f"{doing} needs huggingface_hub; expected: pip install 'zoo-gen[hub]'") from None
    reachable.require([endpoint()], needed_for=f"{doing} {place}")
    silenced = not sys.stderr.isatty() and not utils.are_progress_bars_disabled()
    if silenced:
        utils.disable_progress_bars()
    try:
        with quiet():
            yield huggingface_hub.HfApi(endpoint=endpoint(), library_name="zoo-gen")
    except ZooError:
        raise
    # The client's errors have no class in common: its own, httpx's, and plain ones for what a server answers amiss.
    except Exception as error:
        asked = {"kind": place.kind, "revision": place.revision, "endpoint": endpoint()}
        raise ZooError(f"{place}: {reason(error, **asked, writes=doing == 'push')}") from None
    finally:
        if silenced:
            utils.enable_progress_bars()


def _refs(api: "HfApi", place: Place) -> dict[str, str]:
    """Return branches and tags, name -> commit."""
    found = patiently(lambda: api.list_repo_refs(place.repository, repo_type=place.kind))
    return {ref.name: ref.target_commit for ref in (*found.tags, *found.branches)}


def _holds(api: "HfApi", place: Place, folder: Path, files: Mapping[str, int], tell: Sequence[str]) -> bool:
    """Return whether a place has all files of a folder by their sizes, and those that tell by their content."""
    _, there = _listing(api, place)
    if any(there.get(path) != size for path, size in files.items()):
        return False
    with tempfile.TemporaryDirectory() as brought:
        for path in tell:
            found = patiently(
                lambda path=path: api.hf_hub_download(  # type: ignore[misc]
                    place.repository, path, repo_type=place.kind, revision=place.revision, local_dir=brought
                )
            )
            if Path(found).read_bytes() != (folder / path).read_bytes():
                return False
    return True


def _listing(api: "HfApi", place: Place) -> tuple[str, dict[str, int]]:
    """Return the commit of a place, and its files, path -> bytes."""
    from huggingface_hub import RepoFile

    commit = patiently(lambda: api.repo_info(place.repository, repo_type=place.kind, revision=place.revision)).sha
    entries = patiently(
        lambda: list(api.list_repo_tree(place.repository, repo_type=place.kind, revision=commit, recursive=True))
    )
    files = {entry.path: entry.size for entry in entries if isinstance(entry, RepoFile)}
    for path in files:
        if path.startswith("/") or ".." in path.split("/"):
            raise ZooError(f"{place}: names the file {path!r}, which lies outside of it; nothing was pulled")
    return str(commit), files


def _check_pulled(place: Place, folder: Path, files: Mapping[str, int], *, whole: bool) -> None:
    """Refuse a download that is not whole, and take away what one of another revision has left.

    Where the Hub fails, the client is content with whatever lies there.
    """
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.relative_to(folder).as_posix() not in files:
            path.unlink()
    there = {path: (folder / path).stat().st_size for path in files if (folder / path).is_file()}
    wrong = [path for path, size in files.items() if there.get(path, None if whole else size) != size]
    if wrong or not there:
        missing = wrong[0] if wrong else "any file that matches"
        raise ZooError(f"{place}: {missing} has not come whole; the same command goes on where it was")
