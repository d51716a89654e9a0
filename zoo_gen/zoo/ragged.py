"""The weights of a zoo whose models differ in architecture: one array, a row a shard, models one after the other.

A model's block is its kept checkpoints by its parameters. Where it begins (`weights_start`) and what it holds
(`checkpoints`, `n_parameters`) stand in the table of models, so any Zarr reader finds it without our code.
"""

import numpy as np
import pyarrow as pa
import zarr

from zoo_gen.errors import ZooError


def read_blocks(
    array: zarr.Array, rows: pa.Table, checkpoints: np.ndarray, *, size: int, per_shard: int, where: str
) -> np.ndarray:
    """Return weights (model, checkpoint, parameter) of models of one architecture, NaN where one has no such state.

    Args:
        array: the array of weights (shard, element).
        rows: the rows of the models in the table of models.
        checkpoints: int (checkpoint,), positions among the zoo's checkpoints.
        size: the parameters of a model.
        per_shard: the models of a shard.
        where: the array's folder, for errors.

    Raises:
        ZooError: the array is damaged.
    """
    weights = np.full((len(rows), len(checkpoints), size), np.nan, dtype=np.float32)
    facts = rows.select(["model_id", "checkpoints", "weights_start", "status"]).to_pylist()
    for position, row in enumerate(facts):
        present, start = np.array(row["checkpoints"], dtype=np.int64), row["weights_start"]
        filled = np.flatnonzero(np.isin(checkpoints, present))
        if not len(filled):
            continue
        offsets = np.searchsorted(present, checkpoints[filled])
        first, last = int(offsets.min()), int(offsets.max()) + 1
        shard = row["model_id"] // per_shard
        try:
            flat = np.asarray(array[shard, start + first * size : start + last * size])
        except (ValueError, RuntimeError, OSError) as error:
            raise ZooError(f"{where}/c/{shard}: is damaged ({error})") from None
        block = flat.reshape(last - first, size)[offsets - first]
        if np.isnan(block).all() and row["status"] != "diverged":
            raise ZooError(f"{where}/c/{shard}: is missing or empty")
        weights[position, filled] = block
    return weights
