"""Where the weights of each model lie in a store whose models differ in architecture.

A shard is one row of the array of weights: the blocks (checkpoint, parameter) of its models, one after the other.
"""

import numpy as np
import pyarrow as pa

POSITIONS = pa.list_(pa.field("element", pa.int32()))  # as Parquet names it, so that it reads back as it was


def in_shards(counts: np.ndarray, models_per_shard: int) -> list[np.ndarray]:
    """Return what each model has, int64 (model,), a row a shard."""
    return [counts[start : start + models_per_shard] for start in range(0, len(counts), models_per_shard)]


def row_elements(counts: np.ndarray, models_per_shard: int) -> int:
    """Return how many numbers the largest shard has, of those that each model has, int64 (model,)."""
    return int(max(shard.sum() for shard in in_shards(counts, models_per_shard)))


def with_places(rows: pa.Table, *, sizes: np.ndarray, n_checkpoints: int) -> pa.Table:
    """Return the rows of a shard's models with the columns that say where their weights lie.

    Args:
        rows: of models that keep every checkpoint.
        sizes: the parameters of each, int64 (model,).
        n_checkpoints: that each keeps.
    """
    counts = sizes * n_checkpoints
    every = np.arange(n_checkpoints)
    columns = {
        "checkpoints": pa.array([every] * len(rows), POSITIONS),
        "n_parameters": pa.array(sizes),
        "weights_start": pa.array(np.cumsum(counts) - counts),
    }
    for name, values in columns.items():
        rows = rows.append_column(name, values)
    return rows
