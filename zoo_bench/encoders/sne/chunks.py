"""Chunks of a network's weights: which entries of the flat vector make which chunk, and what is known of each chunk.

Only positions are cut here, once a layout; weights never are. A chunk's padding is never stored: a bucket of chunks
stands in one rectangular array whose empty entries are -1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo_bench.encoders.sne.settings import Settings
from zoo_gen.architecture.layout import Parameter, ParameterLayout
from zoo_gen.errors import ZooError

CONVOLUTION, LINEAR, NORMALISATION, EMBEDDING, OTHER = range(5)  # types of tensors, each with a code
TYPE_OF_AXES = {5: CONVOLUTION, 4: CONVOLUTION, 3: CONVOLUTION, 2: LINEAR, 1: NORMALISATION}  # of a layer's weight
# A layout does not say what a tensor is for, so embeddings and tokens are known by what their names contain.
EMBEDDING_WORDS = ("embed", "token", "wte", "wpe")
CODES = 3  # kinds of codes an element can have: output index, input index, position in the kernel

Kind = int  # 0: elements are numbers; otherwise k x k: elements are kernels, padded to k x k numbers


@dataclass(frozen=True)
class Block:
    """Chunks of one tensor that have the same number of elements."""

    kind: Kind
    positions: np.ndarray  # int64 (chunk, element, feature) in the flat vector; -1 is padding of a kernel
    codes: np.ndarray  # int64 (chunk, element, CODES), -1 where there is none


@dataclass(frozen=True)
class Tensor:
    """One parameter, cut into chunks."""

    blocks: tuple[Block, ...]
    type: int  # what `tensor_type` says
    level: int  # of its layer, from the input

    @property
    def n_chunks(self) -> int:
        """The number of its chunks."""
        return sum(len(block.positions) for block in self.blocks)


def cut(
    layout: ParameterLayout, settings: Settings, *, chunk: int | str, kernel: int
) -> tuple[tuple[Tensor, ...], ...]:
    """Cut a layout into layers of tensors of chunks (SNE, section 3.2).

    Args:
        layout: the parameters.
        settings: of the encoder.
        chunk: entries a chunk, or "row".
        kernel: where elements are kernels, the largest one that is read; 0 where those of convolutions are numbers.

    Raises:
        ZooError: a kernel is larger than `kernel`.
    """
    layers = []
    for level, name in enumerate(layout.layers):
        parameters = [parameter for parameter in layout.parameters if parameter.layer == name]
        ends = level == 0, level == len(layout.layers) - 1
        layers.append(
            tuple(
                Tensor(
                    _blocks(parameter, settings, chunk=chunk, kernel=kernel, ends=ends),
                    tensor_type(parameter, parameters),
                    level,
                )
                for parameter in parameters
            )
        )
    return tuple(layers)


def element_count(layout: ParameterLayout, settings: Settings, *, chunk: int | str, kernel: int) -> int:
    """Return how many elements a network is cut into, numbers and kernels."""
    layers = cut(layout, settings, chunk=chunk, kernel=kernel)
    return sum(
        block.positions.shape[0] * block.positions.shape[1]
        for layer in layers
        for tensor in layer
        for block in tensor.blocks
    )


def tensor_type(parameter: Parameter, layer: Sequence[Parameter]) -> int:
    """Return what kind of tensor a parameter is, given all parameters of its layer; a bias is of its weight's kind."""
    name = parameter.layer.rpartition(".")[2] if parameter.role in ("weight", "bias") else parameter.role
    if any(word in name.lower() for word in EMBEDDING_WORDS):
        return EMBEDDING
    if parameter.role.startswith("running_"):
        return NORMALISATION
    # A recurrent layer has weights and biases of several roles, weight_ih_l0 and bias_hh_l0 among them.
    weights = [len(other.shape) for other in layer if "weight" in other.role]
    if not weights or not ("weight" in parameter.role or "bias" in parameter.role):
        return OTHER
    return TYPE_OF_AXES.get(max(weights), OTHER)


def kernel_size(layouts: Sequence[ParameterLayout]) -> int:
    """Return the longest side of a kernel in some layouts; 0 where there is no convolution."""
    return max((max(p.shape[2:]) for layout in layouts for p in layout.parameters if len(p.shape) == 4), default=0)


def _blocks(
    parameter: Parameter, settings: Settings, *, chunk: int | str, kernel: int, ends: tuple[bool, bool]
) -> tuple[Block, ...]:
    """Cut one tensor: entries are its (out, in) pairs, row-major, each a number or a kernel."""
    shape = parameter.shape
    outputs, inputs = shape[0], shape[1] if len(shape) > 1 else 1
    numbers = int(np.prod(shape[2:], dtype=np.int64)) if len(shape) > 2 else 1  # of an entry
    entries = outputs * inputs
    # A bias is a single row: its entries are one value of each output neuron.
    length = (inputs if len(shape) > 1 else outputs) if chunk == "row" else int(chunk)
    positions = parameter.start + np.arange(parameter.size).reshape(entries, numbers)
    codes = _codes(settings, outputs=outputs, inputs=inputs, numbers=numbers, ends=ends, is_matrix=len(shape) > 1)
    kind = 0
    if settings.conv_tokens == "kernels" and kernel and len(shape) == 4:
        kind = kernel * kernel
        positions = _centred(positions, shape[2:], kernel, name=parameter.name)
        codes = codes[:, :1].copy()
        codes[..., 2] = -1  # a kernel is one element, whose features have positions of their own
    blocks = []
    full = entries - entries % length
    for start, stop in ((0, full), (full, entries)):
        if start == stop:
            continue
        rows = (stop - start) // min(length, stop - start)
        features = positions.shape[1] if kind else 1
        blocks.append(
            Block(
                kind,
                positions[start:stop].reshape(rows, -1, features),
                codes[start:stop].reshape(rows, -1, CODES),
            )
        )
    return tuple(blocks)


def _codes(
    settings: Settings, *, outputs: int, inputs: int, numbers: int, ends: tuple[bool, bool], is_matrix: bool
) -> np.ndarray:
    """Return the codes of the numbers of a tensor (entry, number of the entry, CODES)."""
    codes = np.full((outputs, inputs, numbers, CODES), -1, dtype=np.int64)
    is_first, is_last = ends
    if settings.pos == "rowcol" or (settings.pos == "boundary" and is_last):
        codes[..., 0] = np.arange(outputs)[:, None, None]
    if is_matrix and (settings.pos == "rowcol" or (settings.pos == "boundary" and is_first)):
        codes[..., 1] = np.arange(inputs)[None, :, None]
    if numbers > 1 and settings.pos == "boundary":
        codes[..., 2] = np.arange(numbers)
    return codes.reshape(outputs * inputs, numbers, CODES)


def _centred(positions: np.ndarray, shape: tuple[int, ...], kernel: int, *, name: str) -> np.ndarray:
    """Put kernels (entry, height x width) into the middle of kernel x kernel positions; -1 around them."""
    height, width = shape
    if max(shape) > kernel:
        raise ZooError(
            f"sne: {name} has kernels of {height} x {width}, but the encoder was fitted to at most {kernel} x {kernel}"
            "; expected conv_tokens = 'scalars' for architectures with larger kernels"
        )
    padded = np.full((len(positions), kernel, kernel), -1, dtype=np.int64)
    top, left = (kernel - height) // 2, (kernel - width) // 2
    padded[:, top : top + height, left : left + width] = positions.reshape(-1, height, width)
    return padded.reshape(len(positions), -1)
