"""Codes of what an architecture says of nodes, edges and positions in a kernel: sines and logarithms, of any size.

Networks of one architecture have the same codes. Hidden units of one layer have one code, since their order means
nothing; inputs and outputs stand in a fixed order, and each has the code of its place.
"""

import math

import numpy as np

from zoo_gen.architecture.graph_walk import KINDS, EdgeBlock
from zoo_gen.architecture.graphs import GraphStructure

PLACES, DEPTHS, POSITIONS = 16, 8, 16  # numbers of the codes of a place in a layer, of a depth, of a position
NODE_CODES = len(KINDS) + PLACES + 2 * DEPTHS + 2
KERNEL_CODES = POSITIONS + 3
EDGE_CODES = 2 * DEPTHS + 1


def node_codes(structure: GraphStructure) -> np.ndarray:
    """Return the code of each node, float32 (node, NODE_CODES).

    Its kind, the place of inputs and outputs, the depth from the front and from the back, and the logarithms of how
    many units its layer has and how many numbers it reads.
    """
    kind, layer = structure.kind_of_node, structure.layer_of_node
    places = np.where((kind != KINDS.index("hidden"))[:, None], _sines(structure.place_of_node, PLACES), 0)
    counts = np.bincount(layer)
    reads = np.ones(len(counts))
    for block in structure.blocks:
        reads[block.target_layer] = max(reads[block.target_layer], numbers_read(block))
    sizes = np.log(np.stack([counts[layer], reads[layer]], axis=1)) / 4
    parts = [np.eye(len(KINDS))[kind], places, *_depths(layer, layer.max()), sizes]
    return np.concatenate(parts, axis=1).astype(np.float32)


def numbers_read(block: EdgeBlock) -> int:
    """Return how many numbers a target of a block of edges reads."""
    return block.shape[2] * math.prod(block.kernel)


def edge_code(layer: int, last: int, *, has_weight: bool) -> np.ndarray:
    """Return the code of the edges that lead to a layer of `last`, float32 (EDGE_CODES,)."""
    depths = [part.reshape(-1) for part in _depths(np.array([layer]), last)]
    return np.concatenate([*depths, [not has_weight]]).astype(np.float32)


def kernel_codes(height: int, width: int) -> np.ndarray:
    """Return the code of each position in a kernel, row by row, float32 (position, KERNEL_CODES).

    Rows and columns count from the middle; a kernel of one number is not the middle of a larger one.
    """
    rows, columns = np.meshgrid(*(np.arange(size) - (size - 1) / 2 for size in (height, width)), indexing="ij")
    sines = [_sines(axis.reshape(-1), POSITIONS // 2, longest=32.0) for axis in (rows, columns)]
    sizes = np.broadcast_to([height * width == 1, np.log(height) / 2, np.log(width) / 2], (height * width, 3))
    return np.concatenate([*sines, sizes], axis=1).astype(np.float32)


def _depths(layer: np.ndarray, last: int) -> list[np.ndarray]:
    """Return the codes of depths (..., DEPTHS) from the front and from the back."""
    return [_sines(layer, DEPTHS, longest=64.0), _sines(last - layer, DEPTHS, longest=64.0)]


def _sines(values: np.ndarray, count: int, *, longest: float = 10_000.0) -> np.ndarray:
    """Return sines and cosines of values (..., count), of wave lengths from 2 pi to `longest` times that."""
    rates = longest ** (-np.arange(count // 2) / (count // 2))
    angles = values[..., None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
