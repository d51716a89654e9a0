"""Models that other zoos already hold, and that a new manifest asks for again: they are copied, and not trained.

Everything random about a model follows from its own row, so one with the same row, images, network and training has
the same bytes in every zoo. More epochs train a model again: the state of its optimiser was not kept.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from zoo_gen.engine.training import gathered, with_buffers
from zoo_gen.errors import ZooError
from zoo_gen.files.location import Folder
from zoo_gen.manifest import ZooManifest
from zoo_gen.manifest.difference import Difference, differences, listed
from zoo_gen.manifest.hyperparameters import HYPERPARAMETERS
from zoo_gen.manifest.rows import Key, keys_of
from zoo_gen.store import Store
from zoo_gen.store.shards import Arrays, model_sha256

# Keys that change no byte of a model, or are compared model by model.
_OF_THE_ZOO = ("name", "description", "axes", "split", "storage", "architecture.random.count")
_OF_A_MODEL = ("checkpoints.epochs", "training.epochs", *(f"training.{name}" for name in HYPERPARAMETERS))
# Functions of the user's own and architectures of mixed zoos, each of which only some models may use.
_OF_SOME_MODELS = ("training.source_sha256.", "architecture.named.")
_WITHOUT_END = ("constant", "step", "milestones")  # schedules that do not depend on the last epoch
# Zarr reads what is lost as NaN, as if the model had diverged.
_OTHERS = "its weights or metrics are not those that were written, whose digest its table has"


@dataclass(frozen=True, eq=False)
class Donor:
    """A zoo whose models may be copied."""

    store: Store
    manifest: ZooManifest

    @cached_property
    def positions(self) -> dict[Key, int]:
        """The model_id of each complete model, by all that determines it."""
        positions: dict[Key, int] = {}
        for shard in self.store.complete_shards():
            rows = self.manifest.rows(self.store.extent.models(shard))
            positions |= dict(zip(keys_of(rows), rows["model_id"].to_pylist(), strict=True))
        return positions

    @cached_property
    def arrays(self) -> dict[str, zarr.Array]:
        """The arrays, opened once for all models."""
        return {name: self.store.array(name, lost_as_nan=True) for name in self.store.extent.arrays()}

    @cached_property
    def _digests(self) -> dict[int, list[str]]:
        """The digests of the models of each shard that was asked for."""
        return {}

    def trajectory(self, model: int) -> dict[str, np.ndarray]:
        """Return all arrays of one model, name -> (checkpoint, ...).

        Raises:
            ValueError: they are not what was written.
        """
        arrays, extent = {name: self._read(name, model) for name in self.arrays}, self.store.extent
        shard = model // extent.models_per_shard
        if shard not in self._digests:
            self._digests[shard] = self._part(shard)["sha256"].to_pylist()
        written = self._digests[shard][model - extent.models(shard).start]
        if model_sha256({name: values[None] for name, values in arrays.items()}, 0) != written:
            raise ValueError(_OTHERS)
        return arrays

    def check(self, models: Iterable[int]) -> None:
        """Read models by whole shards, which is ten times faster than one by one, and compare their digests.

        Raises:
            ZooError: one of them is not what was written.
        """
        extent = self.store.extent
        for shard, some in groupby(sorted(models), key=lambda model: model // extent.models_per_shard):
            first, *others = some
            with _naming(self.store, first):
                part = self._part(shard)
                arrays, written = self.store.read_shard(shard, part), part["sha256"].to_pylist()
            for model in (first, *others):
                row = model - extent.models(shard).start
                with _naming(self.store, model):
                    if model_sha256(arrays, row) != written[row]:
                        raise ValueError(_OTHERS)

    def _part(self, shard: int) -> pa.Table:
        return pq.read_table(pa.BufferReader(self.store.part_path(shard).read_bytes()))

    def _read(self, name: str, model: int) -> np.ndarray:
        """Return an array of one model, (checkpoint, ...)."""
        array, sizes, extent = self.arrays[name], self.manifest.sizes, self.store.extent
        if name != "weights" or sizes is None:
            return np.asarray(array[model])
        shard = model // extent.models_per_shard
        starts = extent.n_checkpoints * np.cumsum(sizes[extent.models(shard).start : model + 1])
        flat = np.asarray(array[shard, starts[-1] - extent.n_checkpoints * sizes[model] : starts[-1]])
        return flat.reshape(extent.n_checkpoints, sizes[model])


@dataclass(frozen=True)
class Copies:
    """For each model of a new zoo the zoo and the model that it is copied from; None where it has to be trained."""

    sources: tuple[tuple[Donor, int] | None, ...]
    manifest: ZooManifest  # of the new zoo

    @property
    def count(self) -> int:
        """How many models are copied."""
        return sum(source is not None for source in self.sources)

    def sentence(self) -> str:
        """Return how many models are copied as a sentence for a person."""
        return f"{self.count:,} of {len(self.sources):,} models are copied, {len(self.sources) - self.count:,} trained"

    def copied(self, models: slice) -> int:
        """Return how many models of a shard are copied."""
        return sum(source is not None for source in self.sources[models])

    def missing(self, rows: pa.Table) -> pa.Table:
        """Return the rows of the models that have to be trained, among rows of the new zoo's table."""
        return rows.filter(pa.array(~self._are_copied(rows)))

    def _are_copied(self, rows: pa.Table) -> np.ndarray:
        """Return which models are copied, bool (model,)."""
        return np.array([self.sources[model] is not None for model in rows["model_id"].to_pylist()], dtype=bool)

    def complete(self, rows: pa.Table, train: Callable[[pa.Table], Arrays]) -> Arrays:
        """Return the arrays of models, those that other zoos hold copied, the others trained.

        Args:
            rows: of the models in the new zoo's table.
            train: takes rows and returns their arrays, name -> float32 (model, checkpoint, ...).

        Raises:
            ZooError: an array of another zoo cannot be read.
        """
        models, copied = rows["model_id"].to_numpy(), self._are_copied(rows)
        if not copied.any():
            return train(rows)
        arrays = self._arrays(models[copied])
        if copied.all():
            return arrays
        trained = train(self.missing(rows))
        return gathered([(np.flatnonzero(copied), arrays), (np.flatnonzero(~copied), trained)])

    def check(self, models: Iterable[int]) -> None:
        """Read what is to be copied, so that a new zoo that would be refused on the way is refused before it is made.

        Args:
            models: of the new zoo, by number.

        Raises:
            ZooError: a model is not what was written.
        """
        chosen: dict[Donor, list[int]] = {}
        for source in filter(None, (self.sources[model] for model in models)):
            chosen.setdefault(source[0], []).append(source[1])
        for donor, of_donor in chosen.items():
            donor.check(of_donor)

    def _arrays(self, models: np.ndarray) -> Arrays:
        """Return the arrays of models that are copied, name -> float32 (model, checkpoint, ...)."""
        parts: list[tuple[np.ndarray, Arrays]] = []
        for source in (self.sources[model] for model in models.tolist()):
            assert source is not None  # the caller asks for models that are not missing
            donor, model = source
            positions = np.searchsorted(donor.manifest.checkpoint_epochs, self.manifest.checkpoint_epochs)
            with _naming(donor.store, model):
                arrays = {name: values[None, positions] for name, values in donor.trajectory(model).items()}
            parts.append((np.array([len(parts)]), with_buffers(arrays, self.manifest)))
        return gathered(parts)


