"""Sequencer: the layers that a list of specs describes, one after another, with their names and shapes.

A list may hold lists: a residual block is written with its layers inside and laid flat here, so that all that computes
with layers meets one sequence.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from zoo_gen.architecture import layers as L
from zoo_gen.architecture.layers import INPUT, Layer, Shape
from zoo_gen.architecture.shapes import output_shape
from zoo_gen.architecture.specs import (
    ActivationSpec,
    AttentionSpec,
    BatchNormSpec,
    ConvolutionSpec,
    GroupNormSpec,
    GRUSpec,
    InstanceNormSpec,
    LayerNormSpec,
    LayerSpec,
    LinearSpec,
    PatchEmbeddingSpec,
    PoolingSpec,
    PositionEmbeddingSpec,
    ResidualSpec,
    RNNSpec,
)
from zoo_gen.errors import unknown_name


class Sequencer:
    """Makes layers of specs, one after another.

    Args:
        input_shape: of what the network reads.
    """

    def __init__(self, input_shape: Shape) -> None:
        self.layers: list[Layer] = []
        self.shape = input_shape
        self._counts: Counter[str] = Counter()
        self._earlier = {INPUT: input_shape}

    def add(self, specs: Sequence[LayerSpec], *, key: str | None) -> None:
        """Add layers.

        Args:
            specs: of the layers.
            key: of the list that they stand in, None where nobody wrote one.

        Raises:
            ValueError: a layer does not fit the one before it; the message begins with its place in the list.
        """
        for position, spec in enumerate(specs):
            place = "" if key is None else f"{key}[{position}]"
            try:
                if isinstance(spec, ResidualSpec):
                    self._add_residual(spec, place)
                elif isinstance(spec, PatchEmbeddingSpec):
                    self._append(_patches(spec, self.shape, self._name("convolution")))
                    self._append(L.Tokens(self._name("tokens")))
                else:
                    self._append(_layer(spec, self.shape, self._name(spec.type)))
            except _PlacedError:
                raise
            except ValueError as error:
                raise _PlacedError(f"{place}{': ' if place else ''}{spec.type} {error}") from None

    def _add_residual(self, spec: ResidualSpec, place: str) -> None:
        if bool(spec.layers) == bool(spec.source):
            raise ValueError("needs either the layers of a block, or the source of what is added")
        before = self._latest
        if spec.source and spec.source not in self._earlier:
            raise ValueError(f"adds what is not there: {unknown_name('source', spec.source, self._earlier)}")
        self.add(spec.layers, key=f"{place}.layers")
        added, after = spec.source or before, self._latest
        if spec.shortcut:
            self._append(L.Branch(self._name("branch"), added))
            self.add(spec.shortcut, key=f"{place}.shortcut")
            added = after
        self._append(L.Residual(self._name("residual"), added))

    @property
    def _latest(self) -> str:
        return self.layers[-1].name if self.layers else INPUT

    def _name(self, kind: str) -> str:
        """Return the name of the next layer of a kind."""
        kind = kind.removeprefix("max_").removeprefix("average_")
        self._counts[kind] += 1
        return f"{kind}{self._counts[kind]}"

    def _append(self, layer: Layer) -> None:
        self.shape = output_shape(layer, self.shape, earlier=self._earlier)
        self._earlier[layer.name] = self.shape
        self.layers.append(layer)


class _PlacedError(ValueError):
    """Already says where."""


def _patches(spec: PatchEmbeddingSpec, shape: Shape, name: str) -> L.Convolution:
    """Return the convolution of a patch embedding, for images that its patches fill."""
    size = _pair(spec.size)
    if any(length % side for length, side in zip(shape[1:], size, strict=True)) if len(shape) == 3 else False:
        raise ValueError(
            f"cuts images of {' x '.join(map(str, shape[1:]))} into patches of {' x '.join(map(str, size))}; expected "
            "sides that divide them"
        )
    across = _width(size)
    return L.Convolution(
        *(name, shape[0], spec.units, size[0], size[0], 0, spec.bias), kernel_width=across, stride_width=across
    )


def _layer(spec: Any, shape: Shape, name: str) -> Layer:
    """Return the layer that a spec describes after values of a shape."""
    if isinstance(spec, ConvolutionSpec):
        kernel, stride = _pair(spec.kernel), _pair(spec.stride)
        if spec.padding == "same":
            if any(length % 2 == 0 for length in kernel) or stride != (1, 1):
                raise ValueError(
                    "pads to the same size; expected an odd kernel and a stride of 1, or numbers of pixels"
                )
            padding = kernel[0] // 2, kernel[1] // 2
        else:
            padding = _pair(spec.padding or 0)
        sizes = {
            f"{key}_width": _width(pair) for key, pair in (("kernel", kernel), ("stride", stride), ("padding", padding))
        }
        return L.Convolution(
            name, shape[0], spec.channels, kernel[0], stride[0], padding[0], spec.bias, groups=spec.groups or 1, **sizes
        )
    if isinstance(spec, PoolingSpec):
        size, stride, padding = _pair(spec.size), _pair(spec.stride or spec.size), _pair(spec.padding or 0)
        sizes = {
            f"{key}_width": _width(pair) for key, pair in (("size", size), ("stride", stride), ("padding", padding))
        }
        kind: Literal["max", "average"] = "max" if spec.type == "max_pooling" else "average"
        return L.Pooling(name, kind, size[0], stride[0], padding=padding[0], **sizes)
    if isinstance(spec, LinearSpec):
        return L.Linear(name, shape[-1], spec.units, spec.bias)
    if isinstance(spec, RNNSpec):
        return L.Recurrent(name, "rnn", shape[-1], spec.units, spec.bias, spec.sequence, spec.function)
    if isinstance(spec, GRUSpec):
        return L.Recurrent(name, "gru", shape[-1], spec.units, spec.bias, spec.sequence)
    if isinstance(spec, PositionEmbeddingSpec):
        return L.PositionEmbedding(name, shape[0], shape[-1], spec.learned)
    if isinstance(spec, AttentionSpec):
        if spec.units is None and shape[-1] % spec.heads:
            raise ValueError(f"cuts {shape[-1]} features into {spec.heads} heads; expected a divisor, or units")
        return L.Attention(name, shape[-1], spec.heads, spec.units or shape[-1] // spec.heads, spec.bias)
    if isinstance(spec, BatchNormSpec):
        return L.Normalization(name, shape[0], spec.epsilon, spec.momentum, spec.affine, buffers=True)
    if isinstance(spec, LayerNormSpec):
        return L.LayerNorm(name, shape[-1:] if len(shape) == 2 else shape, spec.epsilon, spec.affine)
    if isinstance(spec, GroupNormSpec | InstanceNormSpec):
        groups = spec.groups if isinstance(spec, GroupNormSpec) else shape[0]
        return L.GroupNorm(name, groups, shape[0], spec.epsilon, spec.affine)
    if isinstance(spec, ActivationSpec):
        return L.Activate(name, spec.function)
    plain: dict[str, Layer] = {
        "dropout": L.Dropout(name),
        "flatten": L.Flatten(name),
        "rows": L.Rows(name),
        "tokens": L.Tokens(name),
        "class_token": L.ClassToken(name, shape[-1]),
        "class_token_pooling": L.FirstStep(name),
        "global_average_pooling": L.GlobalPooling(name),
        "global_max_pooling": L.GlobalPooling(name, "max"),
    }
    return plain[spec.type]


def _pair(lengths: int | tuple[int, int]) -> L.Pair:
    return (lengths, lengths) if isinstance(lengths, int) else lengths


def _width(pair: L.Pair) -> int | None:
    """Return the length across, None where it is as down."""
    return None if pair[0] == pair[1] else pair[1]
