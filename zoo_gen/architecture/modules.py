"""Plain torch modules of one model, built from its layers: the reference for the stacked computation."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo_gen.architecture.layers import (
    Activate,
    Convolution,
    Dropout,
    Flatten,
    Function,
    GlobalPooling,
    Layer,
    Linear,
    Normalization,
    Pooling,
    Residual,
)

SINE_FREQUENCY = 30.0


def sine(values: Tensor) -> Tensor:
    """Return sin(30 x), the activation of SIREN (Sitzmann et al., NeurIPS 2020, section 3.2)."""
    return torch.sin(SINE_FREQUENCY * values)


FUNCTIONS: dict[Function, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky_relu": functional.leaky_relu,
    "sigmoid": torch.sigmoid,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "sine": sine,
    "elu": functional.elu,
    "celu": functional.celu,
    "selu": functional.selu,
    "identity": torch.clone,
}


class Sine(nn.Module):
    """sin(30 x), element by element."""

    def forward(self, values: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        return sine(values)


class Add(nn.Module):
    """A constant added to every element."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, values: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        return values + self.value


class FlattenPositions(nn.Module):
    """Images to vectors, position by position: (image, channel, height, width) read as height, width, channel."""

    def forward(self, values: Tensor) -> Tensor:
        """Return (image, feature)."""
        return values.movedim(1, -1).flatten(1)


class AddEarlier(nn.Module):
    """The first channels of an earlier output, added to the first of this one."""

    def __init__(self, source: str, channels: int) -> None:
        super().__init__()
        self.source, self.channels = source, channels

    def forward(self, values: Tensor, earlier: Tensor) -> Tensor:
        """Return values (image, channel, height, width) with what is added."""
        summed = values[:, : self.channels] + earlier[:, : self.channels]
        return torch.cat([summed, values[:, self.channels :]], dim=1)


class ResidualSequential(nn.Sequential):
    """Layers in order, some of which also read what an earlier one gave."""

    def forward(self, values: Tensor) -> Tensor:
        """Return what the last layer gives."""
        sources = {module.source for module in self if isinstance(module, AddEarlier)}
        given: dict[str, Tensor] = {}
        for name, module in self.named_children():
            values = module(values, given[module.source]) if isinstance(module, AddEarlier) else module(values)
            if name in sources:
                given[name] = values
        return values


_MODULES: dict[Function, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sine": Sine,
    "elu": nn.ELU,
    "celu": nn.CELU,
    "selu": nn.SELU,
    "identity": nn.Identity,
}


def build_module(layers: Sequence[Layer], *, activation: Function | None, dropout: float = 0.0) -> nn.Sequential:
    """Return one model that maps inputs (image, channel, height, width) to outputs (image, class).

    Its `state_dict` has the names of the parameter layout. The initial weights are torch's own defaults.

    Args:
        layers: its layers in order.
        activation: the function of the layers that name none.
        dropout: the rate of every dropout layer.
    """
    kind = ResidualSequential if any(isinstance(layer, Residual) for layer in layers) else nn.Sequential
    flat = False  # whether what is normalised are vectors
    modules: list[tuple[str, nn.Module]] = []
    for layer in layers:
        flat = flat or isinstance(layer, Flatten | GlobalPooling | Linear)
        modules.append((layer.name, _module(layer, activation, dropout, flat=flat)))
    return kind(OrderedDict(modules))


def _module(layer: Layer, activation: Function | None, dropout: float, *, flat: bool) -> nn.Module:
    if isinstance(layer, Convolution):
        return nn.Conv2d(
            layer.inputs, layer.outputs, layer.kernel, stride=layer.stride, padding=layer.padding, bias=layer.bias
        )
    if isinstance(layer, Linear):
        return nn.Linear(layer.inputs, layer.outputs, bias=layer.bias)
    if isinstance(layer, Pooling):
        return (nn.MaxPool2d if layer.kind == "max" else nn.AvgPool2d)(layer.size, layer.stride)
    if isinstance(layer, GlobalPooling):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if isinstance(layer, Flatten):
        return FlattenPositions() if layer.channels_last else nn.Flatten()
    if isinstance(layer, Normalization):
        return (nn.BatchNorm1d if flat else nn.BatchNorm2d)(layer.features, eps=layer.epsilon)
    if isinstance(layer, Residual):
        return AddEarlier(layer.source, layer.channels)
    if isinstance(layer, Dropout):
        return nn.Dropout(dropout)
    if isinstance(layer, Activate):
        function = layer.function or activation
        assert function is not None  # a manifest whose layers need an activation has been checked to give one
        return _MODULES[function]()
    return Add(layer.value)
