"""One model as a plain torch module, built from its layers: the reference for everything that is computed stacked."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo_gen.layers import (
    Activate,
    Activation,
    Convolution,
    Dropout,
    Flatten,
    Function,
    GlobalPooling,
    Layer,
    Linear,
    Pooling,
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


_MODULES: dict[Function, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sine": Sine,
}


def build_module(layers: Sequence[Layer], *, activation: Activation | None, dropout: float = 0.0) -> nn.Sequential:
    """Return one model that maps inputs (image, channel, height, width) to outputs (image, class).

    Its `state_dict` has the names of the parameter layout. The initial weights are torch's own defaults.

    Args:
        layers: its layers in order.
        activation: the function of the layers that name none.
        dropout: the rate of every dropout layer.
    """
    return nn.Sequential(OrderedDict((layer.name, _module(layer, activation, dropout)) for layer in layers))


def _module(layer: Layer, activation: Activation | None, dropout: float) -> nn.Module:
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
        return nn.Flatten()
    if isinstance(layer, Dropout):
        return nn.Dropout(dropout)
    if isinstance(layer, Activate):
        function = layer.function or activation
        assert function is not None  # a manifest whose layers need an activation has been checked to give one
        return _MODULES[function]()
    return Add(layer.value)
