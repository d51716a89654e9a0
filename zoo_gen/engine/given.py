"""A manifest together with data and a module that are given in Python: the manifest that stands for all three."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from zoo_gen.architecture import own_module
from zoo_gen.architecture.own_module import Factory
from zoo_gen.files import schema
from zoo_gen.files.location import Folder
from zoo_gen.image_data import array_files
from zoo_gen.image_data.places import default_data_root
from zoo_gen.manifest import ZooManifest, as_manifest, find_manifest

ManifestLike = ZooManifest | Mapping[str, Any] | str | Folder
ArraysLike = Sequence[Any] | Mapping[str, Any]


def completed(
    manifest: ManifestLike,
    *,
    data: ArraysLike | None = None,
    module: Factory | None = None,
    functions: Mapping[str, Factory | None] = MappingProxyType({}),
    data_root: Path | None = None,
) -> ZooManifest:
    """Return the manifest with what is given beside it in place of its [data], [architecture] and parts of [training].

    Args:
        manifest: itself, plain dictionaries, the path or URL of a file, or the name of one that comes with the package.
        data: arrays, which are kept below the data root; see `array_files.keep`.
        module: a class or function that returns a torch.nn.Module.
        functions: of the user's own, "loss", "optimizer" or "schedule" -> function or class.
        data_root: where data is looked for and kept.

    Raises:
        ZooError: something is missing or does not fit.
    """
    functions = {name: function for name, function in functions.items() if function is not None}
    if data is None and module is None and not functions and not isinstance(manifest, Mapping):
        return as_manifest(manifest, data_root=data_root)
    document = _document(manifest)
    if data is not None:
        options = document.get("data", {})
        options = options if options.get("source", "arrays") == "arrays" and "path" not in options else {}
        path = array_files.keep(data, data_root or default_data_root())
        document["data"] = {**options, "source": "arrays", "path": path}
    if module is not None:
        options = document.get("architecture", {})
        arguments = options.get("arguments", {}) if options.get("name", "module") == "module" else {}
        document["architecture"] = {"name": "module", "module": own_module.give(module), "arguments": arguments}
    if functions:
        training = {key: value for key, value in document.get("training", {}).items() if key != "source_sha256"}
        document["training"] = training | functions
    context = None if data_root is None else {"data_root": data_root}
    return ZooManifest.model_validate(document, context=context)


def _document(manifest: ManifestLike) -> dict[str, Any]:
    """Return a manifest as plain data, whole or not."""
    if isinstance(manifest, Mapping):
        return dict(manifest)
    if isinstance(manifest, ZooManifest):
        return tomllib.loads(manifest.to_toml())
    content = schema.read_bytes(find_manifest(manifest))
    return schema.toml_document(content, where=str(manifest))
