"""A zoo on disk (schema 1): how its arrays are laid out, creating it, and what it says of itself.

All that is written once stands here; what training adds, shard after shard, is in `commit`.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, BloscShuffle, Crc32cCodec

from zoo_gen.errors import ZooError
from zoo_gen.files import atomic, location
from zoo_gen.files.location import Folder, Remote
from zoo_gen.manifest import ZooManifest, grid, read_manifest
from zoo_gen.manifest.converted import ConvertedManifest, Manifest
from zoo_gen.store import checksums, claim

SCHEMA = 1
_SHARD_BYTES = 64 * 2**20  # what a shard chosen by size holds, uncompressed
_CHUNK_BYTES = 256 * 2**10  # of a model's trajectory: what is read, also over a network, for one of its checkpoints
_RAGGED_CHUNK, _RAGGED_SHARD = 2**16, 2**24  # elements
_MOST_MODELS = 1024
_FEWEST_MODELS = 8
_SHARDS = 16
_READ = ("manifest_digest", "layout", "checkpoint_epochs", "models_per_shard", "versions")  # what readers need
NO_FORMS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Extent:
    """How large a zoo is, and how it is cut into shards."""

    n_models: int
    n_checkpoints: int
    n_parameters: int
    metrics: tuple[tuple[str, int], ...]  # name and numbers a checkpoint: 1, or one a class
    models_per_shard: int
    row_elements: int | None = None  # of converted zoos whose models differ in architecture: the weights of a shard

    @classmethod
    def of(cls, manifest: ZooManifest, *, models_per_shard: int | None = None) -> "Extent":
        """Return the extent of the zoo that a manifest describes; a zoo that exists says its own `models_per_shard`."""
        n_models, n_checkpoints = grid.count_models(manifest), len(manifest.checkpoint_epochs)
        n_parameters = manifest.layout.size
        fitting = max(1, min(_MOST_MODELS, _SHARD_BYTES // (n_checkpoints * n_parameters * 4)))
        # Small zoos too are cut so that several workers share them.
        fitting = min(fitting, max(_FEWEST_MODELS, -(-n_models // _SHARDS)))
        models_per_shard = min(models_per_shard or manifest.storage.models_per_shard or fitting, n_models)
        return cls(n_models, n_checkpoints, n_parameters, manifest.data.metrics, models_per_shard)

    @property
    def n_shards(self) -> int:
        """The number of shards."""
        return -(-self.n_models // self.models_per_shard)

    @property
    def bytes_per_model(self) -> int:
        """What a model's weights and metrics take, uncompressed."""
        return 4 * self.n_checkpoints * (self.n_parameters + sum(width for _, width in self.metrics))

    def models(self, shard: int) -> slice:
        """Return the models of a shard."""
        start = shard * self.models_per_shard
        return slice(start, min(start + self.models_per_shard, self.n_models))

    def arrays(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every array that a shard fills, name -> (model, checkpoint, ...)."""
        both = (self.n_models, self.n_checkpoints)
        ragged = None if self.row_elements is None else (self.n_shards, self.row_elements)
        return {
            "weights": ragged or (*both, self.n_parameters),
            **{name: both if width == 1 else (*both, width) for name, width in self.metrics},
        }


def create(
    folder: Folder, manifest_path: Folder, *, data_sha256: str, device: str, forms: Mapping[str, str] = NO_FORMS
) -> ZooManifest:
    """Make the empty zoo that a manifest describes, or find it already there; return the manifest.

    Args:
        folder: where it is.
        manifest_path: the manifest.
        data_sha256: of the image data (hex).
        device: the kind of device that trains it.
        forms: in which a CPU computes its convolutions, name -> form, where they were chosen; see `population.forms`.

    Raises:
        ZooError: the folder holds something else, or another manifest's zoo; nothing in it is changed.
    """
    manifest = read_manifest(manifest_path)
    if isinstance(folder, Path):
        folder = folder.resolve()
    kept = folder / "manifest.toml"
    if kept.exists():
        found = read_manifest(kept)
        if found.digest != manifest.digest:
            raise ZooError(
                f"{folder}: holds the zoo {found.name!r} of another manifest (digest {found.digest[:12]}, expected "
                f"{manifest.digest[:12]}); choose another folder with --out"
            )
        attributes(folder)
        return manifest
    if isinstance(folder, Remote):
        claim.fill(folder, fixed_files(manifest_path, data_sha256=data_sha256, device=device, forms=forms))
        return create(folder, manifest_path, data_sha256=data_sha256, device=device, forms=forms)
    prefix = f".{folder.name}.making."
    is_there = folder.exists()
    if is_there and (not folder.is_dir() or any(not path.name.startswith(prefix) for path in folder.iterdir())):
        raise ZooError(f"{folder}: exists and is not a zoo; expected a new or empty folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=prefix, dir=folder if is_there else folder.parent))
    try:
        making.chmod(0o777 & ~_umask())
        _make(making, manifest_path, manifest, data_sha256=data_sha256, device=device, forms=forms)
        atomic.flush_below(making)
        # The zoo appears whole under its name, so that runs that start together on one folder agree on it. An empty
        # folder may be a mount point or the one we stand in: it is filled, and its manifest says that it is a zoo.
        if is_there:
            for name in ("weights.zarr", "models", checksums.NAME, "manifest.toml"):
                (making / name).replace(folder / name)
        else:
            making.replace(folder)
        atomic.flush(folder)
        atomic.flush(folder.parent)
    except OSError:
        if kept.exists():
            return create(folder, manifest_path, data_sha256=data_sha256, device=device, forms=forms)
        raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return manifest


def _make(
    folder: Path,
    manifest_path: Folder,
    manifest: ZooManifest,
    *,
    data_sha256: str,
    device: str,
    forms: Mapping[str, str],
) -> None:
    """Fill an empty folder with the zoo that has no shard yet."""
    (folder / "models").mkdir()
    _create_arrays(folder, manifest, data_sha256=data_sha256, device=device, forms=forms)
    (folder / "manifest.toml").write_bytes(manifest_path.read_bytes())
    checksums.write(folder)


def _umask() -> int:
    """Return the process's mask for new files, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _create_arrays(
    folder: Path, manifest: ZooManifest, *, data_sha256: str, device: str, forms: Mapping[str, str]
) -> None:
    extent = Extent.of(manifest)
    attributes = {
        "schema": SCHEMA,
        **following(manifest, extent),
        "data_sha256": data_sha256,
        "versions": {name: version(name) for name in ("zoo-gen", "torch", "zarr", "numpy")},
        "device": device,
        **({"forms": dict(forms)} if forms else {}),
    }
    make_arrays(folder, extent, attributes)


