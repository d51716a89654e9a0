"""ZooView: some models and checkpoints of a zoo, read shard by shard on first use."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.errors import ZooError, unknown_name
from zoo_gen.files.location import Remote
from zoo_gen.zoo import ragged

if TYPE_CHECKING:
    from zoo_gen.zoo import Zoo


@dataclass(frozen=True)
class ZooView:
    """Some models and checkpoints of a zoo. Arrays are read on first use and keep the order of `models`."""

    zoo: "Zoo"
    models: np.ndarray  # int64 (model,) model_ids
    rows: np.ndarray  # int64 (model,) their rows in the table
    checkpoints: np.ndarray  # int64 (checkpoint,) positions among the zoo's checkpoints

    @property
    def epochs(self) -> np.ndarray:
        """The epoch of each checkpoint, int32 (checkpoint,)."""
        return self.zoo.epochs[self.checkpoints]

    @property
    def layout(self) -> ParameterLayout:
        """Where each parameter lies in the weights.

        Raises:
            ZooError: the models differ in architecture.
        """
        return ragged.layout_of(self.zoo, self.rows) if self.zoo.manifest.ragged else self.zoo.layout

    @cached_property
    def weights(self) -> np.ndarray:
        """The weights, float32 (model, checkpoint, parameter); NaN where a published model has no such checkpoint.

        Raises:
            ZooError: the models differ in architecture.
        """
        if self.zoo.manifest.ragged:
            found = ragged.read_weights(self)
            found.flags.writeable = False
            return found
        return self._read("weights")

    def metric(self, name: str) -> np.ndarray:
        """Return a metric, float32 (model, checkpoint), or (model, checkpoint, class) for test_class_f1.

        `generalization_gap` is train_accuracy - test_accuracy.

        Raises:
            ZooError: the zoo has no metric of that name.
        """
        if name == "generalization_gap":
            return self.metric("train_accuracy") - self.metric("test_accuracy")
        self.zoo.metric(name)
        return self._read(name)

    def hyperparameter(self, name: str) -> np.ndarray:
        """Return a hyper-parameter of each model (model,).

        Raises:
            ZooError: the table has no such column.
        """
        if name not in self.zoo.models.column_names:
            raise ZooError(unknown_name("column", name, self.zoo.models.column_names))
        return self.zoo.models[name].to_numpy(zero_copy_only=False)[self.rows]

    def _read(self, name: str) -> np.ndarray:
        """Read shard by shard: a slab and a choice in memory are several times faster than a choice of chunks."""
        shape = self.zoo.array(name).shape
        found = np.empty((len(self.models), len(self.checkpoints), *shape[2:]), dtype=np.float32)
        shards = self.models // self.zoo.attributes["models_per_shard"]
        for shard in np.unique(shards):
            (places,) = np.nonzero(shards == shard)
            wanted = self.models[places]
            rows, columns = self._slab(int(shard), slice(int(wanted.min()), int(wanted.max()) + 1))
            slab = self.zoo._read(name, rows, columns)
            found[places] = slab[(wanted - rows.start)[:, None], (self.checkpoints - columns.start)[None, :]]
        found.flags.writeable = False  # views are shared: one encoder that works in place would spoil the next one's
        return found

    def _slab(self, shard: int, models: slice) -> tuple[slice, slice]:
        """Return the models and checkpoints that are read for those models of a shard."""
        whole = self.zoo.extent.models(shard)
        # At a URL a whole shard is one request, and a part of it one a chunk, each waiting for the last.
        if isinstance(self.zoo.path, Remote) and models.stop - models.start > (whole.stop - whole.start) // 8:
            return whole, slice(0, len(self.zoo.epochs))
        first, last = (self.checkpoints.min(), self.checkpoints.max()) if len(self.checkpoints) else (0, -1)
        return models, slice(int(first), int(last) + 1)
