"""Which chunks of a shard are lost: files of arrays that are not there, where its Parquet part says that values were.

Zarr reads a chunk that is not there as NaN, and does not write one that holds NaN alone. So it is the part that tells
whether a file is lost, and only where it does not agree with the arrays.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pyarrow as pa

from zoo_gen.architecture.network import BUFFERS
from zoo_gen.store import Store


def lost_chunks(store: Store, shard: int, part: pa.Table) -> Iterator[str]:
    """Yield the paths of a shard's lost chunks, from the zoo's folder; `part` has a row for each of its models.

    The part has no column for arrays with several numbers a checkpoint; of them a chunk counts as lost where a model of
    the shard has weights. The buffers of mixed zoos never do: most architectures may have none.
    """
    for name in store.extent.arrays():
        array = store.array(name)
        sides = array.shards or array.chunks
        counts = [-(-size // side) for size, side in zip(array.shape[1:], sides[1:], strict=True)]
        for index in product(*map(range, counts)):
            path = "/".join(map(str, ("weights.zarr", name, "c", shard, *index)))
            if (store.folder / path).exists():
                continue
            if store.manifest.ragged and name == "weights":
                had_values = _overlaps(part, slice(index[0] * sides[1], (index[0] + 1) * sides[1]))
            elif name in part.column_names:
                had_values = not np.isnan(part[name].to_numpy()).all()
            else:
                had_values = not (store.manifest.ragged and name == BUFFERS) and any(_has_weights(part))
            if had_values:
                yield path


def _has_weights(part: pa.Table) -> list[bool]:
    """Return of each model whether it has finite weights at its last checkpoint."""
    is_finite = [status != "diverged" for status in part["status"].to_pylist()]
    if "checkpoints" not in part.column_names:
        return is_finite
    return [finite and bool(held) for finite, held in zip(is_finite, part["checkpoints"].to_pylist(), strict=True)]


def _overlaps(part: pa.Table, elements: slice) -> bool:
    """Return whether a model that has weights has some of them among these elements of the shard's row."""
    columns = [part[name].to_pylist() for name in ("weights_start", "checkpoints", "n_parameters")]
    return any(
        has_weights and start < elements.stop and elements.start < start + len(held) * width
        for has_weights, start, held, width in zip(_has_weights(part), *columns, strict=True)
    )
