"""The stages of a network on a GPU: each launches the kernels of one layer and of the pointwise layers behind it.

A stage hands back the gradient before what it read *became* its input: where a product was activated and dropped as it
was stored, the stage behind it multiplies by the derivative, which the stored value tells. Where it does not tell it
(gelu, silu, sine), activation is a stage of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
import triton
from torch import Tensor

from zoo_gen.architecture.layers import (
    Activation,
    Convolution,
    Linear,
    Shape,
)
from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.population.gpu import kernels, offsets
from zoo_gen.population.gpu.offsets import Geometry

OPERANDS = {"bfloat16": torch.bfloat16, "tf32": torch.float32, "float32": torch.float32}
_POOL_BLOCK = 1024


@dataclass(frozen=True)
class Images:
    """Images of a dataset, and which of them each model reads: order[row_of[model], clock[0] + image]."""

    pixels: Tensor  # uint8 (image, channel, height, width), or float32 (point, 1)
    order: Tensor  # int32 (order, image)
    row_of: Tensor  # int32 (model,)
    clock: Tensor  # int32 (3,): first image, step of the training, step of the epoch

    def arguments(self) -> tuple[Any, ...]:
        """The arguments of a kernel that reads images."""
        return self.pixels, self.order, self.row_of, self.clock, self.order.shape[1]


@dataclass
class Value:
    """What lies between two stages, for all models and images: (model, image, height, width, channel)."""

    shape: Shape  # (channel, height, width) or (feature,)
    n_models: int
    capacity: int  # images
    dtype: torch.dtype
    device: str
    codes: Tensor | None = None  # of the activation that the stored value went through, if any
    rates: Tensor | None = None  # of its dropout
    tensor: Tensor = field(init=False)
    slopes: Tensor = field(init=False)  # the gradient before that activation and dropout

    def allocate(self) -> "Value":
        """Take memory on the device."""
        channels, height, width = offsets.cube(self.shape)
        shape = (self.n_models, self.capacity, height, width, offsets.aligned(channels))
        self.tensor = torch.zeros(shape, dtype=self.dtype, device=self.device)
        self.slopes = torch.zeros_like(self.tensor)
        return self


class Stage(Protocol):
    """Launches kernels; `n_images` are read by every model."""

    output: Value

    def forward(self, images: Images, n_images: int, *, training: bool) -> None:
        """Compute the output."""

    def backward(self, images: Images, n_images: int) -> None:
        """Compute the gradient of the weights, and the gradient of the input unless it is an image."""


@dataclass(frozen=True)
class Arrays:
    """What all stages share on the device."""

    weights: Tensor  # float32 (model, parameter)
    gradient: Tensor  # float32 (split, model, parameter)
    activations: Sequence[Activation | None]  # of each model, for layers that name none
    dropout: Tensor  # float32 (model,)
    dropout_keys: Tensor  # int64 (model,)
    layout: ParameterLayout
    precision: str

    def start(self, name: str) -> int:
        """Return where a parameter begins in a model's weights, -1 if there is none."""
        return next((p.start for p in self.layout.parameters if p.name == name), -1)

    def kinds(self, *codes: Tensor | None) -> int:
        """Return a bit for each activation among codes, as only those are compiled, and one for rounded operands."""
        occurring = sum({1 << code for some in codes if some is not None for code in some.unique().tolist()})
        return occurring if self.precision == "float32" else occurring | kernels.ROUNDED


