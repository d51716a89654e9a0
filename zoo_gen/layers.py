"""The layers that networks are made of, and what follows from a sequence of them: shapes, parameters, symmetries.

One sequence drives the plain torch module, the layout of the stored vector and the stacked computation of a
population, so the three cannot drift apart. Layers are counted by kind (convolution1, linear1, ...), so that a dropout
layer more or less never renames a parameter.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from zoo_gen.layout import Move, Parameter, ParameterLayout, Symmetry

Activation = Literal["tanh", "relu", "leaky_relu", "sigmoid", "gelu", "silu"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
Function = Activation | Literal["sine"]  # sine is sin(30 x), with SIREN's frequency (Sitzmann et al., 2020)
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
    """Images to vectors, channel by channel."""

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


Layer = Convolution | Linear | Pooling | GlobalPooling | Flatten | Activate | Dropout | Shift


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
    hidden: tuple[Convolution | Linear, int] | None = None  # the layer whose units are read next, and its positions
    for layer in layers:
        if isinstance(layer, Flatten) and hidden:
            hidden = hidden[0], hidden[1] * math.prod(shape[1:])
        if isinstance(layer, Convolution | Linear):
            if hidden:
                symmetries.append(_symmetry(*hidden, reader=layer))
            for role, its_shape in _parameter_shapes(layer):
                start = parameters[-1].stop if parameters else 0
                parameters.append(Parameter(layer.name, role, its_shape, start))
            hidden = layer, 1
        shape = output_shape(layer, shape)
    return ParameterLayout(tuple(parameters), tuple(symmetries))


def _windows(shape: Shape, size: int, stride: int, padding: int) -> tuple[int, int]:
    height, width = ((length + 2 * padding - size) // stride + 1 for length in shape[1:])
    if height < 1 or width < 1:
        raise ValueError(f"windows of {size} x {size} do not fit into images of {shape[1]} x {shape[2]}")
    return height, width


def _parameter_shapes(layer: Convolution | Linear) -> list[tuple[Literal["weight", "bias"], Shape]]:
    weight: Shape = (layer.outputs, layer.inputs)
    if isinstance(layer, Convolution):
        weight = (*weight, layer.kernel, layer.kernel)
    return [("weight", weight), ("bias", (layer.outputs,))] if layer.bias else [("weight", weight)]


def _symmetry(layer: Convolution | Linear, positions: int, *, reader: Convolution | Linear) -> Symmetry:
    own = [Move(f"{layer.name}.{role}", axis=0, block=1) for role, _ in _parameter_shapes(layer)]
    return Symmetry(layer.name, layer.outputs, (*own, Move(f"{reader.name}.weight", axis=1, block=positions)))
