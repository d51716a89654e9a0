"""The weights of a zoo whose models differ in architecture: one array, a row a shard, models one after the other.

A model's block is its kept checkpoints by its parameters. Where it begins (`weights_start`) and what it holds
(`checkpoints`, `n_parameters`) stand in the table of models, so any Zarr reader finds it without our code.
"""

from typing import TYPE_CHECKING

import numpy as np

from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.errors import ZooError

if TYPE_CHECKING:
    from zoo_gen.zoo import Zoo
    from zoo_gen.zoo.zoo_view import ZooView


def layout_of(zoo: "Zoo", rows: np.ndarray) -> ParameterLayout:
    """Return the layout that the models in some rows of the table share.

    Raises:
        ZooError: they differ in architecture.
    """
    ids = zoo.models["architecture"].take(rows).unique().to_pylist()
    if len(ids) != 1:
        raise ZooError(
            f"{zoo.path}: these models have {len(ids)} architectures; expected a view of models of one, as the column "
            "architecture names it"
        )
    return zoo.architectures[ids[0]].layout


def read_weights(view: "ZooView") -> np.ndarray:
    """Return the weights (model, checkpoint, parameter) of models of one architecture, NaN where one has no such state.

    Raises:
        ZooError: they differ in architecture, or the array is damaged.
    """
    zoo, models, rows, checkpoints = view.zoo, view.models, view.rows, view.checkpoints
    size = layout_of(zoo, rows).size
    found = np.full((len(models), len(checkpoints), size), np.nan, dtype=np.float32)
    array = zoo.array("weights")
    for place, (model, row) in enumerate(zip(models.tolist(), rows.tolist(), strict=True)):
        kept = np.array(zoo.models["checkpoints"][row].as_py(), dtype=np.int64)
        start = zoo.models["weights_start"][row].as_py()
        wanted = np.flatnonzero(np.isin(checkpoints, kept))
        if not len(wanted):
            continue
        positions = np.searchsorted(kept, checkpoints[wanted])
        first, last = int(positions.min()), int(positions.max()) + 1
        shard = model // zoo.extent.models_per_shard
        try:
            flat = np.asarray(array[shard, start + first * size : start + last * size])
        except (ValueError, RuntimeError, OSError) as error:
            raise ZooError(f"{zoo.path}/weights.zarr/weights/c/{shard}: is damaged ({error})") from None
        block = flat.reshape(last - first, size)[positions - first]
        if np.isnan(block).all() and zoo.models["status"][row].as_py() != "diverged":
            raise ZooError(f"{zoo.path}/weights.zarr/weights/c/{shard}: is missing or empty")
        found[place, wanted] = block
    return found
