"""Writing an empty zoo at a URL, where no folder can appear whole under its name.

SHA256SUMS names every byte of an empty zoo and is written first, on condition that there is none: of runs that start
together with other manifests or versions one wins. The manifest is written last, and with it the zoo is there.
"""

from collections.abc import Iterable

from zoo_gen.errors import ZooError
from zoo_gen.files import location
from zoo_gen.files.remote import Remote
from zoo_gen.store import checksums
from zoo_gen.store.create import MANIFEST, EmptyZoo


def create(folder: Remote, empty: EmptyZoo) -> None:
    """Write an empty zoo at a URL that has no manifest yet, or leave it alone where another run has written it.

    Raises:
        ZooError: the folder holds something else, or another run is about to make another zoo there.
    """
    contents = empty.files()
    ours = checksums.text_of(contents)
    check_new(folder, contents)
    if not (folder / checksums.NAME).create(ours) and (folder / checksums.NAME).read_bytes() != ours:
        if (folder / MANIFEST).exists():
            return  # written by another run, and perhaps complete by now
        raise ZooError(
            f"{folder}: another run has begun another zoo there, or one with other versions; expected another folder, "
            f"or that {folder / checksums.NAME} is removed"
        )
    for name in sorted(contents, key=lambda name: name == MANIFEST):
        (folder / name).write_bytes(contents[name])


def check_place(folder: Remote) -> None:
    """Refuse a folder at a URL in which no zoo can be made, whichever, before hours of work for it.

    Raises:
        ZooError: it is on the Hub, in a bucket that is not there, or holds something else than a zoo or its beginning.
    """
    folder.check_writable()
    names = sorted(location.names(folder))
    if names == [folder.name] and folder.is_file():
        raise ZooError(f"{folder}: is a file; expected a new or empty folder")
    if names and not {MANIFEST, checksums.NAME} & set(names):
        raise ZooError(f"{folder}: exists and is not a zoo (it has {names[0]}); expected a new or empty folder")


def check_new(folder: Remote, contents: Iterable[str]) -> None:
    """Refuse a folder at a URL that has files other than those of an empty zoo, and no manifest.

    Raises:
        ZooError: it has.
    """
    strangers = sorted(set(location.files(folder)) - set(contents) - {checksums.NAME})
    if strangers and not (folder / MANIFEST).exists():
        raise ZooError(f"{folder}: exists and is not a zoo (it has {strangers[0]}); expected a new or empty folder")
