"""The layers of a network as stages: a product, then pooling, activation and dropout in that order."""

import math
from dataclasses import dataclass
from typing import Literal

from zoo_gen.architecture.layers import (
    Activate,
    Convolution,
    Dropout,
    Flatten,
    GlobalPooling,
    Linear,
    Pooling,
    Shape,
    Shift,
)
from zoo_gen.architecture.network import Network
from zoo_gen.architecture.shapes import output_shape
from zoo_gen.population.gpu.served import unserved

Cube = tuple[int, int, int]  # channel, height, width
FUNCTIONS = ("relu", "leaky_relu", "tanh", "sigmoid", "gelu", "silu", "sine")
LARGEST_WINDOW = 3  # the sides of a pool that one thread holds


class UnservedError(Exception):
    """Why a network is not trained in one multiprocessor."""


@dataclass(frozen=True)
class Stage:
    """A product and the pointwise layers behind it; or the mean of each channel, which has neither."""

    name: str
    kind: Literal["convolution", "linear", "mean"]
    before: Cube  # what it reads, of one image; (feature, 1, 1) for a linear layer
    source: Cube  # the same values as the stage before holds them
    product: Cube  # what the product gives
    after: Cube  # what is left of it after pooling
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    pool: int = 1  # the sides of a window
    maximum: bool = False
    activates: bool = False
    function: str | None = None  # of all models; None: each model's own
    drop: int = -1  # which dropout layer of the network follows, if one does
    start: int = 0  # of its weights in a model's parameters
    bias: int = -1  # where its biases begin, if it has any

    @property
    def inputs(self) -> int:
        """Weights of one output."""
        return self.before[0] * self.kernel**2

    @property
    def n_weights(self) -> int:
        """Parameters, the biases, which follow the kernels, included."""
        return self.product[0] * (self.inputs + (self.bias >= 0))

    def feature(self, row: int) -> int:
        """Return the number of the flat input that a value of the stage before is, counted as it lies there."""
        channels, height, width = self.source
        pixel, channel = divmod(row, channels)
        return channel * height * width + pixel


@dataclass(frozen=True)
class StagedNetwork:
    """The stages of a network, and what is true of it as a whole."""

    image: Cube
    stages: tuple[Stage, ...]
    dropped: tuple[int, ...]  # values of an image that each dropout layer meets
    shift: float  # added to the outputs


def read(network: Network) -> StagedNetwork:
    """Return the stages of a network.

    Raises:
        UnservedError: a layer, or the order of the layers, has no stage here.
    """
    if (lacking := unserved(network.layers, network.input_shape)) is not None:
        raise UnservedError(f"kernels do not know {lacking.name}")
    starts = {parameter.name: parameter.start for parameter in network.layout.parameters}
    rest = [layer for layer in network.layers if not isinstance(layer, Shift)]
    shift = sum(layer.value for layer in network.layers if isinstance(layer, Shift))
    shape: Shape = network.input_shape
    held = _cube(network.input_shape)
    stages: list[Stage] = []
    dropped: list[int] = []
    while rest:
        layer = rest.pop(0)
        if isinstance(layer, Flatten):
            if layer.channels_last and len(shape) == 3 and shape[1] * shape[2] > 1:
                raise UnservedError("values are flattened position by position")
            shape = output_shape(layer, shape)
            continue
        after = output_shape(layer, shape)
        if isinstance(layer, GlobalPooling):
            if not stages:
                raise UnservedError("it begins with pooling")
            stages.append(Stage(layer.name, "mean", held, held, _cube(after), _cube(after)))
            shape, held = after, _cube(after)
            continue
        if not isinstance(layer, Convolution | Linear):
            raise UnservedError(f"{layer.name} follows {stages[-1].name if stages else 'the images'}")
        product = _cube(after)
        pool, maximum, activates, function, drop = 1, False, False, None, -1
        if rest and isinstance(rest[0], Pooling) and isinstance(layer, Convolution):
            window = rest.pop(0)
            assert isinstance(window, Pooling)
            if window.size != window.stride or window.size > LARGEST_WINDOW:
                raise UnservedError(f"the windows of {window.name} overlap, or are larger than {LARGEST_WINDOW}")
            pool, maximum, after = window.size, window.kind == "max", output_shape(window, after)
        if rest and isinstance(rest[0], Activate):
            activates, function = True, rest.pop(0).function  # type: ignore[union-attr]
            if function not in (None, *FUNCTIONS):
                raise UnservedError(f"activation {function}")
        if rest and isinstance(rest[0], Dropout):
            rest.pop(0)
            drop = len(dropped)
            dropped.append(math.prod(after))
        stages.append(
            Stage(
                name=layer.name,
                kind="convolution" if isinstance(layer, Convolution) else "linear",
                before=_cube(shape),
                source=held,
                product=product,
                after=_cube(after),
                kernel=layer.kernel if isinstance(layer, Convolution) else 1,
                stride=layer.stride if isinstance(layer, Convolution) else 1,
                padding=layer.padding if isinstance(layer, Convolution) else 0,
                pool=pool,
                maximum=maximum,
                activates=activates,
                function=function,
                drop=drop,
                start=starts[f"{layer.name}.weight"],
                bias=starts.get(f"{layer.name}.bias", -1),
            )
        )
        shape, held = after, _cube(after)
    last = stages[-1]
    if any(stage.inputs >= 2**15 for stage in stages):
        raise UnservedError("an output has too many inputs")
    if last.kind != "linear" or last.activates or last.drop >= 0:
        raise UnservedError(f"it ends with {last.name}")
    return StagedNetwork(_cube(network.input_shape), tuple(stages), tuple(dropped), shift)


def _cube(shape: Shape) -> Cube:
    """Return the shape of flat values as that of an image of one pixel."""
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)
