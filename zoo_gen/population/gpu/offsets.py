"""Which element of its source and which weight each term of a stacked product stands for, as tables for `kernels`.

One kernel serves convolutions, linear layers and the gradients that go back through them: only the tables differ.
Values between layers lie as (height, width, channel) an image, the channels filled up with zeros to a multiple of
`ALIGNED`; the images of a dataset lie as (channel, height, width). Terms and columns of what was filled up have no
weight, -1 in the tables.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo_gen.architecture.layers import Convolution, Linear, Shape
from zoo_gen.architecture.shapes import output_shape

ALIGNED = 8  # channels: a pixel takes a multiple of this, so that a GPU reads several at once; the rest are zeros


@dataclass(frozen=True)
class Geometry:
    """How the rows of a product, pixels of an image, read a source and lie in an output; all in elements."""

    terms: np.ndarray  # int32 (4, term): offset in the source, offset in the weights, and the term's own dy and dx
    columns: np.ndarray  # int32 (column,): offset in the weights
    channels: np.ndarray  # int32 (term,): the channel of the source that a term reads
    rows: tuple[int, int]  # height and width of the pixels that are rows
    step: int  # pixels of the source from one row to the next
    source: tuple[int, int]  # height and width of the source
    strides: tuple[int, int, int]  # of the source: a line, a pixel, an image
    output: tuple[int, int]  # height and width of the output
    output_step: int = 1
    output_corner: tuple[int, int] = (0, 0)
    checked: bool = False  # whether terms may fall outside the source
    neighbours: int = 1  # so many terms at a time are neighbours in the source

    @property
    def n_rows(self) -> int:
        """Rows an image."""
        return self.rows[0] * self.rows[1]

    def reading(self) -> dict[str, Any]:
        """The constants of a kernel that reads the source."""
        return {
            "K": self.terms.shape[1],
            "N": len(self.columns),
            "ROWS_H": self.rows[0],
            "ROWS_W": self.rows[1],
            "STEP": self.step,
            "HEIGHT": self.source[0],
            "WIDTH": self.source[1],
            "ROW": self.strides[0],
            "PIXEL": self.strides[1],
            "IMAGE": self.strides[2],
            "CHECKED": self.checked,
            "NEIGHBOURS": self.neighbours,
        }

    def writing(self) -> dict[str, Any]:
        """The constants of a kernel that writes the output."""
        return {
            "OUT_H": self.output[0],
            "OUT_W": self.output[1],
            "OUT_STEP": self.output_step,
            "OUT_Y": self.output_corner[0],
            "OUT_X": self.output_corner[1],
        }


def forward(layer: Convolution | Linear, shape: Shape, *, images: bool) -> Geometry:
    """Return how a layer reads values of a shape (channel, height, width) or (feature,); `images`: of a dataset."""
    if isinstance(layer, Linear):
        return _linear(layer, cube(shape), images=images)
    channels, height, width = shape
    out_height, out_width = output_shape(layer, shape)[1:]
    taps = [(ky, kx) for ky in range(layer.kernel) for kx in range(layer.kernel)]
    # Neighbouring terms are neighbours in the source.
    pitch = aligned(channels)
    terms = [(c, *tap) for c in range(channels) for tap in taps] if images else _terms(taps, pitch)
    strides = (width, 1, channels * height * width) if images else (width * pitch, pitch, height * width * pitch)
    channel_stride = height * width if images else 1
    area = layer.kernel**2
    return Geometry(
        terms=_table(
            (
                (ky - layer.padding) * strides[0] + (kx - layer.padding) * strides[1] + c * channel_stride,
                c * area + ky * layer.kernel + kx if c < channels else -1,
                ky - layer.padding,
                kx - layer.padding,
            )
            for c, ky, kx in terms
        ),
        columns=np.arange(layer.outputs, dtype=np.int32) * (channels * area),
        channels=np.array([c for c, _, _ in terms], dtype=np.int32),
        rows=(out_height, out_width),
        step=layer.stride,
        source=(height, width),
        strides=strides,
        output=(out_height, out_width),
        checked=layer.padding > 0,
        neighbours=1 if images else ALIGNED,
    )


def backward(layer: Convolution | Linear, shape: Shape) -> list[Geometry]:
    """Return how the gradient before a layer is made of that behind it.

    A convolution with a stride has one for every residue of its input pixels: only a part of the taps meets each.
    """
    if isinstance(layer, Linear):
        return [_linear_back(layer, cube(shape))]
    return [_residue(layer, shape, y, x) for y in range(layer.stride) for x in range(layer.stride)]


def _residue(layer: Convolution, shape: Shape, y: int, x: int) -> Geometry:
    channels, height, width = shape
    out_height, out_width = output_shape(layer, shape)[1:]
    stride, area = layer.stride, layer.kernel**2

    def met(corner: int) -> list[int]:
        return [k for k in range(layer.kernel) if (corner + layer.padding - k) % stride == 0]

    taps = [(ky, kx) for ky in met(y) for kx in met(x)]
    pitch = aligned(layer.outputs)
    terms = _terms(taps, pitch)

    def source(ky: int, kx: int) -> tuple[int, int]:
        return (y + layer.padding - ky) // stride, (x + layer.padding - kx) // stride

    return Geometry(
        terms=_table(
            (
                (source(ky, kx)[0] * out_width + source(ky, kx)[1]) * pitch + output,
                output * channels * area + ky * layer.kernel + kx if output < layer.outputs else -1,
                *source(ky, kx),
            )
            for output, ky, kx in terms
        ),
        columns=np.arange(channels, dtype=np.int32) * area,
        channels=np.array([output for output, _, _ in terms], dtype=np.int32),
        rows=(-(-(height - y) // stride), -(-(width - x) // stride)),
        step=1,
        source=(out_height, out_width),
        strides=(out_width * pitch, pitch, out_height * out_width * pitch),
        output=(height, width),
        output_step=stride,
        output_corner=(y, x),
        checked=True,
        neighbours=ALIGNED,
    )


def _linear(layer: Linear, shape: tuple[int, int, int], *, images: bool) -> Geometry:
    features = np.arange(layer.inputs) if images else _flat(shape)
    places = np.arange(len(features))
    nothing = np.zeros_like(places)
    return Geometry(
        terms=np.stack([places, features, nothing, nothing]).astype(np.int32),
        columns=np.arange(layer.outputs, dtype=np.int32) * layer.inputs,
        channels=(places // (shape[1] * shape[2])).astype(np.int32),
        rows=(1, 1),
        step=0,
        source=(1, 1),
        strides=(0, 0, len(features)),
        output=(1, 1),
        neighbours=1 if images else ALIGNED,
    )


def _linear_back(layer: Linear, shape: tuple[int, int, int]) -> Geometry:
    outputs = np.arange(aligned(layer.outputs))
    nothing = np.zeros_like(outputs)
    return Geometry(
        terms=np.stack(
            [outputs, np.where(outputs < layer.outputs, outputs * layer.inputs, -1), nothing, nothing]
        ).astype(np.int32),
        columns=_flat(shape).astype(np.int32),
        channels=outputs.astype(np.int32),
        rows=(1, 1),
        step=0,
        source=(1, 1),
        strides=(0, 0, len(outputs)),
        output=(1, 1),
        neighbours=ALIGNED,
    )


def _flat(shape: tuple[int, int, int]) -> np.ndarray:
    """Return the number that torch gives each feature, in the order in which they lie: (feature,)."""
    channels, height, width = shape
    numbers = np.full((height, width, aligned(channels)), -1)
    numbers[:, :, :channels] = np.arange(channels * height * width).reshape(shape).transpose(1, 2, 0)
    return numbers.reshape(-1)


def aligned(channels: int) -> int:
    """Return the channels that a pixel takes."""
    return -(-channels // ALIGNED) * ALIGNED


def cube(shape: Shape) -> tuple[int, int, int]:
    """Return a shape as (channel, height, width)."""
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)


def _terms(taps: Sequence[tuple[int, int]], channels: int) -> list[tuple[int, int, int]]:
    return [(c, *tap) for tap in taps for c in range(channels)]


def _table(terms: Iterator[tuple[int, int, int, int]]) -> np.ndarray:
    return np.array(list(terms), dtype=np.int32).reshape(-1, 4).T.copy()
