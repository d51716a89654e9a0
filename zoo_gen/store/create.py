"""What a zoo consists of before its first shard, and writing that so that it appears whole or not at all."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.errors import ZooError
from zoo_gen.files import atomic
from zoo_gen.files.location import make_folder
from zoo_gen.manifest import Manifest, ZooManifest, grid
from zoo_gen.manifest.split import split_sha256
from zoo_gen.store import checksums
from zoo_gen.store.arrays import make_arrays
from zoo_gen.store.extent import Extent
from zoo_gen.store.image_labels import IMAGE_LABELS
from zoo_gen.store.side_files import architecture_row, side_files

SCHEMA = 1
MANIFEST = "manifest.toml"


@dataclass(frozen=True)
class EmptyZoo:
    """What a zoo consists of before its first shard."""

    manifest: Manifest
    extent: Extent
    attributes: Mapping[str, Any]  # what its store says of itself
    side_files: Mapping[str, bytes] = field(default_factory=dict)  # of a converted or mixed zoo: path -> content
    permutation: np.ndarray | None = None  # see `make_arrays`

    def files(self) -> dict[str, bytes]:
        """Return its files, path -> content."""
        with tempfile.TemporaryDirectory() as name:
            self.write(Path(name))
            return {path: (Path(name) / path).read_bytes() for path in checksums.files(Path(name))}

    def write(self, folder: Path) -> None:
        """Write its files into an empty folder."""
        (folder / "models").mkdir()
        make_arrays(folder, self.extent, self.attributes, permutation=self.permutation)
        for name, content in {MANIFEST: self.manifest.content, **self.side_files}.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        checksums.write(folder)


def described(manifest: Manifest, extent: Extent, layout: ParameterLayout | None) -> dict[str, Any]:
    """Return the attributes of a store that follow from its manifest and its layout, name -> plain data."""
    ragged = {} if extent.row_elements is None else {"row_elements": extent.row_elements}
    return {
        "schema": SCHEMA,
        "name": manifest.name,
        "manifest_digest": manifest.digest,
        "architecture": manifest.architecture.model_dump(mode="json"),
        "layout": None if layout is None else layout.to_json(),
        "checkpoint_epochs": list(manifest.checkpoint_epochs),
        "models_per_shard": extent.models_per_shard,
        "n_models": extent.n_models,
        **ragged,
    }


def untrained(
    manifest: ZooManifest,
    *,
    data_sha256: str,
    device: str,
    forms: Mapping[str, str] | None = None,
    image_labels: Mapping[str, Any] | None = None,
) -> EmptyZoo:
    """Return the zoo of a manifest before anything is trained.

    Args:
        manifest: what is to be trained.
        data_sha256: of the image data (hex).
        device: the kind of device that trains it.
        forms: in which a CPU computes its convolutions, name -> form; see `population.cpu.convolutions`.
        image_labels: of the images that networks are fitted to, as `store.image_labels` describes them.
    """
    extent = Extent.of(manifest)
    attributes = {
        **described(manifest, extent, manifest.layout),
        "split_sha256": split_sha256(grid.split_of_models(manifest)),
        "data_sha256": data_sha256,
        "versions": {name: version(name) for name in ("zoo-gen", "torch", "zarr", "numpy")},
        "device": device,
        **({"forms": dict(forms)} if forms else {}),
        **({IMAGE_LABELS: dict(image_labels)} if image_labels else {}),
    }
    return EmptyZoo(manifest, extent, attributes, own_side_files(manifest))


def own_side_files(manifest: Manifest) -> dict[str, bytes]:
    """Return the files beside manifest and arrays that the manifest gives: of a mixed zoo its architectures."""
    if manifest.generated is None or not manifest.ragged:
        return {}
    return side_files([architecture_row(name, network) for name, network in manifest.networks.items()], {}, None)


def check_new(folder: Path) -> None:
    """Refuse a folder that holds something, other than what killed runs that would have made a zoo left in it.

    Raises:
        ZooError: it does.
    """
    prefix = _prefix(folder)
    if folder.exists() and (not folder.is_dir() or any(not path.name.startswith(prefix) for path in folder.iterdir())):
        raise ZooError(f"{folder}: exists and is not a zoo; expected a new or empty folder")


def _prefix(folder: Path) -> str:
    return f".{folder.name}.making."


def create(folder: Path, empty: EmptyZoo) -> bool:
    """Write an empty zoo into a folder that is new or empty; return whether it is ours and not another run's.

    The zoo appears whole under its name, so that runs that start together on one folder agree on it. An empty folder
    may be a mount point or the one we stand in: it is filled, and its manifest, moved last, says that it is a zoo.

    Raises:
        ZooError: the folder holds something else.
    """
    prefix = _prefix(folder)
    exists = folder.exists()
    check_new(folder)
    make_folder(folder.parent)
    temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=folder if exists else folder.parent))
    zoo = temporary / "zoo"  # a folder of its own, as `mkdtemp` does not keep to the umask
    try:
        zoo.mkdir()
        with atomic.naming(folder):
            empty.write(zoo)
        atomic.flush_below(zoo)
        if exists:
            for path in sorted(zoo.iterdir(), key=lambda path: path.name == MANIFEST):
                path.replace(folder / path.name)
        else:
            zoo.replace(folder)
        atomic.flush(folder)
        atomic.flush(folder.parent)
    except OSError:
        if not (folder / MANIFEST).exists():
            raise
        return False
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True