def following(manifest: ZooManifest, extent: Extent) -> dict[str, Any]:
    """Return the attributes of a store that follow from its manifest, name -> plain data."""
    return {
        "name": manifest.name,
        "manifest_digest": manifest.digest,
        "architecture": manifest.architecture.model_dump(mode="json"),
        "layout": manifest.layout.to_json(),
        "checkpoint_epochs": list(manifest.checkpoint_epochs),
        "models_per_shard": extent.models_per_shard,
        "n_models": extent.n_models,
        "split_sha256": grid.split_sha256(grid.split_of_models(manifest)),
    }


def make_arrays(folder: Path, extent: Extent, attributes: Mapping[str, Any]) -> None:
    """Make the empty arrays of a zoo, and the one of its epochs, which `attributes` hold."""
    group = zarr.create_group(folder / "weights.zarr", zarr_format=3, attributes=dict(attributes))
    for name, shape in extent.arrays().items():
        chunk, shard = _chunking(name, shape, extent)
        group.create_array(
            name,
            shape=shape,
            dtype="float32",
            chunks=chunk,
            shards=shard,
            compressors=[BloscCodec(cname="lz4", clevel=5, shuffle=BloscShuffle.bitshuffle, typesize=4), Crc32cCodec()],
            fill_value=float("nan"),
            dimension_names=_dimensions(name, shape, extent),
        )
    epochs = np.array(attributes["checkpoint_epochs"], dtype=np.int32)
    array = group.create_array("epoch", shape=epochs.shape, dtype="int32", dimension_names=("checkpoint",))
    array[:] = epochs


