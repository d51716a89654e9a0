"""Random CNNs: convolutional networks drawn from ranges of depth, channels, kernels, strides and functions.

Each choice is a pure function of the seed, the number of the network, what is chosen and the layer. So the first ten
networks of fifty are the ten, and another choice more leaves the others as they are.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, Strict, model_validator

from zoo_gen.architecture.layers import Activation, Shape, layers_to_json
from zoo_gen.architecture.registry import Layers, network
from zoo_gen.architecture.specs import (
    ActivationSpec,
    ConvolutionSpec,
    LayerSpec,
    LinearSpec,
    PlainSpec,
    PoolingSpec,
    ResidualSpec,
)
from zoo_gen.files.schema import Count, Schema

Choice = TypeVar("Choice")
Choices = Annotated[tuple[Choice, ...], Field(min_length=1)]
Whole = Annotated[int, Strict(), Field(ge=0)]

_DRAWS_A_NETWORK = 100  # that may be refused, as too large, too small or there already, for each that is wanted


class RandomCNNs(Schema):
    """CNNs of which each layer is drawn from lists, every entry as likely as another.

    A network is `depth` blocks of a convolution that is padded by half of its kernel, a function and perhaps pooling
    over 2 x 2 pixels; then flattened values or the mean of each channel; perhaps a hidden linear layer; and the
    outputs. Images of one pixel are pooled no further, so that every network that can be drawn computes. No two
    networks are equal. In the manner of the CNN Wild Park (Kofinas et al., ICLR 2024), whose `residuals` are a share
    of blocks, here of those whose shape stays: their input is added to their output.

    Args:
        count: of networks.
        seed: of the draws.
        depth: least and most blocks.
        channels: of a convolution.
        kernels: sides of a convolution's windows.
        strides: of a convolution.
        activations: functions of a block; the model's own hyper-parameter if there are none.
        pooling: of a block.
        residuals: how likely a block whose shape stays is a residual one.
        heads: what makes the last image flat.
        dense: units of the hidden linear layer; 0 for no such layer.
        parameters: least and most of a network.
    """

    count: Count
    seed: Annotated[int, Strict(), Field(ge=0, lt=2**63)] = 0
    depth: tuple[Count, Count] = (2, 4)
    channels: Choices[Count] = (4, 8, 16)
    kernels: Choices[Count] = (3, 5)
    strides: Choices[Count] = (1, 2)
    activations: tuple[Activation, ...] = ()
    pooling: Choices[Literal["none", "max", "average"]] = ("none",)
    residuals: Annotated[float, Strict(), Field(ge=0, le=1)] = 0.0
    heads: Choices[Literal["flatten", "global_average_pooling"]] = ("global_average_pooling",)
    dense: Choices[Whole] = (0,)
    parameters: tuple[Count, Count] = (1, 1_000_000)

    @model_validator(mode="after")
    def _ranges_hold_something(self) -> Self:
        for name in ("depth", "parameters"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: [{low}, {high}] is empty; expected [least, most]")
        for name in ("channels", "kernels", "strides", "activations", "pooling", "heads", "dense"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: holds a value twice; expected each once")
        return self

    @property
    def names(self) -> list[str]:
        """The names of the networks."""
        return [f"cnn_{number}" for number in range(self.count)]

    def draw(self, input_shape: Shape, n_outputs: int) -> list[Layers]:
        """Return the networks for images of a shape (channel, height, width) and so many outputs.

        Raises:
            ValueError: the data is no images, or the lists do not give so many different networks of such sizes.
        """
        if len(input_shape) != 3:
            shape = " x ".join(map(str, input_shape))
            raise ValueError(f"reads images (channel, height, width); these inputs are {shape}")
        drawn: dict[str, Layers] = {}
        least, most = self.parameters
        for number in range(_DRAWS_A_NETWORK * self.count):
            layers = Layers(name="layers", layers=tuple(self._layers(number, input_shape, n_outputs)))
            candidate = network(layers, input_shape, n_outputs)
            if least <= candidate.layout.size <= most:
                drawn.setdefault(repr(layers_to_json(candidate.layers)), layers)
            if len(drawn) == self.count:
                return list(drawn.values())
        raise ValueError(
            f"gave {len(drawn)} different networks of {least:,} to {most:,} parameters in {number + 1:,} draws; "
            f"expected {self.count}: longer lists, wider `parameters`, or a smaller count"
        )

    def _layers(self, number: int, input_shape: Shape, n_outputs: int) -> Iterator[LayerSpec]:
        """Yield the layers of a network that is drawn."""
        least, most = self.depth
        before, sides = input_shape[0], input_shape[1:]
        for block in range(self._choose(number, "depth", 0, range(least, most + 1))):
            channels = self._choose(number, "channels", block, self.channels)
            kernel = self._choose(number, "kernels", block, self.kernels)
            stride = self._choose(number, "strides", block, self.strides)
            function = self._choose(number, "activations", block, self.activations) if self.activations else None
            pooling = self._choose(number, "pooling", block, self.pooling)
            convolution = ConvolutionSpec(channels=channels, kernel=kernel, stride=stride, padding=kernel // 2)
            layers: list[LayerSpec] = [convolution, ActivationSpec(function=function)]
            after = tuple((side + 2 * (kernel // 2) - kernel) // stride + 1 for side in sides)
            stays = (before, *sides) == (channels, *after)
            if stays and self._share(number, "residuals", block) < self.residuals:
                layers = [ResidualSpec(layers=tuple(layers))]
            before, sides = channels, after
            if pooling != "none" and min(sides) > 1:
                layers.append(PoolingSpec(type="max_pooling" if pooling == "max" else "average_pooling", size=2))
                sides = tuple(side // 2 for side in sides)
            yield from (*layers, PlainSpec(type="dropout"))
        yield PlainSpec(type=self._choose(number, "heads", 0, self.heads))
        if units := self._choose(number, "dense", 0, self.dense):
            function = self._choose(number, "activations", most, self.activations) if self.activations else None
            yield from (LinearSpec(units=units), ActivationSpec(function=function), PlainSpec(type="dropout"))
        yield LinearSpec(units=n_outputs)

    def _choose(self, number: int, what: str, layer: int, among: Sequence[Choice]) -> Choice:
        return among[int(self._share(number, what, layer) * len(among))]

    def _share(self, number: int, what: str, layer: int) -> float:
        """Return a number that is uniform in [0, 1), by a hash as counter."""
        digest = hashlib.sha256(f"{self.seed}:{number}:{what}:{layer}".encode()).digest()
        return int.from_bytes(digest[:6]) / 2**48