@dataclass(frozen=True)
class Behind:
    """The pointwise layers that are computed as a value is stored."""

    codes: Tensor | None = None  # of an activation, int32 (model,)
    drops: bool = False
    earlier: tuple[int, ...] = ()  # values an image of each dropout layer before: values are numbered through all
    channel_first: bool = False  # the order in which values of an image are numbered

    def first_place(self, n_images: int) -> int:
        """Return the number of the first value, as `random.kept_by_dropout` counts."""
        return sum(-(-n_images * size // 2) * 2 for size in self.earlier)


class Product:
    """A convolution or a linear layer."""

    def __init__(
        self, layer: Convolution | Linear, source: Value | None, output: Value, arrays: Arrays, behind: Behind,
        *, shape: Shape, scale: Tensor,
    ) -> None:  # fmt: skip
        self.output = output
        self._source, self._arrays, self._behind = source, arrays, behind
        device = arrays.weights.device
        self._geometry = offsets.forward(layer, shape, images=source is None)
        self._start = arrays.start(f"{layer.name}.weight")
        self._bias = arrays.start(f"{layer.name}.bias")
        self._tables = _on(self._geometry, device, scale=scale if source is None else None)
        self._kinds = arrays.kinds(behind.codes, None if source is None else source.codes)
        self._back = [] if source is None else [(g, _on(g, device)) for g in offsets.backward(layer, shape)]

    def forward(self, images: Images, n_images: int, *, training: bool) -> None:
        """Compute the output."""
        source, behind = self._source, self._behind
        dropout, geometry = self._arrays.dropout, self._geometry
        codes = dropout if behind.codes is None else behind.codes
        self._launch(
            geometry, self._tables, images, n_images,
            source=images.pixels if source is None else source.tensor, out=self.output, into=self.output.tensor,
            gated=self.output.tensor, codes=codes, rates=dropout,
            BIAS=self._bias, BY_NUMBER=source is None, ACTIVATE=behind.codes is not None,
            DROP=training and behind.drops, GATE=False,
        )  # fmt: skip

    def backward(self, images: Images, n_images: int) -> None:
        """Compute the gradient of the weights, and the gradient of the input unless it is an image."""
        arrays, source, geometry = self._arrays, self._source, self._geometry
        terms, scale, columns = self._tables
        n_models, n_parameters = arrays.weights.shape
        k, n = geometry.terms.shape[1], len(geometry.columns)
        tile = _tile(k, n, n_images * geometry.n_rows)
        kernels.weight_gradient[(n_models, _blocks(k, tile["BK"]), _blocks(n, tile["BN"]))](
            images.pixels if source is None else source.tensor, *images.arguments()[1:],
            self.output.slopes, arrays.gradient[0, :, self._start :], terms, scale, columns,
            n_images, self.output.capacity, n_parameters,
            **geometry.reading(), PITCH=self.output.tensor.shape[-1],
            BIAS=self._bias - self._start if self._bias >= 0 else -1, BY_NUMBER=source is None,
            PRECISION=arrays.precision, **tile,
        )  # fmt: skip
        if source is None:
            return
        for back, its_tables in self._back:
            self._launch(
                back, its_tables, images, n_images, source=self.output.slopes, out=source, into=source.slopes,
                gated=source.tensor, codes=source.codes if source.codes is not None else arrays.dropout,
                rates=source.rates if source.rates is not None else arrays.dropout,
                BIAS=-1, BY_NUMBER=False, ACTIVATE=False, DROP=False, GATE=source.codes is not None,
            )  # fmt: skip

    def _launch(
        self, geometry: Geometry, its_tables: tuple[Tensor, Tensor, Tensor], images: Images, n_images: int,
        *, source: Tensor, out: Value, into: Tensor, gated: Tensor, codes: Tensor, rates: Tensor, **options: Any,
    ) -> None:  # fmt: skip
        arrays = self._arrays
        terms, scale, columns = its_tables
        n_models, n_parameters = arrays.weights.shape
        tile = _tile(geometry.terms.shape[1], len(geometry.columns), n_images * geometry.n_rows)
        rows, n = n_images * geometry.n_rows, len(geometry.columns)
        options["BIAS"] = options["BIAS"] - self._start if options["BIAS"] >= 0 else -1
        options["KINDS"] = self._kinds
        kernels.product[(n_models, _blocks(rows, tile["BM"]), _blocks(n, tile["BN"]))](
            source, *images.arguments()[1:], arrays.weights[:, self._start :], terms, scale, columns, into, gated,
            codes, rates, arrays.dropout_keys, n_images, out.capacity, n_parameters,
            self._behind.first_place(n_images),
            **geometry.reading(), **geometry.writing(),
            PITCH=_pitch(into, geometry), PRECISION=arrays.precision, **tile, **options,
        )  # fmt: skip


class Pool:
    """Pooling, or nothing, then an activation and dropout."""

    def __init__(
        self, size: tuple[int, int], step: int, kind: str, source: Value, output: Value, arrays: Arrays, behind: Behind
    ) -> None:
        self.output = output
        self._source, self._arrays, self._behind = source, arrays, behind
        channels, height, width = offsets.cube(source.shape)
        _, out_height, out_width = offsets.cube(output.shape)
        self._options = {
            "HEIGHT": height,
            "WIDTH": width,
            "CHANNELS": channels,
            "PITCH": source.tensor.shape[-1],
            "OUT_H": out_height,
            "OUT_W": out_width,
            "SIZE_Y": size[0],
            "SIZE_X": size[1],
            "STEP": step,
            "MAXIMUM": kind == "max",
            "ACTIVATE": behind.codes is not None,
            "CHANNEL_FIRST": behind.channel_first,
            "KINDS": arrays.kinds(behind.codes, source.codes),
            "BLOCK": _POOL_BLOCK,
        }
        self._codes = arrays.dropout if behind.codes is None else behind.codes

    def forward(self, images: Images, n_images: int, *, training: bool) -> None:
        """Compute the output."""
        arrays, source, out = self._arrays, self._source, self.output
        elements = n_images * out.tensor[0, 0].numel()
        kernels.pool[(out.n_models, _blocks(elements, _POOL_BLOCK))](
            source.tensor, out.tensor, images.clock, self._codes, arrays.dropout, arrays.dropout_keys,
            n_images, out.capacity, self._behind.first_place(n_images),
            DROP=training and self._behind.drops, **self._options,
        )  # fmt: skip

    def backward(self, images: Images, n_images: int) -> None:
        """Compute the gradient of the input."""
        arrays, source, out = self._arrays, self._source, self.output
        elements = n_images * source.tensor[0, 0].numel()
        kernels.pool_gradient[(out.n_models, _blocks(elements, _POOL_BLOCK))](
            source.tensor, out.slopes, source.slopes, images.clock, self._codes, arrays.dropout, arrays.dropout_keys,
            source.codes if source.codes is not None else self._codes,
            source.rates if source.rates is not None else arrays.dropout,
            n_images, out.capacity, self._behind.first_place(n_images),
            DROP=self._behind.drops, GATE=source.codes is not None, **self._options,
        )  # fmt: skip


def _on(geometry: Geometry, device: torch.device, *, scale: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the tables of a geometry on the device: terms, the scale of each term's pixels, columns."""
    terms = torch.from_numpy(geometry.terms if geometry.terms.size else np.zeros((4, 1), np.int32))
    channels = torch.from_numpy(geometry.channels).long()
    pixels = torch.zeros(1) if scale is None else scale.cpu()[:, channels].contiguous()
    return terms.to(device), pixels.to(device, torch.float32), torch.from_numpy(geometry.columns).to(device)


def _pitch(values: Tensor, geometry: Geometry) -> int:
    """Return the elements from a row of a product's output to the next: a pixel's, or an image's if it is one row."""
    return values[0, 0].numel() if geometry.output == (1, 1) else values.shape[-1]


def _tile(k: int, n: int, rows: int) -> dict[str, int]:
    """Return the sizes of a product's tiles; they depend on nothing but the layer and the images of a step."""
    width = min(64, max(16, triton.next_power_of_2(n)))
    depth = 16 if k <= 16 else 32
    return {"BM": min(128, max(16, triton.next_power_of_2(rows))), "BN": width, "BK": depth}


def _blocks(length: int, block: int) -> int:
    return max(1, -(-length // block))