@contextmanager
def _naming(store: Store, model: int) -> Iterator[None]:
    """Say which model of which zoo it is whose arrays cannot be read."""
    try:
        yield
    except (ZooError, ValueError, KeyError, RuntimeError, OSError) as error:
        raise ZooError(f"{store.folder}: model {model} cannot be copied ({error}); repair that zoo first") from None


def find_copies(
    folders: Sequence[Folder], manifest: ZooManifest, attributes: Mapping[str, Any] | None = None
) -> Copies:
    """Look for the models of a manifest in other zoos.

    Args:
        folders: of the zoos.
        manifest: of the new zoo.
        attributes: what the new zoo says of itself: device, versions, the digest of its images, forms of convolutions;
            None where that is not known yet, as in a plan.

    Raises:
        ZooError: a folder holds no zoo that was trained here, or nothing in it could be used; the line names the first
            keys that differ.
    """
    donors = [_donor(folder, manifest, attributes) for folder in folders]
    rows = manifest.rows(slice(0, manifest.n_models))
    keys, endless = keys_of(rows), [schedule in _WITHOUT_END for schedule in rows["schedule"].to_pylist()]
    sources: list[tuple[Donor, int] | None] = [None] * manifest.n_models
    for donor in donors:
        if not set(manifest.checkpoint_epochs) <= set(donor.manifest.checkpoint_epochs):
            continue
        longer = donor.manifest.training.epochs - manifest.training.epochs
        for model, key in enumerate(keys):
            # Most schedules count on the last epoch. With the others, longer trainings begin as shorter ones.
            if sources[model] is None and (longer == 0 or (longer > 0 and endless[model])):
                position = donor.positions.get(key)
                sources[model] = None if position is None else (donor, position)
    return Copies(tuple(sources), manifest)


def binding_differences(old: ZooManifest, new: ZooManifest) -> list[Difference]:
    """Return the differences of two manifests that change every model, so that none can be copied."""
    return [
        difference
        for difference in differences(old, new)
        if not {difference.key, difference.key.partition(".")[0]} & set(_OF_THE_ZOO)
        and difference.key not in _OF_A_MODEL
        and not (difference.key.startswith(_OF_SOME_MODELS) and None in (difference.first, difference.second))
    ]


def _donor(folder: Folder, manifest: ZooManifest, attributes: Mapping[str, Any] | None) -> Donor:
    """Open a zoo to copy from.

    Raises:
        ZooError: it was not trained here, or its models have other bytes than the same ones trained now.
    """
    store = Store.open(folder)
    old = store.manifest.generated
    if old is None:
        raise ZooError(f"{folder}: was converted, not trained here; expected a zoo of zoo-gen run to copy models from")
    binding = binding_differences(old, manifest)
    if attributes is not None:
        first, second = ({**a, **a["versions"]} for a in (store.attributes, attributes))
        binding += [
            Difference(key, first.get(key), second.get(key))
            for key in ("device", "data_sha256", "forms", "torch", "numpy")
            if (first.get(key) or None) != (second.get(key) or None)
        ]
    if binding:
        raise ZooError(f"{folder}: none of its models can be copied, since every one would differ: {listed(binding)}")
    return Donor(store, old)
