"""The open grammar of layers: what a manifest writes of each, and the sequence of layers that a list of them makes.

A list may hold lists: a residual block is written with its layers inside and laid flat here, so that all that computes
with layers meets one sequence.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, Strict, model_serializer

from zoo_gen.architecture import layers as L
from zoo_gen.architecture.layers import INPUT, Layer, Shape
from zoo_gen.architecture.shapes import output_shape
from zoo_gen.errors import unknown_name
from zoo_gen.files.schema import Schema

Size = Annotated[int, Strict(), Field(gt=0)]
Flag = Annotated[bool, Strict()]
Epsilon = Annotated[float, Strict(), Field(gt=0)]


def _lengths(least: int) -> BeforeValidator:
    """Return what checks one length for both directions, or one for each."""

    def check(value: Any) -> Any:
        both = list(value) if isinstance(value, list | tuple) else [value]
        if len(both) not in (1, 2) or not all(type(length) is int and length >= least for length in both):
            raise ValueError(f"{value!r} is no length; expected a whole number from {least} on, or two: [down, across]")
        return tuple(both) if isinstance(value, list | tuple) else value

    return BeforeValidator(check)


Lengths = Annotated[int | tuple[int, int], _lengths(1)]
Padding = Annotated[int | tuple[int, int], _lengths(0)]


def _without(values: dict[str, Any], key: str) -> dict[str, Any]:
    """Leave out a key that nobody set, so that what older versions wrote of a layer stays as it is."""
    return {name: value for name, value in values.items() if name != key or value is not None}


class ConvolutionSpec(Schema):
    """A convolution with `channels` kernels; `padding` "same" keeps the size of the image.

    `groups` as many as the channels before it make it depthwise.
    """

    type: Literal["convolution"] = "convolution"
    channels: Size
    kernel: Lengths
    stride: Lengths = 1
    padding: Padding | Literal["same"] = 0
    bias: Flag = True
    groups: Size | None = None  # 1

    @model_serializer(mode="wrap")
    def _as_older_versions(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(handler(self), "groups")


class PoolingSpec(Schema):
    """Pooling over windows of `size`, which touch unless `stride` says otherwise."""

    type: Literal["max_pooling", "average_pooling"]
    size: Lengths
    stride: Lengths | None = None
    padding: Padding | None = None  # 0

    @model_serializer(mode="wrap")
    def _as_older_versions(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(handler(self), "padding")


class LinearSpec(Schema):
    """A fully connected layer of `units`, at every step of a sequence; the last one has a unit a class."""

    type: Literal["linear"] = "linear"
    units: Size
    bias: Flag = True


class RNNSpec(Schema):
    """A recurrent layer of `units`, torch.nn.RNN; it gives its last state, or with `sequence` that of every step."""

    type: Literal["rnn"] = "rnn"
    units: Size
    function: Literal["tanh", "relu"] = "tanh"
    bias: Flag = True
    sequence: Flag = False


class GRUSpec(Schema):
    """A gated recurrent layer of `units`, torch.nn.GRU; it gives states as an `rnn` does."""

    type: Literal["gru"] = "gru"
    units: Size
    bias: Flag = True
    sequence: Flag = False


class PatchEmbeddingSpec(Schema):
    """A convolution whose kernel and stride are patches of `size`, and `tokens`: a sequence of a step a patch."""

    type: Literal["patch_embedding"] = "patch_embedding"
    size: Lengths
    units: Size
    bias: Flag = True


class PositionEmbeddingSpec(Schema):
    """A code added to each step of a sequence: sines, or one that is `learned`."""

    type: Literal["position_embedding"] = "position_embedding"
    learned: Flag = False


class AttentionSpec(Schema):
    """Self-attention of the steps of a sequence; `units` of each head are the features over the heads if not given."""

    type: Literal["attention"] = "attention"
    heads: Size
    units: Size | None = None
    bias: Flag = True


class BatchNormSpec(Schema):
    """Batch normalisation of each channel or feature."""

    type: Literal["batch_norm"] = "batch_norm"
    momentum: Annotated[float, Strict(), Field(gt=0, le=1)] = 0.1
    epsilon: Epsilon = 1e-5
    affine: Flag = True


class LayerNormSpec(Schema):
    """Layer normalisation of whole images or vectors, or of each step of a sequence."""

    type: Literal["layer_norm"] = "layer_norm"
    epsilon: Epsilon = 1e-5
    affine: Flag = True


class GroupNormSpec(Schema):
    """Group normalisation of an image or a vector, whose channels are cut into `groups`."""

    type: Literal["group_norm"] = "group_norm"
    groups: Size
    epsilon: Epsilon = 1e-5
    affine: Flag = True


class InstanceNormSpec(Schema):
    """Instance normalisation: each channel of each image."""

    type: Literal["instance_norm"] = "instance_norm"
    epsilon: Epsilon = 1e-5
    affine: Flag = False


class ActivationSpec(Schema):
    """The model's activation, or always the `function` named here."""

    type: Literal["activation"] = "activation"
    function: L.Function | None = None


class PlainSpec(Schema):
    """A layer without settings. The rate of dropout is a hyper-parameter of the model."""

    type: Literal[
        "dropout",
        "flatten",
        "rows",
        "tokens",
        "class_token",
        "class_token_pooling",
        "global_average_pooling",
        "global_max_pooling",
    ]


class ResidualSpec(Schema):
    """A block of layers whose output is added to its input, or no block, and the output of an earlier layer is added.

    Args:
        layers: the block.
        source: in place of a block, the name of an earlier layer, such as "activation1", or "input".
        shortcut: layers that what is added goes through first, where it has another shape.
    """

    type: Literal["residual"] = "residual"
    layers: "tuple[LayerSpec, ...]" = ()
    source: str | None = None
    shortcut: "tuple[LayerSpec, ...]" = ()


LayerSpec = Annotated[
    ConvolutionSpec
    | PoolingSpec
    | LinearSpec
    | RNNSpec
    | GRUSpec
    | PatchEmbeddingSpec
    | PositionEmbeddingSpec
    | AttentionSpec
    | BatchNormSpec
    | LayerNormSpec
    | GroupNormSpec
    | InstanceNormSpec
    | ActivationSpec
    | PlainSpec
    | ResidualSpec,
    Field(discriminator="type"),
]
ResidualSpec.model_rebuild()


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
