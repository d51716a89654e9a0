"""Addresses on the Hugging Face Hub, its client, and downloads from it; `hub_push` uploads.

A download appears whole under its name, and one that was interrupted resumes when it is repeated. Whatever the client
raises comes out as a ZooError of one line.
"""

import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from zoo_gen.errors import ZooError, needing, shown
from zoo_gen.files import reachable
from zoo_gen.files.hub_errors import patiently, reason

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Kind = Literal["dataset", "model"]

_WHAT: dict[Kind, str] = {"dataset": "a zoo", "model": "an encoder"}
_ADDRESS = re.compile(r"hf://(datasets/)?([\w.-]+/[\w.-]+?)(?:@([^@]+?))?/?")
_NO_REVISION = re.compile(r"[\s\\^~:?*\[\x00-\x1f\x7f]|//|\.\.|@\{|^/|/$")  # what Git's names do not have
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PINNED: set[tuple[str, str, str]] = set()  # kind, repository and commit of revisions that are known to exist


@dataclass(frozen=True)
class Address:
    """A repository of the Hub at a revision."""

    repository: str
    revision: str = "main"  # a branch, a tag or a commit
    kind: Kind = "dataset"

    def __str__(self) -> str:
        return f"hf://{self.repository}" + ("" if self.revision == "main" else f"@{self.revision}")


def is_address(text: object) -> bool:
    """Return whether a text is meant as an address of the Hub, valid or not."""
    return str(text).startswith("hf://")


def parse(address: str, *, kind: Kind = "dataset") -> Address:
    """Return what hf://org/name or hf://org/name@revision names; of a data set, hf://datasets/... too.

    A revision may have slashes (feature/x, refs/pr/1), written as they are or as %2F.

    Raises:
        ZooError: it is no such address.
    """
    match = _ADDRESS.fullmatch(address)
    revision = unquote(match[3] or "main") if match else ""
    is_one = match is not None and _REPOSITORY.fullmatch(match[2]) and not (match[1] and kind != "dataset")
    if match is None or not is_one or _NO_REVISION.search(revision):
        raise ZooError(
            f"{address}: is no address of {_WHAT[kind]} on the Hub; expected hf://org/name or hf://org/name@revision"
        )
    return Address(match[2], revision, kind)


def check_repository(name: str) -> str:
    """Return the name of a repository.

    Raises:
        ZooError: it is not org/name.
    """
    if (
        not isinstance(name, str)
        or not _REPOSITORY.fullmatch(name)
        or name.endswith((".git", "."))
        or "--" in name
        or ".." in name
    ):
        raise ZooError(f"repository {shown(name)}: expected org/name, of letters, digits, '.', '-' and '_'")
    return name


def endpoint() -> str:
    """Return the address of the Hub: HF_ENDPOINT, or the public one."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def pull_folder(
    repository: str,
    folder: Path,
    *,
    revision: str = "main",
    kind: Kind = "dataset",
    patterns: Sequence[str] | None = None,
    needed: Sequence[str] = (),
) -> str:
    """Download a repository, or the files of it that match, into a new folder; return the commit.

    The folder appears when it is complete; until then the downloads are hidden beside it, where the same call resumes.

    Args:
        repository: org/name.
        folder: where the files go; new or empty.
        revision: a branch, a tag or a commit.
        kind: of the repository.
        patterns: which files, as `models/*`; all if not given.
        needed: files and folders without which nothing is downloaded.

    Raises:
        ZooError: the Hub cannot be reached or refuses, there is no such repository or revision, it lacks what is
            needed, or the folder is taken.
    """
    check_repository(repository)
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ZooError(f"{folder}: exists already; expected a new or empty folder")
    address = Address(repository, revision, kind)
    staged = folder.with_name(f".{folder.name}.pulling")
    with client(address, "pull") as api:
        commit, files = listing(api, address)
        check_holds(address, files, needed)
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
    shutil.rmtree(staged / ".cache")  # the client's notes on its downloads
    _check_pulled(address, staged, files, whole=patterns is None)
    if folder.exists():
        folder.rmdir()
    staged.rename(folder)
    return commit


def commit_of(address: Address) -> str:
    """Return the commit that a repository is at now, by branch, tag or commit.

    Raises:
        ZooError: the Hub cannot be reached or refuses, or there is no such repository or revision.
    """
    with client(address, "read") as api:
        refs = refs_of(api, address)  # a short answer, where the one below names every file
        if address.revision in refs:
            return refs[address.revision]
        info = patiently(lambda: api.repo_info(address.repository, repo_type=address.kind, revision=address.revision))
    return str(info.sha)


def list_files(address: Address) -> dict[str, int]:
    """Return the files of a repository, path -> bytes. Errors as `commit_of`."""
    with client(address, "list") as api:
        return listing(api, address)[1]


def pin(address: str) -> str:
    """Return the address of a zoo's repository at the commit that it has now. Errors as `parse`, `commit_of`."""
    parsed = parse(address)
    if re.fullmatch(r"[0-9a-f]{40}", parsed.revision) and address.startswith("hf://datasets/"):
        return address
    commit = commit_of(parsed)
    _PINNED.add((parsed.kind, parsed.repository, commit))
    return f"hf://datasets/{parsed.repository}@{commit}"


