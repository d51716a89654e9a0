"""The lost chunks of a complete shard, looked for one by one where its Parquet part and its arrays do not agree."""

from collections.abc import Iterator
from itertools import product

import pyarrow as pa

from zoo_gen.store import Store
from zoo_gen.store.lost_chunks import had_values


def lost_chunks(store: Store, shard: int, part: pa.Table) -> Iterator[str]:
    """Yield the paths of a shard's lost chunks, from the zoo's folder; `part` has a row for each of its models."""
    for name in store.extent.arrays():
        array = store.array(name)
        sides = array.shards or array.chunks
        counts = [-(-size // side) for size, side in zip(array.shape[1:], sides[1:], strict=True)]
        for rest in product(*map(range, counts)):
            path = "/".join(map(str, ("weights.zarr", name, "c", shard, *rest)))
            if not (store.folder / path).exists() and had_values(store.extent, name, (shard, *rest), part):
                yield path
