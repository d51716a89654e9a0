"""Batches of networks of any architectures as rectangular sets: buckets of chunks, of tensors, of layers, of networks.

Sets of like size from all networks of a batch stand in one bucket and are encoded at once. Sizes that make up much of
a zoo keep a bucket of their own, without padding and so without a mask; only the rest is padded. All index arrays of
a combination of layouts are made once and kept on the device.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from zoo_bench.encoders.sne.chunks import CODES, Kind, Tensor, cut
from zoo_bench.encoders.sne.settings import Settings
from zoo_gen.architecture.layout import ParameterLayout

POPULAR = 1 / 16  # a size that holds this share of all elements keeps a bucket of its own
KEPT_PLANS = 16
# On a CPU so many elements are encoded at once: what is computed of more leaves the cache.
ELEMENTS_AT_ONCE = 2**13


class ChunkBucket(NamedTuple):
    """Chunks of one kind, padded to one length."""

    kind: Kind
    positions: torch.Tensor  # int64 (chunk, element, feature) in the network's flat vector
    padding: torch.Tensor | None  # bool (chunk, element, feature), true where there is a number; None: everywhere
    mask: torch.Tensor | None  # bool (chunk, 1, 1, element)
    codes: torch.Tensor | None  # int64 (chunk, element), rows of `combinations`; None where no element has a code
    combinations: torch.Tensor  # int64 (combination, CODES), -1 where a code is absent
    types: torch.Tensor  # int64 (chunk,)
    levels: torch.Tensor  # float32 (chunk,)
    networks: torch.Tensor  # int64 (chunk,) within the batch


class SetBucket(NamedTuple):
    """Sets of vectors, padded to one length; the vectors are rows of what the step before returned."""

    members: torch.Tensor  # int64 (set, element)
    mask: torch.Tensor | None  # bool (set, 1, 1, element)
    levels: torch.Tensor  # float32 (set, element), of the members


class Plan(NamedTuple):
    """Everything about a batch but its weights. Each step reads the rows that the one before it returned."""

    chunks: tuple[ChunkBucket, ...]
    tensors: tuple[SetBucket, ...]  # sets of chunks; none without hierarchy
    layers: tuple[SetBucket, ...]  # sets of tensors; none without hierarchy
    networks: tuple[SetBucket, ...]  # sets of layers
    order: torch.Tensor  # int64 (network,), the row of each network of the batch among the rows of the last step


class Planner:
    """Makes the plans of batches over a fixed list of layouts."""

    def __init__(
        self,
        layouts: Sequence[ParameterLayout],
        settings: Settings,
        *,
        chunk: int | str,
        kernel: int,
        device: torch.device,
    ) -> None:
        self._settings, self._device = settings, device
        self._plans: OrderedDict[bytes, Plan] = OrderedDict()
        layers = [cut(layout, settings, chunk=chunk, kernel=kernel) for layout in layouts]
        tensors = [[tensor for layer in of_layout for tensor in layer] for of_layout in layers]
        self._chunks_of_tensors = Ragged([[tensor.n_chunks for tensor in of_layout] for of_layout in tensors])
        self._levels_of_tensors = Ragged([[tensor.level for tensor in of_layout] for of_layout in tensors])
        self._tensors_of_layers = Ragged([[len(layer) for layer in of_layout] for of_layout in layers])
        self._levels_of_layers = Ragged([[layer[0].level for layer in of_layout] for of_layout in layers])
        self._make_tables(tensors)

    def _make_tables(self, tensors: list[list[Tensor]]) -> None:
        """Put the chunks of all layouts into one table a bucket; note where each chunk of each layout stands."""
        blocks = [
            (layout, tensor, block)
            for layout, of_layout in enumerate(tensors)
            for tensor in of_layout
            for block in tensor.blocks
        ]
        lengths = {}
        for kind in sorted({block.kind for _, _, block in blocks}):
            sizes = [block.positions.shape[:2] for _, _, block in blocks if block.kind == kind]
            counts = np.repeat([size for _, size in sizes], [n for n, _ in sizes])
            lengths.update({(kind, size): length for size, length in padded_lengths(counts).items()})
        keys = sorted({(kind, length) for (kind, _), length in lengths.items()})
        bucket_of: list[list[tuple[int, int]]] = [[] for _ in tensors]  # of each chunk: its bucket and row there
        parts: list[list[tuple[np.ndarray, ...]]] = [[] for _ in keys]
        filled = [0] * len(keys)
        for layout, tensor, block in blocks:
            n_chunks, size = block.positions.shape[:2]
            length = lengths[block.kind, size]
            bucket = keys.index((block.kind, length))
            pad = ((0, 0), (0, length - size), (0, 0))
            positions = np.pad(block.positions, pad, constant_values=-1)
            codes = np.pad(block.codes, pad, constant_values=-1)
            mask = np.zeros((n_chunks, length), dtype=bool)
            mask[:, :size] = True
            types_and_levels = np.tile([tensor.type, tensor.level], (n_chunks, 1))
            parts[bucket].append((positions, codes, mask, types_and_levels))
            bucket_of[layout] += [(bucket, filled[bucket] + row) for row in range(n_chunks)]
            filled[bucket] += n_chunks
        self._chunks_of_layouts = Ragged(bucket_of)
        self._kinds = [kind for kind, _ in keys]
        self._tables: list[list[np.ndarray]] = [
            [np.concatenate(column) for column in zip(*of_bucket, strict=True)] for of_bucket in parts
        ]
        codes_of = [table[1] for table in self._tables]
        combinations, numbers = np.unique(
            np.concatenate([codes.reshape(-1, CODES) for codes in codes_of]), axis=0, return_inverse=True
        )
        self._combinations = self._put(combinations)
        self._has_codes = bool((combinations >= 0).any())
        ends = np.cumsum([codes.shape[0] * codes.shape[1] for codes in codes_of])
        for table, codes, part in zip(self._tables, codes_of, np.split(numbers.reshape(-1), ends[:-1]), strict=True):
            table[1] = part.reshape(codes.shape[:2])

    def plan(self, layouts: np.ndarray) -> Plan:
        """Return the plan of a batch, given the number of each network's layout, int64 (network,)."""
        key = layouts.tobytes()
        if key not in self._plans:
            self._plans[key] = self._make(layouts)
            if len(self._plans) > KEPT_PLANS:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return self._plans[key]

    def _make(self, layouts: np.ndarray) -> Plan:
        chunks, networks = self._chunks_of_layouts.take(layouts)
        buckets, order = [], []
        for bucket in range(len(self._tables)):
            (selected,) = np.nonzero(chunks[:, 0] == bucket)
            for part in self._parts(selected, length=self._tables[bucket][0].shape[1]):
                buckets.append(self._chunk_bucket(bucket, chunks[part, 1], networks[part]))
                order.append(part)
        rows = _inverse(np.concatenate(order))  # of each chunk, in the order of networks
        sizes, owners = self._chunks_of_tensors.take(layouts)
        levels, _ = self._levels_of_tensors.take(layouts)
        tensors: tuple[SetBucket, ...] = ()
        layers: tuple[SetBucket, ...] = ()
        if self._settings.hierarchy:
            tensors, rows = self._sets(sizes, rows, np.repeat(levels, sizes))
            tensors_of_layers, owners = self._tensors_of_layers.take(layouts)
            layers, rows = self._sets(tensors_of_layers, rows, levels)
            levels, _ = self._levels_of_layers.take(layouts)
            sizes = np.bincount(owners, minlength=len(layouts))  # layers of each network
        else:
            levels = np.repeat(levels, sizes)
            sizes = np.bincount(owners, weights=sizes, minlength=len(layouts)).astype(np.int64)
        whole, rows = self._sets(sizes, rows, levels)
        return Plan(tuple(buckets), tensors, layers, whole, self._put(rows))

    def _parts(self, selected: np.ndarray, *, length: int) -> list[np.ndarray]:
        """Cut chunks of one length into what is encoded at once; nothing is left of none."""
        at_once = max(1, len(selected))
        if self._device.type == "cpu":
            at_once = max(1, ELEMENTS_AT_ONCE // length)
        return [selected[start : start + at_once] for start in range(0, len(selected), at_once)]

    def _chunk_bucket(self, bucket: int, rows: np.ndarray, networks: np.ndarray) -> ChunkBucket:
        positions, codes, mask, types_and_levels = (column[rows] for column in self._tables[bucket])
        is_number = positions >= 0
        return ChunkBucket(
            kind=self._kinds[bucket],
            positions=self._put(np.maximum(positions, 0)),
            padding=None if is_number.all() else self._put(is_number),
            mask=None if mask.all() else self._put(mask[:, None, None, :]),
            codes=self._put(codes) if self._has_codes else None,
            combinations=self._combinations,
            types=self._put(types_and_levels[:, 0].astype(np.int64)),
            levels=self._put(types_and_levels[:, 1].astype(np.float32)),
            networks=self._put(networks),
        )

    def _sets(
        self, sizes: np.ndarray, rows: np.ndarray, levels: np.ndarray
    ) -> tuple[tuple[SetBucket, ...], np.ndarray]:
        """Bucket sets of consecutive vectors.

        Args:
            sizes: of the sets, int64 (set,).
            rows: where each vector stands in what the step before returned (vector,).
            levels: of the vectors (vector,).

        Returns:
            The buckets, and the row of each set in what this step returns (set,).
        """
        starts = np.cumsum(sizes) - sizes
        length_of = padded_lengths(sizes)
        lengths = np.array([length_of[size] for size in sizes.tolist()])
        buckets, order = [], []
        for length in np.unique(lengths):
            (selected,) = np.nonzero(lengths == length)
            mask = np.arange(length) < sizes[selected, None]
            members = np.where(mask, starts[selected, None] + np.arange(length), starts[selected, None])
            buckets.append(
                SetBucket(
                    members=self._put(rows[members]),
                    mask=None if mask.all() else self._put(mask[:, None, None, :]),
                    levels=self._put(levels[members].astype(np.float32)),
                )
            )
            order.append(selected)
        return tuple(buckets), _inverse(np.concatenate(order))

    def _put(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device, non_blocking=True)


def padded_lengths(sizes: np.ndarray) -> dict[int, int]:
    """Return to which length each size of set is padded.

    Sizes that hold at least 1/16 of all elements, and sets of one, are not padded; the others are padded to one
    another's where that at most doubles them.
    """
    different, counts = np.unique(sizes, return_counts=True)
    total = int((different * counts).sum())
    lengths: dict[int, int] = {}
    longest = 0
    for size, count in zip(different[::-1].tolist(), counts[::-1].tolist(), strict=True):
        if size == 1 or size * count >= POPULAR * total:
            lengths[size] = size
            continue
        if 2 * size < longest or not longest:
            longest = size
        lengths[size] = longest
    return lengths


class Ragged:
    """Rows of numbers of each layout, one layout after another."""

    def __init__(self, rows: Sequence[Sequence[Any]]) -> None:
        self.counts = np.array([len(of_layout) for of_layout in rows])
        self.starts = np.cumsum(self.counts) - self.counts
        self.values = np.array([row for of_layout in rows for row in of_layout])

    def take(self, layouts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of these layouts, one after another, and which of them (0, 1, ...) each row is of."""
        counts = self.counts[layouts]
        owners = np.repeat(np.arange(len(layouts)), counts)
        firsts = self.starts[layouts] - (np.cumsum(counts) - counts)
        return self.values[np.arange(len(owners)) + firsts[owners]], owners


def _inverse(order: np.ndarray) -> np.ndarray:
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return inverse
