"""Growing a zoo in its own folder: the old zoo is set aside, the new one takes its place and copies what it can.

A kill at any moment loses nothing: the old zoo lies whole under its other name until the new one is complete, and the
same command resumes.
"""

import shutil
from pathlib import Path

from zoo_gen.engine.reuse import find_copies
from zoo_gen.errors import ZooError, argument, either
from zoo_gen.files import atomic
from zoo_gen.files.location import Folder
from zoo_gen.manifest import ZooManifest, read_any
from zoo_gen.manifest.difference import differences, listed
from zoo_gen.manifest.rows import keys_of
from zoo_gen.store import EmptyZoo
from zoo_gen.store.create import MANIFEST


def old_zoo(folder: Folder, empty: EmptyZoo) -> Path | None:
    """Return where the zoo of another manifest is, which is to grow: in its folder yet, or set aside; None if none is.

    Args:
        folder: of the zoo.
        empty: the zoo that will be there.

    Raises:
        ZooError: the folder is at a URL, none of the old zoo's models can be copied or is in the new manifest, or one
            that was set aside before is of use to neither.
    """
    if not isinstance(folder, Path):
        raise ZooError(
            f"{folder}: a zoo at a URL cannot grow in place; expected another folder, with "
            + either(command=f"--reuse {folder}", python=f"reuse=[{str(folder)!r}]")
        )
    old = _old(folder)
    new = empty.manifest.generated
    assert new is not None  # of a run
    if (folder / MANIFEST).exists() and read_any(folder / MANIFEST).digest != new.digest:
        if old.exists():
            growing = argument("grow", True)
            raise ZooError(
                f"{old}: was left by an interrupted {growing}; finish that run with its manifest, or remove it"
            )
        find_copies([folder], new, empty.attributes)  # refuses what cannot grow
        _check_keeps_some(folder, new)
        return folder
    return old if old.exists() else None


def set_aside(folder: Path) -> Path:
    """Rename the zoo in a folder, and return where it is now."""
    old = _old(folder)
    folder.rename(old)
    atomic.flush(folder.parent)
    return old


def _check_keeps_some(folder: Path, manifest: ZooManifest) -> None:
    """Refuse a manifest that has none of the models of a zoo: it would not grow, it would be lost."""
    old = read_any(folder / MANIFEST).generated
    assert old is not None  # `find_copies` refuses others
    if set(keys_of(old.rows(slice(0, old.n_models)))).isdisjoint(keys_of(manifest.rows(slice(0, manifest.n_models)))):
        raise ZooError(
            f"{folder}: the new manifest has none of its models ({listed(differences(old, manifest))}), and a zoo that "
            "grows replaces the old one; expected another folder"
        )


def tidy_up(folder: Folder) -> None:
    """Remove the old zoo of a folder whose new one is complete."""
    if isinstance(folder, Path):
        shutil.rmtree(_old(folder), ignore_errors=True)


def _old(folder: Path) -> Path:
    """Return where the old zoo of a folder lies while the new one is made."""
    return folder.with_name(f".{folder.name}.old")
