"""The open grammar of layers: what a manifest writes of each. `sequencer` makes layers of it."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, Strict, model_serializer

from zoo_gen.architecture.layers import Function
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
    function: Function | None = None


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
