"""Reading the arrays of a zoo by models and checkpoints, checked to have been written, and what their models are.

Each shard is read as one slab and chosen from in memory, which is several times faster than a choice of chunks.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import zarr

from zoo_gen.architecture.layers import Activate
from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.architecture.network import Network
from zoo_gen.errors import ZooError
from zoo_gen.files.remote import Remote
from zoo_gen.store import Store
from zoo_gen.store.shards import remedy
from zoo_gen.store.side_files import Architecture, read_architectures
from zoo_gen.zoo import ragged
from zoo_gen.zoo.table import ModelTable


class Arrays:
    """The arrays of a zoo.

    Args:
        store: the zoo.
        table: its table of models, which says whose arrays must be there.
    """

    def __init__(self, store: Store, table: ModelTable) -> None:
        self._store, self._table = store, table

    def read(self, name: str, models: np.ndarray, checkpoints: np.ndarray) -> np.ndarray:
        """Return values (model, checkpoint, ...) of some models and checkpoint positions, in the order given.

        Raises:
            ZooError: a model is not there, or the array is damaged.
        """
        array = self._store.array(name)
        values = np.empty((len(models), len(checkpoints), *array.shape[2:]), dtype=np.float32)
        shards = models // self._store.extent.models_per_shard
        for shard in np.unique(shards):
            (positions,) = np.nonzero(shards == shard)
            rows = models[positions]
            slab_rows, slab_columns = self._slab(
                int(shard), slice(int(rows.min()), int(rows.max()) + 1), checkpoints=checkpoints
            )
            slab = self._read_slab(array, int(shard), slab_rows, slab_columns)
            values[positions] = slab[(rows - slab_rows.start)[:, None], (checkpoints - slab_columns.start)[None, :]]
        return values

    def read_chunks(self, name: str, models: np.ndarray, checkpoints: np.ndarray) -> np.ndarray:
        """Return values (model, checkpoint, ...) of few models, whose chunks alone are read; both in rising order.

        Raises:
            ZooError: the array is damaged.
        """
        array = self._store.array(name)
        try:
            return np.asarray(array.oindex[models, checkpoints])
        except (ValueError, RuntimeError, OSError) as error:
            raise ZooError(f"{self._store.folder}/weights.zarr/{name}: is damaged ({error})") from None

    def weights(self, models: pa.Table, checkpoints: np.ndarray) -> np.ndarray:
        """Return the weights (model, checkpoint, parameter) of models of one architecture.

        Args:
            models: their rows in the table of models.
            checkpoints: int (checkpoint,), positions among the zoo's checkpoints.

        Raises:
            ZooError: the models differ in architecture, or the array is damaged.
        """
        if self.layout is not None:
            return self.read("weights", models["model_id"].to_numpy(), checkpoints)
        return ragged.read_blocks(
            self._store.array("weights"),
            models,
            checkpoints,
            size=self.layout_of(models).size,
            per_shard=self._store.extent.models_per_shard,
            where=f"{self._store.folder}/weights.zarr/weights",
        )

    @cached_property
    def layout(self) -> ParameterLayout | None:
        """Where each parameter lies in the weights; None where models differ in architecture."""
        store = self._store
        return None if store.manifest.ragged else ParameterLayout.from_json(store.attributes["layout"])

    @cached_property
    def architectures(self) -> dict[str, Architecture]:
        """The architectures of a mixed or converted zoo by their id; of an ordinary one none."""
        manifest = self._store.manifest
        if manifest.generated is None:
            return read_architectures(self._store.folder)
        networks = manifest.networks if manifest.ragged else {}
        return {name: Architecture(name, network.layout, network) for name, network in networks.items()}

    def layout_of(self, models: pa.Table) -> ParameterLayout:
        """Return the layout of the models in some rows of the table.

        Raises:
            ZooError: they differ in architecture.
        """
        if self.layout is not None:
            return self.layout
        ids = models["architecture"].unique().to_pylist()
        if len(ids) != 1:
            raise ZooError(
                f"{self._store.folder}: these models have {len(ids)} architectures; expected a view of models of one, "
                "as the column architecture names it"
            )
        return self.architectures[ids[0]].layout

    def architecture_of(self, row: Mapping[str, Any]) -> Network | None:
        """Return the network of the model that one row of the table is of; None where its layers are not known."""
        network = self._store.manifest.network
        if network is None:
            network = self.architectures[row.get("architecture", next(iter(self.architectures), ""))].network
        return network

    def network_of(self, row: Mapping[str, Any]) -> Network:
        """Return the network of the model that one row of the table is of.

        Raises:
            ZooError: the forward pass is not known, or it needs an activation that the archive does not name.
        """
        network = self.architecture_of(row)
        where = self._store.folder
        if network is None:
            raise ZooError(f"{where}: how its models compute is not known; state_dict gives their parameters")
        open_ended = any(isinstance(layer, Activate) and layer.function is None for layer in network.layers)
        if row.get("activation") is None and open_ended:
            raise ZooError(f"{where}: the archive names no activation of this model; state_dict gives its parameters")
        return network

    def _slab(self, shard: int, models: slice, *, checkpoints: np.ndarray) -> tuple[slice, slice]:
        """Return the models and checkpoints that are read for those models of a shard."""
        # At a URL a whole shard is one request, and a part of it one a chunk, each waiting for the last.
        if isinstance(self._store.folder, Remote) and models.stop - models.start > self._store.extent.count(shard) // 8:
            return self._store.extent.models(shard), slice(0, self._store.extent.n_checkpoints)
        first, last = (checkpoints.min(), checkpoints.max()) if len(checkpoints) else (0, -1)
        return models, slice(int(first), int(last) + 1)

    def _read_slab(self, array: zarr.Array, shard: int, models: slice, checkpoints: slice) -> np.ndarray:
        where = f"{self._store.folder}/weights.zarr/{array.basename}/c/{shard}"
        try:
            slab = np.asarray(array[models, checkpoints])
        except (ValueError, RuntimeError, OSError) as error:
            raise ZooError(f"{where}: is damaged ({error}); {remedy(shard)}") from None
        # What is not there reads as NaN, which only a diverged model may have.
        status = self._table.rows(models)["status"].to_numpy(zero_copy_only=False)
        if (np.isnan(slab).reshape(len(slab), -1).all(axis=1) & (status == "complete")).any():
            raise ZooError(f"{where}: is missing or empty; {remedy(shard)}")
        return slab