def share_pinned_commits(fs: Any) -> None:
    """Tell the client's file system which commits exist, so that it need not list all files of each to know."""
    cache = getattr(fs, "_repo_and_revision_exists_cache", None)  # a later client that has none lists them
    if isinstance(cache, dict):
        cache.update(dict.fromkeys(_PINNED, (True, None)))


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the client's line for every failed try: the final failure is reported once, by the caller.

    Deprecations inside the client's own libraries are silenced too.
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


def check_installed(doing: str) -> None:
    """Refuse to begin what needs the Hub's client where it is not installed."""
    with needing(doing, extra="hub"):
        import huggingface_hub  # noqa: F401


@contextmanager
def client(address: Address, doing: str) -> "Iterator[HfApi]":
    """Yield the client, with its errors in one line and its progress bars only on a terminal."""
    check_installed(doing)
    import huggingface_hub
    from huggingface_hub import utils

    reachable.require([endpoint()], needed_for=f"{doing} {address}")
    silenced = not sys.stderr.isatty() and not utils.are_progress_bars_disabled()
    if silenced:
        utils.disable_progress_bars()
    try:
        with quiet():
            yield huggingface_hub.HfApi(endpoint=endpoint(), library_name="zoo-gen")
    except ZooError:
        raise
    # The client's errors have no common class: its own, httpx's, and built-in ones for malformed answers.
    except Exception as error:
        request = {"kind": address.kind, "revision": address.revision, "endpoint": endpoint()}
        raise ZooError(f"{address}: {reason(error, **request, writes=doing == 'push')}") from None
    finally:
        if silenced:
            utils.enable_progress_bars()


def refs_of(api: "HfApi", address: Address) -> dict[str, str]:
    """Return branches and tags, name -> commit."""
    refs = patiently(lambda: api.list_repo_refs(address.repository, repo_type=address.kind))
    return {ref.name: ref.target_commit for ref in (*refs.tags, *refs.branches)}


def listing(api: "HfApi", address: Address) -> tuple[str, dict[str, int]]:
    """Return the commit of a repository, and its files, path -> bytes."""
    from huggingface_hub import RepoFile

    commit = patiently(lambda: api.repo_info(address.repository, repo_type=address.kind, revision=address.revision)).sha
    entries = patiently(
        lambda: list(api.list_repo_tree(address.repository, repo_type=address.kind, revision=commit, recursive=True))
    )
    files = {entry.path: entry.size for entry in entries if isinstance(entry, RepoFile)}
    for path in files:
        if path.startswith("/") or ".." in path.split("/"):
            raise ZooError(f"{address}: names the file {path!r}, which lies outside of it; nothing was pulled")
    return str(commit), files


def check_holds(address: Address, files: Iterable[str], needed: Sequence[str]) -> None:
    """Refuse a repository whose files lack some that are needed, or a whole folder.

    Raises:
        ZooError: it does.
    """
    files = list(files)
    missing = [name for name in needed if not any(f"{path}/".startswith(f"{name}/") for path in files)]
    if missing:
        raise ZooError(f"{address}: is not {_WHAT[address.kind]}; it has no {missing[0]}")


def _check_pulled(address: Address, folder: Path, files: Mapping[str, int], *, whole: bool) -> None:
    """Refuse a download that is not complete, and remove what one of another revision has left.

    Where the Hub fails, the client accepts whatever files are there.
    """
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.relative_to(folder).as_posix() not in files:
            path.unlink()
    sizes = {path: (folder / path).stat().st_size for path in files if (folder / path).is_file()}
    wrong = [path for path, size in files.items() if sizes.get(path, None if whole else size) != size]
    if wrong or not sizes:
        missing = wrong[0] if wrong else "any file that matches"
        raise ZooError(f"{address}: {missing} is not complete; the same command resumes")
