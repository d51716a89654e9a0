"""Manifest: what the manifest of every zoo answers, generated or converted; and reading either kind.

Whoever asks a manifest nothing else works with both kinds.
"""

# ruff: noqa: D102, as both kinds say what each of their answers means

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import pyarrow as pa

from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.architecture.network import Network
from zoo_gen.files import schema
from zoo_gen.files.location import Folder
from zoo_gen.image_data import DataSource
from zoo_gen.manifest.converted import ConvertedManifest, Origin, SplitFacts
from zoo_gen.manifest.manifest import ZooManifest


class Named(Protocol):
    """An architecture by its name, which is also plain data."""

    @property
    def name(self) -> str:
        """The name."""

    def model_dump(self, *, mode: str) -> dict[str, object]:
        """Return it as plain data."""


class Manifest(Protocol):
    """What every zoo says of itself; see `ZooManifest` and `ConvertedManifest` for what each answer means."""

    def model_dump(self, *, mode: str) -> dict[str, object]: ...
    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def content(self) -> bytes: ...
    @property
    def architecture(self) -> Named: ...
    @property
    def data(self) -> DataSource | None: ...
    @property
    def data_name(self) -> str: ...
    @property
    def n_models(self) -> int: ...
    @property
    def n_parameters(self) -> int: ...
    @property
    def n_classes(self) -> int | None: ...
    @property
    def checkpoint_epochs(self) -> tuple[int, ...]: ...
    @property
    def metric_widths(self) -> tuple[tuple[str, int], ...]: ...
    @property
    def models_per_shard(self) -> int | None: ...
    @property
    def network(self) -> Network | None: ...
    @property
    def networks(self) -> Mapping[str, Network]: ...
    @property
    def layout(self) -> ParameterLayout | None: ...
    @property
    def ragged(self) -> bool: ...
    @property
    def sizes(self) -> np.ndarray | None: ...
    @property
    def varying(self) -> tuple[str, ...]: ...
    @property
    def origin(self) -> Origin | None: ...
    @property
    def generated(self) -> ZooManifest | None: ...
    @property
    def splits(self) -> Mapping[str, SplitFacts]: ...
    @property
    def permutation_sha256(self) -> str | None: ...
    @property
    def recomputable(self) -> bool: ...
    @property
    def training_sentence(self) -> str: ...
    @property
    def origin_text(self) -> str: ...
    def rows(self, models: slice) -> pa.Table | None: ...


def read_any(path: Folder) -> Manifest:
    """Read the manifest of a zoo, generated or converted; it keeps the bytes of its file.

    Raises:
        ZooError: the file is missing or wrong; the message names the place.
    """
    content = schema.read_bytes(path)  # once: it may lie at a URL
    document = schema.toml_document(content, where=str(path))
    manifest: ZooManifest | ConvertedManifest
    if document.get("kind") == "converted":
        manifest = schema.checked(document, ConvertedManifest, where=str(path))
    else:
        manifest = schema.checked(document, ZooManifest, where=str(path))
    manifest.__dict__["content"] = content
    return manifest
