"""Models that other zoos already hold, and that a new manifest asks for again: they are copied, and not trained.

Everything random about a model follows from its own row, so one with the same row, images, network and training has the
same bytes in every zoo. More epochs are another matter: the state of its optimiser was not kept, so it is trained again.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zoo_gen.errors import ZooError
from zoo_gen.files.location import Folder
from zoo_gen.manifest import ZooManifest
from zoo_gen.manifest.hyperparameters import HYPERPARAMETERS
from zoo_gen.store import Store

_logger = logging.getLogger(__name__)
# Keys of a manifest that change no byte of a model; epochs and checkpoints are compared model by model.
_CHANGE_NOTHING = ("name", "description", "axes", "split", "storage")


@dataclass(frozen=True)
class Donor:
    """A zoo whose models may be copied."""

    store: Store
    manifest: ZooManifest

    @cached_property
    def positions(self) -> dict[tuple[object, ...], int]:
        """The model_id of each complete model, by all that determines it."""
        positions: dict[tuple[object, ...], int] = {}
        for shard in self.store.complete_shards():
            rows = self.manifest.rows(self.store.extent.models(shard))
            positions |= dict(zip(_keys(self.manifest, rows), rows["model_id"].to_pylist(), strict=True))
        return positions


@dataclass(frozen=True)
class Copies:
    """What of a new zoo's models other zoos hold: for each, which zoo and model; None where it has to be trained."""

    donors: tuple[Donor, ...]
    sources: tuple[tuple[int, int] | None, ...]  # (position of the donor, its model_id), a model of the new zoo each

    @property
    def count(self) -> int:
        """How many models are copied."""
        return sum(source is not None for source in self.sources)

    def arrays(self, manifest: ZooManifest, models: Sequence[int]) -> dict[str, np.ndarray]:
        """Return the arrays of models that are copied, name -> float32 (model, checkpoint, ...).

        Raises:
            ZooError: an array of another zoo cannot be read.
        """
        sources = [source for source in (self.sources[model] for model in models) if source is not None]
        parts: dict[str, list[np.ndarray]] = {}
        for number, model in sources:
            donor = self.donors[number]
            epochs = list(donor.store.attributes["checkpoint_epochs"])
            columns = [epochs.index(epoch) for epoch in manifest.checkpoint_epochs]
            for name in donor.store.extent.arrays():
                parts.setdefault(name, []).append(np.asarray(donor.store.array(name)[model])[columns])
        return {name: np.stack(values) for name, values in parts.items()}


def find_copies(
    folders: Sequence[Folder], manifest: ZooManifest, *, attributes: Mapping[str, Any], torch: str, device: str
) -> Copies:
    """Look for the models of a manifest in other zoos.

    Args:
        folders: of the zoos.
        manifest: of the new zoo.
        attributes: what the new zoo says of itself: the digest of its images, forms of convolutions.
        torch: the version of torch that trains now.
        device: the kind of device that trains now: "cpu" or "cuda".

    Raises:
        ZooError: a folder holds no zoo that was trained here, or nothing in it could be used; the line names the first
            keys that differ.
    """
    donors = []
    for folder in folders:
        store = Store.open(folder)
        if not isinstance(store.manifest, ZooManifest):
            raise ZooError(f"{folder}: was converted, not trained here; expected a zoo of zoo-gen run")
        _check(store, store.manifest, manifest, attributes=attributes, torch=torch, device=device)
        donors.append(Donor(store, store.manifest))
    sources: list[tuple[int, int] | None] = [None] * manifest.n_models
    rows = manifest.rows(slice(0, manifest.n_models))
    keys = _keys(manifest, rows)
    for number, donor in enumerate(donors):
        if not set(manifest.checkpoint_epochs) <= set(donor.store.attributes["checkpoint_epochs"]):
            continue
        same_length = donor.manifest.training.epochs == manifest.training.epochs
        for model, (key, schedule) in enumerate(zip(keys, rows["schedule"].to_pylist(), strict=True)):
            # What a schedule does depends on the number of epochs; constant ones pass through shorter trainings.
            usable = same_length or (schedule == "constant" and manifest.training.epochs < donor.manifest.training.epochs)
            if sources[model] is None and usable and key in donor.positions:
                sources[model] = number, donor.positions[key]
    return Copies(tuple(donors), tuple(sources))
