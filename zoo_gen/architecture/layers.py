"""The layers that networks are made of.

One sequence drives the plain torch module, the layout of the stored vector and the stacked computation of a
population, so the three cannot drift apart. Layers are counted by kind (convolution1, linear1, ...), so that a dropout
layer more or less never renames a parameter. A sequence may branch: some layers also read what an earlier one gave.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

Activation = Literal["tanh", "relu", "leaky_relu", "sigmoid", "gelu", "silu"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
# sine is sin(30 x), with SIREN's frequency (Sitzmann et al., 2020); the others stand in published zoos only.
Function = Activation | Literal["sine", "elu", "celu", "selu", "identity"]
# Of one hidden value: an image (channel, height, width), a sequence (step, feature) or flat (feature,).
Shape = tuple[int, ...]
Pair = tuple[int, int]  # down, across
INPUT = "input"  # what the network reads, where a layer names what it reads
_LATER = {"later": True}  # of a field that older zoos do not have: left out of plain data while it has its default


@dataclass(frozen=True)
class Convolution:
    """A 2D convolution: `weight` (outputs, inputs / groups, kernel, kernel width), `bias` (outputs,) or none.

    Widths that are not given are as the heights, which `kernel`, `stride` and `padding` are.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int
    bias: bool
    groups: int = field(default=1, metadata=_LATER)
    kernel_width: int | None = field(default=None, metadata=_LATER)
    stride_width: int | None = field(default=None, metadata=_LATER)
    padding_width: int | None = field(default=None, metadata=_LATER)

    @property
    def kernels(self) -> Pair:
        """Height and width of the kernel."""
        return _pair(self.kernel, self.kernel_width)

    @property
    def strides(self) -> Pair:
        """The steps down and across."""
        return _pair(self.stride, self.stride_width)

    @property
    def paddings(self) -> Pair:
        """The zeros above and below, and at both sides."""
        return _pair(self.padding, self.padding_width)

    @property
    def is_plain(self) -> bool:
        """Whether it has one group and is square in everything, which is what our own kernels compute."""
        return self.groups == 1 and all(down == across for down, across in (self.kernels, self.strides, self.paddings))


@dataclass(frozen=True)
class Linear:
    """A fully connected layer, at every step of a sequence: `weight` (outputs, inputs), `bias` (outputs,) or none."""

    name: str
    inputs: int
    outputs: int
    bias: bool


@dataclass(frozen=True)
class Recurrent:
    """A recurrent layer over the steps of a sequence, with the parameters and equations of torch.nn.RNN or GRU.

    `weight_ih_l0` (gates x outputs, inputs), `weight_hh_l0` (gates x outputs, outputs), and with biases `bias_ih_l0`
    and `bias_hh_l0` (gates x outputs,). It gives its last state, or with `sequence` that of every step.
    """

    name: str
    kind: Literal["rnn", "gru"]
    inputs: int
    outputs: int
    bias: bool
    sequence: bool
    function: Literal["tanh", "relu"] = "tanh"  # of an RNN

    @property
    def gates(self) -> int:
        """How many times each hidden unit stands in a parameter."""
        return 3 if self.kind == "gru" else 1


@dataclass(frozen=True)
class Pooling:
    """The maximum or mean of windows; zeros that pad an image count in its means, as torch does.

    Widths that are not given are as the heights, which `size`, `stride` and `padding` are.
    """

    name: str
    kind: Literal["max", "average"]
    size: int
    stride: int
    padding: int = field(default=0, metadata=_LATER)
    size_width: int | None = field(default=None, metadata=_LATER)
    stride_width: int | None = field(default=None, metadata=_LATER)
    padding_width: int | None = field(default=None, metadata=_LATER)

    @property
    def sizes(self) -> Pair:
        """Height and width of the windows."""
        return _pair(self.size, self.size_width)

    @property
    def strides(self) -> Pair:
        """The steps down and across."""
        return _pair(self.stride, self.stride_width)

    @property
    def paddings(self) -> Pair:
        """What is added above and below, and at both sides."""
        return _pair(self.padding, self.padding_width)

    @property
    def is_plain(self) -> bool:
        """Whether its windows are square and nothing is padded, which is what our own kernels compute."""
        return self.sizes[0] == self.sizes[1] and self.strides[0] == self.strides[1] and not any(self.paddings)


@dataclass(frozen=True)
class GlobalPooling:
    """The mean or maximum of each channel over all positions, or of each feature over all steps of a sequence."""

    name: str
    kind: Literal["average", "max"] = field(default="average", metadata=_LATER)


@dataclass(frozen=True)
class Flatten:
    """Images to vectors, channel by channel, or position by position as TensorFlow does; sequences step by step."""

    name: str
    channels_last: bool = False