def _dimensions(name: str, shape: tuple[int, ...], extent: Extent) -> tuple[str, ...]:
    if name == "weights" and extent.row_elements is not None:
        return ("shard", "element")
    return ("model", "checkpoint", "parameter" if name == "weights" else "class")[: len(shape)]


def _chunking(name: str, shape: tuple[int, ...], extent: Extent) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Return the chunk and the Zarr shard of an array.

    A model's trajectory is read alone and is cut into equal chunks of its own; metrics are small and read together. The
    weights of models that differ in architecture lie one after the other, in chunks of 256 kB.
    """
    models = extent.models_per_shard
    if name != "weights":
        return (models, *shape[1:]), None
    if extent.row_elements is not None:
        chunk = min(_RAGGED_CHUNK, extent.row_elements)
        return (1, chunk), (1, min(-(-extent.row_elements // chunk) * chunk, _RAGGED_SHARD // chunk * chunk))
    _, n_checkpoints, n_parameters = shape
    chunks = -(-n_checkpoints // max(1, _CHUNK_BYTES // (4 * n_parameters)))
    checkpoints = -(-n_checkpoints // chunks)
    chunks = -(-n_checkpoints // checkpoints)  # equal ones may be fewer
    return (1, checkpoints, n_parameters), (models, chunks * checkpoints, n_parameters)


def fixed_files(
    manifest_path: Folder, *, data_sha256: str, device: str, forms: Mapping[str, str] = NO_FORMS
) -> dict[str, bytes]:
    """Return the files that an empty zoo has, path -> content. Arguments as `create`."""
    with tempfile.TemporaryDirectory() as name:
        manifest = read_manifest(manifest_path)
        _make(Path(name), manifest_path, manifest, data_sha256=data_sha256, device=device, forms=forms)
        return {path: (Path(name) / path).read_bytes() for path in checksums.files(Path(name))}


def attributes(folder: Folder) -> dict[str, Any]:
    """Return the attributes of the zoo in a folder.

    Raises:
        ZooError: the folder holds no zoo that this version reads; the message says what was found.
    """
    # At a URL a folder is there with its first file.
    expected = ("manifest.toml", "weights.zarr/zarr.json", *(["models"] if isinstance(folder, Path) else []))
    missing = [name for name in expected if not (folder / name).exists()]
    if missing:
        if not folder.is_dir():
            raise ZooError(f"{folder}: no such folder; expected a zoo")
        raise ZooError(f"{folder}: is not a zoo; it has no {missing[0]}")
    try:
        found = dict(open_group(folder).attrs)
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:  # as the file is damaged
        raise ZooError(f"{folder}/weights.zarr: cannot be read as a Zarr group ({error})") from None
    if found.get("schema") != SCHEMA:
        raise ZooError(f"{folder}: has schema {found.get('schema')!r}; this version reads schema {SCHEMA}")
    lacking = [name for name in _READ if name not in found]
    if lacking:
        raise ZooError(f"{folder}/weights.zarr/zarr.json: has no attribute {lacking[0]!r}; expected {', '.join(_READ)}")
    return found


def recorded_forms(folder: Folder) -> dict[str, str] | None:
    """Return the forms that a zoo says it was begun with, also where that may be damaged; None if it cannot be read."""
    try:
        found = json.loads((folder / "weights.zarr" / "zarr.json").read_bytes())["attributes"].get("forms", {})
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def open_group(folder: Folder) -> zarr.Group:
    """Open the arrays of a zoo for reading."""
    place = location.arrays(folder / "weights.zarr")
    return zarr.open_group(place, mode="r", zarr_format=3, use_consolidated=False)


def extent_of(manifest: Manifest, found: Mapping[str, Any]) -> Extent:
    """Return the extent of an existing zoo from its manifest and its attributes."""
    if isinstance(manifest, ConvertedManifest):
        metrics = tuple((name, 1) for name in manifest.metrics)
        row = found.get("row_elements")
        sizes = (manifest.models, len(manifest.epochs), manifest.parameters)
        return Extent(*sizes, metrics, int(found["models_per_shard"]), None if row is None else int(row))
    return Extent.of(manifest, models_per_shard=int(found["models_per_shard"]))
