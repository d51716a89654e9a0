"""Lost chunks: files of arrays that are not there, where the Parquet part of their shard says that values were.

Zarr reads a chunk that is not there as NaN, and does not write one that holds NaN alone. So it is the part that tells
whether a file is lost. A reader asks it only about a file that it met and that is not there: what is there costs
nothing, however many files there are.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import zarr.abc.store
from zarr.storage import WrapperStore

from zoo_gen.architecture.network import BUFFERS
from zoo_gen.store.arrays import chunking
from zoo_gen.store.extent import Extent


class WithoutLostChunks(WrapperStore[zarr.abc.store.Store]):
    """Files for zarr to read, one of which that is lost is an error.

    Args:
        store: the files.
        check: called with the path of a chunk that is not there; raises where it is lost.
    """

    def __init__(self, store: zarr.abc.store.Store, check: Callable[[str], None]) -> None:
        super().__init__(store)
        self._check = check

    def _with_store(self, store: zarr.abc.store.Store) -> "WithoutLostChunks":
        return WithoutLostChunks(store, self._check)

    def __str__(self) -> str:
        return str(self._store)

    async def get(self, key: str, *arguments: Any, **options: Any) -> Any:
        """Return what the files do."""
        content = await self._store.get(key, *arguments, **options)
        if content is None and "/c/" in key:
            await asyncio.to_thread(self._check, key)
        return content


def had_values(extent: Extent, name: str, index: tuple[int, ...], part: pa.Table) -> bool:
    """Return whether a chunk was written.

    The part has no column for arrays with several numbers a checkpoint; of them a chunk counts as written where a model
    of the shard has weights. The buffers of mixed zoos never do: most architectures may have none.

    Args:
        extent: of the zoo.
        name: of the array.
        index: of the chunk (a shard, as Zarr calls it), which begins with the number of the zoo's shard.
        part: a row for each of the models of the zoo's shard.
    """
    is_ragged = extent.row_elements is not None
    if is_ragged and name == "weights":
        chunk, shard = chunking(name, extent.arrays()[name], extent)
        side = (shard or chunk)[1]
        return _overlaps(part, slice(index[1] * side, (index[1] + 1) * side))
    if name in part.column_names:
        return not np.isnan(part[name].to_numpy()).all()
    return not (is_ragged and name == BUFFERS) and any(_has_weights(part))


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