@dataclass(frozen=True)
class Rows:
    """Images to sequences: a step a row, whose features are its pixels, channel by channel."""

    name: str


@dataclass(frozen=True)
class Tokens:
    """Images to sequences: a step a position, row after row, whose features are its channels."""

    name: str


@dataclass(frozen=True)
class ClassToken:
    """A learned step in front of a sequence, the same for every image: `weight` (1, features)."""

    name: str
    features: int


@dataclass(frozen=True)
class PositionEmbedding:
    """A code of its own added to each step of a sequence: `weight` (steps, features) if learned, else sines.

    The sines and cosines are those of Vaswani et al. ("Attention is all you need", 2017, section 3.5).
    """

    name: str
    steps: int
    features: int
    learned: bool


@dataclass(frozen=True)
class Attention:
    """Self-attention of the steps of a sequence: products `query`, `key`, `value` and `output`, each a linear layer.

    Each of `heads` has `units` queries, keys and values: `query.weight` (heads x units, features) and so on,
    `output.weight` (features, heads x units), and with biases one of each.
    """

    name: str
    features: int
    heads: int
    units: int
    bias: bool

    @property
    def inner(self) -> int:
        """The units of all heads."""
        return self.heads * self.units


@dataclass(frozen=True)
class FirstStep:
    """The first step of a sequence, where a class token is."""

    name: str


@dataclass(frozen=True)
class Activate:
    """An activation function: the one named here, or else the one that the model's hyper-parameters name."""

    name: str
    function: Function | None = None


@dataclass(frozen=True)
class Dropout:
    """Hidden values set to 0 in training, at the rate that the model's hyper-parameters say."""

    name: str


@dataclass(frozen=True)
class Shift:
    """A constant added to every value."""

    name: str
    value: float


@dataclass(frozen=True)
class Normalization:
    """Batch normalisation: `weight`, `bias`, `running_mean`, `running_var`, each (features,).

    In zoos trained here the running statistics lie in the array of `buffers`, in published ones among the weights.
    """

    name: str
    features: int
    epsilon: float
    momentum: float = field(default=0.1, metadata=_LATER)
    affine: bool = field(default=True, metadata=_LATER)
    buffers: bool = field(default=False, metadata=_LATER)


@dataclass(frozen=True)
class LayerNorm:
    """Layer normalisation of a whole image or vector, or of each step of a sequence: `weight`, `bias` of `shape`."""

    name: str
    shape: Shape
    epsilon: float
    affine: bool


@dataclass(frozen=True)
class GroupNorm:
    """Group normalisation: `weight`, `bias`, each (channels,). With a group a channel it is instance normalisation."""

    name: str
    groups: int
    channels: int
    epsilon: float
    affine: bool


@dataclass(frozen=True)
class Residual:
    """An earlier output added to this one: all of it, or in some published zoos its first `channels` alone."""

    name: str
    source: str
    channels: int | None = None


@dataclass(frozen=True)
class Branch:
    """An earlier output in place of this one: where a shortcut begins, after the block that it goes around."""

    name: str
    source: str


Embedding = ClassToken | PositionEmbedding
Parametric = Convolution | Linear | Recurrent | Normalization | LayerNorm | GroupNorm | Embedding | Attention
Layer = (
    Parametric
    | Pooling
    | GlobalPooling
    | Flatten
    | Rows
    | Tokens
    | FirstStep
    | Activate
    | Dropout
    | Shift
    | Residual
    | Branch
)


def sources(layers: Sequence[Layer]) -> frozenset[str]:
    """Return the names of the layers whose outputs are read again later."""
    return frozenset(layer.source for layer in layers if isinstance(layer, Residual | Branch))


def layers_to_json(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """Return layers as plain data."""
    return [{"layer": type(layer).__name__.lower(), **_values(layer)} for layer in layers]


def layers_from_json(content: Sequence[dict[str, Any]]) -> tuple[Layer, ...]:
    """Return the layers that plain data describe.

    Raises:
        KeyError, TypeError: they describe none.
    """
    kinds = {kind.__name__.lower(): kind for kind in get_args(Layer)}
    rows = [{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()} for row in content]
    return tuple(kinds[row["layer"]](**{k: v for k, v in row.items() if k != "layer"}) for row in rows)


def _values(layer: Layer) -> dict[str, Any]:
    values = {each: getattr(layer, each.name) for each in fields(layer)}
    return {
        each.name: value for each, value in values.items() if not ("later" in each.metadata and value == each.default)
    }


def _pair(down: int, across: int | None) -> Pair:
    return down, down if across is None else across
