"""Where data lies: the data root, and the files and folders of one's own that a manifest names by their path."""

from pathlib import Path

from pydantic import ValidationInfo

from zoo_gen.errors import ZooError
from zoo_gen.files.location import cache_folder, on_disk


def default_data_root() -> Path:
    """Return ZOO_DATA_ROOT, or zoo_gen/data in the user's cache folder."""
    return cache_folder("data", variable="ZOO_DATA_ROOT")


def own_path(path: str, root: Path) -> Path:
    """Return where a file or folder of one's own is: at an absolute path, in the working folder, or below the root.

    Raises:
        ZooError: it is in neither place.
    """
    written = Path(path).expanduser()
    places = [written] if written.is_absolute() else [Path.cwd() / written, root / written]
    for place in places:
        if place.exists():
            return place
    raise ZooError(f"data.path {path!r}: is not there; expected {' or '.join(map(str, places))}")


def root_of(info: ValidationInfo) -> Path:
    """Return the data root that a manifest is checked with: the one of its context, or else the default one."""
    data_root = (info.context or {}).get("data_root")
    return on_disk(data_root) if data_root is not None else default_data_root()
