"""Uploads of folders to the Hugging Face Hub, in few commits; one that was interrupted resumes when it is repeated.

What is complete on a branch is only ever changed by one commit, with the removal of what the new version lacks: whoever
reads the branch meanwhile finds the old version or the new one, and never a mixture.
"""

import glob
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_gen.errors import ZooError
from zoo_gen.files import hub
from zoo_gen.files.hub import Address, Kind
from zoo_gen.files.hub_errors import patiently
from zoo_gen.files.hub_limits import FILES_PER_COMMIT, batches, check_limits, files_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass(frozen=True)
class Pushed:
    """The result of a push."""

    url: str
    commit: str
    tag: str
    changed: bool  # whether anything was sent that was not there already


@dataclass(frozen=True)
class Present:
    """What a repository holds before a push."""

    address: Address
    files: Mapping[str, int]  # path -> bytes
    read: Callable[[str], bytes]  # returns the content of one of them


@dataclass(frozen=True)
class Change:
    """What a push does to what a repository holds."""

    at_once: bool = False  # whether all is one commit, because what is there is complete and may be in use
    removed: Collection[str] = ()  # files that go


def push_folder(
    folder: Path,
    repository: str,
    *,
    kind: Kind = "dataset",
    message: str = "",
    tag: str = "",
    private: bool = False,
    files: Mapping[str, int] | None = None,
    last: Sequence[str] = (),
    version_files: Sequence[str] = (),
    change: Callable[[Present], Change] = lambda present: Change(),
) -> Pushed:
    """Upload a folder to a repository, which is created if missing, and tag the result.

    The same call after an interruption sends what is still missing; where nothing is missing, it makes no commit.

    Args:
        folder: what is uploaded.
        repository: org/name.
        kind: of the repository, if it is created.
        message: of the commits.
        tag: the version's name; none if empty.
        private: whether a repository that is created is private.
        files: what of the folder is uploaded, path -> bytes; all but hidden files if not given.
        last: files (paths in the folder) that are sent after all others.
        version_files: files that differ between any two versions. Where the tag has these, nothing is sent.
        change: says what happens to what the repository holds; it refuses by a ZooError, before anything is sent.

    Raises:
        ZooError: the Hub cannot be reached or refuses, limits do not allow it, or the tag is at another commit.
    """
    hub.check_repository(repository)
    files = files_of(folder) if files is None else files
    check_limits(files, where=str(folder))
    address = Address(repository, kind=kind)
    with hub.client(address, "push") as api:
        patiently(lambda: api.create_repo(repository, repo_type=kind, private=private or None, exist_ok=True))
        prefix = "" if kind == "model" else f"{kind}s/"
        url, refs = f"{hub.endpoint()}/{prefix}{repository}", hub.refs_of(api, address)
        if version_files and tag in refs:
            if _holds(api, Address(repository, tag, kind), folder, files, version_files):
                return Pushed(url, refs[tag], tag, changed=False)
            raise _tag_is_taken(address, tag, refs[tag])
        parent, present = hub.listing(api, address)
        decided = change(Present(address, present, lambda path: _content(api, address, path)))
        message = message or f"Push {folder.name}"
        if decided.at_once:
            _send_at_once(api, address, folder, files, message, parent=parent, removed=decided.removed)
        else:
            _send_in_pieces(api, address, folder, files, message, last=last, removed=decided.removed)
        after = hub.refs_of(api, address)
        commit = after["main"]
        if tag and after.get(tag, commit) != commit:
            raise _tag_is_taken(address, tag, after[tag])
        if tag and tag not in after:
            patiently(lambda: api.create_tag(repository, tag=tag, revision=commit, repo_type=kind, exist_ok=True))
    return Pushed(url, commit, tag, changed=commit != refs.get("main"))


def _send_in_pieces(
    api: "HfApi",
    address: Address,
    folder: Path,
    files: Mapping[str, int],
    message: str,
    *,
    last: Sequence[str],
    removed: Collection[str],
) -> None:
    pieces = batches(list(files), last=last)
    for piece in pieces:
        going = removed if piece is pieces[-1] else ()
        patiently(
            lambda piece=piece, going=going: api.upload_folder(  # type: ignore[misc]
                repo_id=address.repository,
                folder_path=folder,
                repo_type=address.kind,
                commit_message=message,
                allow_patterns=[glob.escape(path) for path in piece],
                delete_patterns=[glob.escape(path) for path in going] or None,
            )
        )


def _send_at_once(
    api: "HfApi",
    address: Address,
    folder: Path,
    files: Mapping[str, int],
    message: str,
    *,
    parent: str,
    removed: Collection[str],
) -> None:
    """Send the large files first, which is no commit yet and resumes, then make one commit of all."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    additions = [CommitOperationAdd(path, str(folder / path)) for path in files]
    for start in range(0, len(additions), FILES_PER_COMMIT):
        piece = additions[start : start + FILES_PER_COMMIT]
        patiently(
            lambda piece=piece: api.preupload_lfs_files(  # type: ignore[misc]
                address.repository, piece, repo_type=address.kind
            )
        )
    deletions = [CommitOperationDelete(path, is_folder=False) for path in removed]
    patiently(
        lambda: api.create_commit(
            address.repository,
            [*additions, *deletions],
            commit_message=message,
            repo_type=address.kind,
            parent_commit=parent,  # another push meanwhile is not overwritten
        )
    )


def _holds(
    api: "HfApi", address: Address, folder: Path, files: Mapping[str, int], version_files: Sequence[str]
) -> bool:
    """Return whether a repository has all files of a folder by their sizes, and the version files by their content."""
    _, sizes = hub.listing(api, address)
    if any(sizes.get(path) != size for path, size in files.items()):
        return False
    return all(_content(api, address, path) == (folder / path).read_bytes() for path in version_files)


def _content(api: "HfApi", address: Address, path: str) -> bytes:
    with tempfile.TemporaryDirectory() as downloads:
        downloaded = patiently(
            lambda: api.hf_hub_download(
                address.repository, path, repo_type=address.kind, revision=address.revision, local_dir=downloads
            )
        )
        return Path(downloaded).read_bytes()


def _tag_is_taken(address: Address, tag: str, commit: str) -> ZooError:
    return ZooError(f"{address}: has the tag {tag!r} at another commit, {commit[:8]}; expected a new tag")
