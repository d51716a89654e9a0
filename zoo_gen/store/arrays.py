"""The Zarr arrays of a zoo: how they are chunked, making them empty, and writing one shard of one.

Whoever reads through zarrs, whose compressor may give other bytes, still writes through zarr's own codec pipeline.
"""

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import LocalStore

from zoo_gen.architecture.network import BUFFERS
from zoo_gen.files import location
from zoo_gen.files.location import Folder
from zoo_gen.files.zarr_store import zarr_store
from zoo_gen.store.extent import Extent

_CHUNK_BYTES = 256 * 2**10  # of a model's trajectory: what is read, also over a network, for one of its checkpoints
_RAGGED_CHUNK, _RAGGED_SHARD = 2**16, 2**24  # elements


class _OwnPipeline:
    """A context in which arrays are written by zarr's own pipeline, which zarr asks for again at each write of a shard.

    Zarr's configuration is the process's: it is changed by the first thread that writes and restored by the last.
    """

    def __init__(self) -> None:
        self._lock, self._writers, self._configured = threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._writers == 0:
                self._configured.enter_context(zarr.config.set({"codec_pipeline.path": _PIPELINE}))
            self._writers += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._writers -= 1
            if self._writers == 0:
                self._configured.close()


_PIPELINE = "zarr.core.codec_pipeline.BatchedCodecPipeline"
_own_pipeline = _OwnPipeline()


def make_arrays(
    folder: Path, extent: Extent, attributes: Mapping[str, Any], *, permutation: np.ndarray | None = None
) -> None:
    """Make the empty arrays of a zoo.

    Args:
        folder: the zoo.
        extent: how large it is.
        attributes: what the store says of itself, with the epochs of its checkpoints, which become an array too.
        permutation: of a converted zoo of one architecture, int (parameter,): stored weights = published ones[index].
    """
    with _own_pipeline:
        group = zarr.create_group(folder / "weights.zarr", zarr_format=3, attributes=dict(attributes))
        for name, shape in extent.arrays().items():
            chunk, shard = chunking(name, shape, extent)
            group.create_array(
                name,
                shape=shape,
                dtype="float32",
                chunks=chunk,
                shards=shard,
                compressors=[
                    BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=4),
                    Crc32cCodec(),
                ],
                fill_value=float("nan"),
                dimension_names=_dimensions(name, shape, extent),
            )
        epochs = np.array(attributes["checkpoint_epochs"], dtype=np.int32)
        group.create_array("epoch", data=epochs, dimension_names=("checkpoint",))
        if permutation is not None:
            index = permutation.astype(np.int32)
            group.create_array("permutation", data=index, chunks=index.shape, dimension_names=("parameter",))


def _dimensions(name: str, shape: tuple[int, ...], extent: Extent) -> tuple[str, ...]:
    if name == "weights" and extent.row_elements is not None:
        return ("shard", "element")
    last = {"weights": "parameter", BUFFERS: "buffer"}.get(name, "class")
    return ("model", "checkpoint", last)[: len(shape)]


def chunking(name: str, shape: tuple[int, ...], extent: Extent) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Return the chunk and the Zarr shard of an array.

    A model's trajectory is read alone and is cut into equal chunks of its own; metrics are small and read together. The
    weights of models that differ in architecture lie one after the other, in chunks of 256 kB.
    """
    models = extent.models_per_shard
    if name != "weights":
        return (models, *shape[1:]), None
    if extent.row_elements is not None:
        chunk = min(_RAGGED_CHUNK, extent.row_elements)
        return (1, chunk), (1, min(-(-extent.row_elements // chunk) * chunk, _RAGGED_SHARD // chunk * chunk))
    _, n_checkpoints, n_parameters = shape
    chunks = -(-n_checkpoints // max(1, _CHUNK_BYTES // (4 * n_parameters)))
    checkpoints = -(-n_checkpoints // chunks)
    chunks = -(-n_checkpoints // checkpoints)  # equal ones may be fewer
    return (1, checkpoints, n_parameters), (models, chunks * checkpoints, n_parameters)


def write(path: Folder, shard: int, selection: Any, values: np.ndarray) -> None:
    """Write what one shard has of the array at `path`."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    with _own_pipeline:
        array = zarr.open_array(zarr_store(path, read_only=False), mode="r+", zarr_format=3)
        try:
            array[selection] = values
        except (ValueError, RuntimeError):
            # A shard that the array's end cuts off is read before it is written, and what was there may be damaged.
            location.remove(path / "c" / str(shard))
            array[selection] = values


def open_group(folder: Folder, wrapped: Callable[[Any], Any] = lambda store: store) -> zarr.Group:
    """Open the arrays of a zoo for reading.

    Args:
        folder: the zoo.
        wrapped: what zarr's own pipeline reads files through. Others, as zarrs', read them in ways of their own.
    """
    store = zarr_store(folder / "weights.zarr")
    if zarr.config.get("codec_pipeline.path") == _PIPELINE:
        store = wrapped(LocalStore(store, read_only=True) if isinstance(store, Path) else store)
    return zarr.open_group(store, mode="r", zarr_format=3, use_consolidated=False)
