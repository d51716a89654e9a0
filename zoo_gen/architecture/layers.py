"""The layers that networks are made of, and the shapes, parameters and symmetries of a sequence of them.

One sequence drives the plain torch module, the layout of the stored vector and the stacked computation of a
population, so the three cannot drift apart. Layers are counted by kind (convolution1, linear1, ...), so that a dropout
layer more or less never renames a parameter.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from zoo_gen.architecture.layout import Move, Parameter, ParameterLayout, Symmetry

Activation = Literal["tanh", "relu", "leaky_relu", "sigmoid", "gelu", "silu"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
# sine is sin(30 x), with SIREN's frequency (Sitzmann et al., 2020); the others stand in published zoos only.
Function = Activation | Literal["sine", "elu", "celu", "selu", "identity"]
Shape = tuple[int, ...]  # of one hidden value: (channel, height, width) or (feature,)


@dataclass(frozen=True)
class Convolution:
    """A 2D convolution with a square kernel: `weight` (outputs, inputs, kernel, kernel), `bias` (outputs,) or none."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int
    bias: bool


@dataclass(frozen=True)
class Linear:
    """A fully connected layer: `weight` (outputs, inputs), `bias` (outputs,) or none."""

    name: str
    inputs: int
    outputs: int
    bias: bool


@dataclass(frozen=True)
class Pooling:
    """The maximum or mean of square windows."""

    name: str
    kind: Literal["max", "average"]
    size: int
    stride: int


@dataclass(frozen=True)
class GlobalPooling:
    """The mean of each channel over all positions: (channel, height, width) to (channel,)."""

    name: str


@dataclass(frozen=True)
class Flatten:
    """Images to vectors, channel by channel, or position by position as TensorFlow does."""

    name: str
    channels_last: bool = False


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
    """Batch normalisation: `weight`, `bias`, `running_mean`, `running_var`, each (features,). Published zoos only."""

    name: str
    features: int
    epsilon: float


@dataclass(frozen=True)
class Residual:
    """The first `channels` channels of an earlier output, added to the first of this one. Published zoos only."""

    name: str
    source: str
    channels: int


Layer = Convolution | Linear | Pooling | GlobalPooling | Flatten | Activate | Dropout | Shift | Normalization | Residual
Parametric = Convolution | Linear | Normalization


def output_shape(layer: Layer, shape: Shape) -> Shape:
    """Return the shape of one hidden value after a layer.

    Raises:
        ValueError: the layer cannot follow a value of that shape; the message says what it needs.
    """
    if isinstance(layer, Convolution | Pooling | GlobalPooling) and len(shape) != 3:
        raise ValueError("needs an image (channel, height, width), but the values before it are flat")
    if isinstance(layer, Linear) and len(shape) != 1:
        raise ValueError("needs flat values; expected a flatten or global_average_pooling layer before it")
    if isinstance(layer, Convolution | Linear) and layer.inputs != shape[0]:
        raise ValueError(f"reads {layer.inputs} inputs, but the values before it have {shape[0]}")
    if isinstance(layer, Convolution):
        return (layer.outputs, *_windows(shape, layer.kernel, layer.stride, layer.padding))
    if isinstance(layer, Pooling):
        return (shape[0], *_windows(shape, layer.size, layer.stride, 0))
    if isinstance(layer, Linear):
        return (layer.outputs,)
    if isinstance(layer, GlobalPooling):
        return shape[:1]
    if isinstance(layer, Flatten):
        return (math.prod(shape),)
    return shape


def parameter_layout(layers: Sequence[Layer], input_shape: Shape) -> ParameterLayout:
    """Return where each parameter lies in the flat weight vector, and which hidden units can be reordered."""
    parameters: list[Parameter] = []
    symmetries: list[Symmetry] = []
    shape = input_shape
    hidden: list[Parametric] = []  # the layer whose units are read next, and what normalises them
    units: dict[str, str] = {}  # layer -> the layer whose units it gives
    latest, positions = "", 1
    for layer in layers:
        if isinstance(layer, Flatten):
            positions *= math.prod(shape[1:])
            if layer.channels_last and positions > 1:
                hidden = []  # a unit's inputs are not neighbours then
        if isinstance(layer, Residual):
            # Units of layers that are added to each other can only move together.
            hidden, symmetries = [], [each for each in symmetries if each.layer != units[layer.source]]
        if isinstance(layer, Convolution | Linear):
            if hidden:
                symmetries.append(_symmetry(hidden, positions, reader=layer))
            hidden, latest, positions = [layer], layer.name, 1
        elif isinstance(layer, Normalization) and hidden:
            hidden.append(layer)
        if isinstance(layer, Convolution | Linear | Normalization):
            for role, parameter_shape in _parameter_shapes(layer):
                start = parameters[-1].stop if parameters else 0
                parameters.append(Parameter(layer.name, role, parameter_shape, start))
        units[layer.name] = latest
        shape = output_shape(layer, shape)
    return ParameterLayout(tuple(parameters), tuple(symmetries))


def layers_to_json(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """Return layers as plain data."""
    return [{"layer": type(layer).__name__.lower(), **asdict(layer)} for layer in layers]


def layers_from_json(content: Sequence[dict[str, Any]]) -> tuple[Layer, ...]:
    """Return the layers that plain data describe.

    Raises:
        KeyError, TypeError: they describe none.
    """
    kinds = {kind.__name__.lower(): kind for kind in get_args(Layer)}
    return tuple(kinds[row["layer"]](**{k: v for k, v in row.items() if k != "layer"}) for row in content)


def _windows(shape: Shape, size: int, stride: int, padding: int) -> tuple[int, int]:
    height, width = ((length + 2 * padding - size) // stride + 1 for length in shape[1:])
    if height < 1 or width < 1:
        raise ValueError(f"windows of {size} x {size} do not fit into images of {shape[1]} x {shape[2]}")
    return height, width


def _parameter_shapes(layer: Parametric) -> list[tuple[str, Shape]]:
    if isinstance(layer, Normalization):
        return [(role, (layer.features,)) for role in ("weight", "bias", "running_mean", "running_var")]
    weight: Shape = (layer.outputs, layer.inputs)
    if isinstance(layer, Convolution):
        weight = (*weight, layer.kernel, layer.kernel)
    return [("weight", weight), ("bias", (layer.outputs,))] if layer.bias else [("weight", weight)]


def _symmetry(hidden: Sequence[Parametric], positions: int, *, reader: Convolution | Linear) -> Symmetry:
    layer = hidden[0]
    assert isinstance(layer, Convolution | Linear)  # only what follows one is appended
    own = [Move(f"{each.name}.{role}", axis=0, block=1) for each in hidden for role, _ in _parameter_shapes(each)]
    return Symmetry(layer.name, layer.outputs, (*own, Move(f"{reader.name}.weight", axis=1, block=positions)))
