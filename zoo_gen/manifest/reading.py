"""Manifests of generated zoos read from files, and the shipped ones found by name."""

from pathlib import Path

from zoo_gen.errors import ZooError, shown
from zoo_gen.files import schema
from zoo_gen.files.location import Folder, locate
from zoo_gen.manifest.manifest import ZooManifest


def read_manifest(path: str | Folder, *, data_root: Path | None = None) -> ZooManifest:
    """Read and check the manifest of a generated zoo; it keeps the bytes of its file, unless data or code said more.

    Args:
        path: of the file.
        data_root: where data is looked for that has to be read first; see `load_image_data`.

    Raises:
        ZooError: the file is missing or wrong; the message names the place.

    >>> from zoo_gen import find_manifest, read_manifest
    >>> read_manifest(find_manifest("tetris_seed")).training.epochs
    75
    """
    path = locate(path)
    content = schema.read_bytes(path)
    context = None if data_root is None else {"data_root": data_root}
    written = schema.toml_document(content, where=str(path))
    manifest = schema.checked(written, ZooManifest, where=str(path), context=context)
    looked_up = ("data", "architecture", "training")
    is_whole = all(getattr(manifest, name).model_fields_set <= set(written[name]) for name in looked_up)
    if is_whole and manifest.training.source_sha256 == written["training"].get("source_sha256", {}):
        manifest.__dict__["content"] = content
    return manifest


def as_manifest(manifest: ZooManifest | str | Folder, *, data_root: Path | None = None) -> ZooManifest:
    """Return a manifest that is given as itself, as a path or URL, or as the name of a shipped one.

    Data that has to be read first is looked for in `data_root`.

    Raises:
        ZooError: there is none of that name, or the file is missing or wrong.
    """
    if isinstance(manifest, ZooManifest):
        return manifest
    return read_manifest(find_manifest(manifest), data_root=data_root)


def shipped_manifests() -> dict[str, Path]:
    """Return the manifests that come with the package, name -> path."""
    return schema.shipped("zoos", installed=Path(__file__).parent / "shipped")


def find_manifest(name_or_path: str | Folder) -> Folder:
    """Return where a manifest is that is given as a path or URL (ending in .toml) or as the name of a shipped one.

    Raises:
        ZooError: no shipped manifest has that name, or it is no text and no path.

    >>> from zoo_gen import find_manifest
    >>> find_manifest("tetris_seed").name
    'tetris_seed.toml'
    """
    if isinstance(name_or_path, Folder):
        return name_or_path
    if not isinstance(name_or_path, str):
        raise ZooError(
            f"manifest is {shown(name_or_path)}; expected a ZooManifest, plain data, the path or URL of a file, or "
            "the name of one that comes with the package"
        )
    return schema.find("zoo", name_or_path, shipped_manifests())
