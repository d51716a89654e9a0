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
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from zoo_gen import network
from zoo_gen.errors import ZooError, one_line
from zoo_gen.hub_limits import batches, check_limits, files_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Kind = Literal["dataset", "model"]
Found = TypeVar("Found")

PATIENCE = 300.0  # seconds to wait in all when the Hub says "too many requests"
_TRIES = 5  # of one call whose connection breaks
_ADDRESS = re.compile(r"hf://(datasets/)?([\w.-]+/[\w.-]+?)(?:@([^@/]+))?/?")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

_logger = logging.getLogger(__name__)


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

    Raises:
        ZooError: the Hub cannot be reached or refuses, limits do not allow it, or the tag is at another commit.
    """
    check_repository(repository)
    files = files_of(folder)
    check_limits(files, where=str(folder))
    place = Place(repository, kind=kind)
    with _speaking(place, "push") as api:
        _patiently(lambda: api.create_repo(repository, repo_type=kind, private=private or None, exist_ok=True))
        before = _refs(api, place)["main"]
        for batch in batches(list(files), last=last):
            _patiently(
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
            _patiently(lambda: api.create_tag(repository, tag=tag, revision=commit, repo_type=kind, exist_ok=True))
    prefix = "" if kind == "model" else f"{kind}s/"
    return Pushed(f"{endpoint()}/{prefix}{repository}", commit, tag, commit != before)


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
        _patiently(
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
        found = _patiently(lambda: api.repo_info(place.repository, repo_type=place.kind, revision=place.revision))
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
    return f"hf://datasets/{place.repository}@{commit_of(place)}"


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
    network.require([endpoint()], needed_for=f"{doing} {place}")
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
        raise ZooError(f"{place}: {_reason(place, error)}") from None
    finally:
        if silenced:
            utils.enable_progress_bars()


def _patiently(call: Callable[[], Found]) -> Found:
    """Return what a call gives, called again where the Hub asks to wait or the connection breaks."""
    waited, tries = 0.0, 0
    while True:
        try:
            return call()
        except Exception as error:
            status, tries = _status(error), tries + 1
            if status in (429, 503) and (wait := _retry_after(error, tries)) <= PATIENCE - waited:
                _logger.warning("the Hub asks to wait %.0f s", wait)
            elif status is None and _is_broken_connection(error) and tries < _TRIES:
                wait = float(tries)
            else:
                raise
            waited += wait
            time.sleep(wait)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that led to it: the client wraps some."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _status(error: BaseException) -> int | None:
    responses = (getattr(each, "response", None) for each in _causes(error))
    return next((response.status_code for response in responses if response is not None), None)


def _retry_after(error: BaseException, tries: int) -> float:
    responses = (getattr(each, "response", None) for each in _causes(error))
    text = next((response.headers.get("Retry-After", "") for response in responses if response is not None), "")
    return float(text) if text.isdecimal() else float(2**tries)


def _is_broken_connection(error: BaseException) -> bool:
    return any(type(each).__module__.partition(".")[0].startswith("httpx") for each in _causes(error)) or any(
        isinstance(each, ConnectionError | TimeoutError) for each in _causes(error)
    )


def _reason(place: Place, error: Exception) -> str:
    """Return what went wrong and what was expected."""
    names = {type(each).__name__ for each in _causes(error)}
    status = _status(error)
    if "GatedRepoError" in names:
        return f"is gated; expected its terms to be accepted at {endpoint()}, and a token in HF_TOKEN"
    if "RevisionNotFoundError" in names:
        return f"there is no revision {place.revision!r}; expected a branch, a tag or a commit of it"
    if "RepositoryNotFoundError" in names or status == 401:
        return f"there is no such {place.kind}, or it opens to a valid token only (HF_TOKEN, or `hf auth login`)"
    if status == 403:
        return "the token may not do that; expected one that may write there"
    if status == 429:
        return "the Hub has had too many requests; expected the same command again in some minutes"
    if "OfflineModeIsEnabled" in names:
        return "the environment forbids the network (HF_HUB_OFFLINE); expected it unset"
    deepest: BaseException = error
    while deepest.__cause__ is not None:  # the client's own words are only where it was at
        deepest = deepest.__cause__
    return f"{one_line(deepest)}; the same command goes on where it was"


def _refs(api: "HfApi", place: Place) -> dict[str, str]:
    """Return branches and tags, name -> commit."""
    found = _patiently(lambda: api.list_repo_refs(place.repository, repo_type=place.kind))
    return {ref.name: ref.target_commit for ref in (*found.tags, *found.branches)}


def _listing(api: "HfApi", place: Place) -> tuple[str, dict[str, int]]:
    """Return the commit of a place, and its files, path -> bytes."""
    from huggingface_hub import RepoFile

    commit = _patiently(lambda: api.repo_info(place.repository, repo_type=place.kind, revision=place.revision)).sha
    entries = _patiently(
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
