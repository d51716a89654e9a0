"""How an empty zoo comes to be at a URL, where no folder can appear whole under its name.

SHA256SUMS names every byte of an empty zoo and is written first, on condition that there is none: of runs that start
together with other manifests or versions one wins. The manifest is written last, and with it the zoo is there.
"""

from collections.abc import Mapping

from zoo_gen.errors import ZooError
from zoo_gen.files import location
from zoo_gen.files.location import Remote
from zoo_gen.store import checksums

_LAST = "manifest.toml"


def fill(folder: Remote, files: Mapping[str, bytes]) -> None:
    """Write the files of an empty zoo, or leave those alone that another run wrote.

    Args:
        folder: the zoo, which has no manifest yet.
        files: path -> content, as `store.fixed_files` gives them.

    Raises:
        ZooError: the folder holds something else, or another run is about to make another zoo there.
    """
    ours = checksums.text_of(files)
    strangers = sorted(set(location.files(folder)) - set(files) - {checksums.NAME})
    if strangers and not (folder / _LAST).exists():
        raise ZooError(f"{folder}: exists and is not a zoo (it has {strangers[0]}); expected a new or empty folder")
    if not (folder / checksums.NAME).create(ours) and (folder / checksums.NAME).read_bytes() != ours:
        if (folder / _LAST).exists():
            return  # made by another run, and perhaps finished by now
        raise ZooError(
            f"{folder}: another run has begun another zoo there, or one with other versions; expected another folder, "
            f"or that {folder / checksums.NAME} is removed"
        )
    for name in sorted(files, key=lambda name: name == _LAST):
        (folder / name).write_bytes(files[name])
