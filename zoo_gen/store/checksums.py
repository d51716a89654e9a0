"""SHA-256 of every file of a zoo that no shard's own digest covers, listed as `sha256sum --check` reads it.

A shard's arrays and its Parquet part can be derived from each other and compared. What the store says of itself (when
and with what it was made) cannot, so its digests are written when the zoo is made, and the card's when it is complete.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from zoo_gen.errors import ZooError
from zoo_gen.files import atomic, location
from zoo_gen.files.location import Folder

NAME, CARD = "SHA256SUMS", "README.md"
_LISTED = re.compile(
    rf"manifest\.toml|architectures\.json|conversion\.json|states\.parquet|{re.escape(CARD)}|splits/[^/]+\.parquet"
    r"|weights\.zarr/(.+/)?zarr\.json|weights\.zarr/(epoch|permutation)/c/[^/]+"
)
_LINE = re.compile(r"([0-9a-f]{64})  ([^\n]+)")


def files(folder: Folder) -> list[str]:
    """Return the files that are listed: manifest, metadata of the arrays, epochs, and the card once there is one.

    A converted zoo also has its architectures, states and split tables, the permutation that was applied, and the
    report of its conversion.
    """
    return sorted(name for name in location.files(folder) if _LISTED.fullmatch(name))


def read(folder: Folder) -> dict[str, str]:
    """Return what is listed, path -> SHA-256 (hex); other lines are left out."""
    path = folder / NAME
    text = path.read_bytes().decode(errors="replace") if path.is_file() else ""
    return {match[2]: match[1] for line in text.split("\n") if (match := _LINE.fullmatch(line))}


def write(folder: Folder, *, only: str | None = None) -> None:
    """List the files of a zoo as they are now; `only` renews one entry, so that damage to others is not approved."""
    if only is None:
        digests = {name: _sha256(folder / name) for name in files(folder)}
    else:
        digests = {**read(folder), only: _sha256(folder / only)}
    atomic.replace(folder / NAME, _text(digests))


def leave_out(folder: Folder, name: str) -> None:
    """Take a file from the list that is to be written again."""
    atomic.replace(folder / NAME, _text({path: digest for path, digest in read(folder).items() if path != name}))


def findings(folder: Folder) -> list[tuple[str, str]]:
    """Return the files that are not as they were written: (file, what is wrong)."""
    path, listed = folder / NAME, read(folder)
    if not path.is_file():
        return [(NAME, "is not there")]
    wrong = []
    if path.read_bytes() != _text(listed):
        wrong.append((NAME, "has lines that it would not have been written with"))
    for name in sorted({*listed, *files(folder)}):
        if name not in listed:
            wrong.append((name, f"is not listed in {NAME}"))
        elif not _inside(folder, name) or not (folder / name).is_file():
            wrong.append((name, f"is listed in {NAME} and not there"))
        elif _sha256(folder / name) != listed[name]:
            wrong.append((name, f"has other bytes than {NAME} says"))
    return wrong


def agree(folder: Folder, expected: Mapping[str, bytes]) -> bool:
    """Return whether files, path -> content, are all as listed."""
    listed = read(folder)
    return all(hashlib.sha256(content).hexdigest() == listed.get(name) for name, content in expected.items())


def restore(folder: Folder, expected: Mapping[str, bytes]) -> list[str]:
    """Restore the bytes of damaged files; return which files were wrong.

    A file is replaced only by bytes that its listed digest confirms, and the list only where the file is as expected.
    A wrong card is removed; the end of a run writes it again.

    Args:
        folder: the zoo.
        expected: path -> the bytes that making the zoo again gives.

    Raises:
        ZooError: a file is damaged and what is expected is not what it was either; nothing has been changed then.
    """
    listed, wrong = read(folder), [name for name, _ in findings(folder)]
    restored = {}
    for name in wrong:
        if name not in expected or (content := expected[name]) == _content(folder / name):
            continue  # the card, or the list itself is wrong
        if hashlib.sha256(content).hexdigest() != listed.get(name):
            raise ZooError(
                f"{folder / name}: is damaged, and this manifest with these versions gives other bytes than {NAME} "
                "says; expected the manifest and the versions that made it, or the file from a copy"
            )
        restored[name] = content
    for name, content in restored.items():
        atomic.replace(folder / name, content)
    if CARD in wrong:
        (folder / CARD).unlink(missing_ok=True)
    if findings(folder):
        write(folder)
    return wrong


def text_of(contents: Mapping[str, bytes]) -> bytes:
    """Return the list of files that are given with their content."""
    return _text({name: hashlib.sha256(content).hexdigest() for name, content in contents.items()})


def _text(digests: Mapping[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()


def _inside(folder: Folder, name: str) -> bool:
    if ".." in PurePosixPath(name).parts or name.startswith("/"):
        return False
    return not isinstance(folder, Path) or (folder / name).resolve().is_relative_to(folder.resolve())


def _content(path: Folder) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _sha256(path: Folder) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
