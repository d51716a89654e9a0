"""Plain torch modules of one model, built from its layers: the reference for the stacked computation."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo_gen.architecture.layers import (
    INPUT,
    Activate,
    Attention,
    Branch,
    ClassToken,
    Convolution,
    Dropout,
    FirstStep,
    Flatten,
    Function,
    GlobalPooling,
    GroupNorm,
    Layer,
    LayerNorm,
    Linear,
    Normalization,
    Pooling,
    PositionEmbedding,
    Recurrent,
    Residual,
    Rows,
    Shape,
    Tokens,
    sources,
)
from zoo_gen.architecture.shapes import shapes

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


class SequenceRows(nn.Module):
    """Images to sequences of their rows: (image, channel, height, width) to (image, height, channel x width)."""

    def forward(self, values: Tensor) -> Tensor:
        """Return (image, step, feature)."""
        return values.transpose(1, 2).flatten(2)


def position_codes(steps: int, features: int) -> Tensor:
    """Return the fixed codes of positions, float64 (step, feature): sines and cosines of falling frequencies.

    Feature 2 i of step p is sin(p / 10000^(2 i / features)), and the one after it the cosine (Vaswani et al., 2017,
    section 3.5).
    """
    even = torch.arange(0, features, 2, dtype=torch.float64)
    angles = torch.arange(steps, dtype=torch.float64).unsqueeze(1) * 10_000.0 ** (-even / features)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :features]


class PositionTokens(nn.Module):
    """Images to sequences of their positions: (image, channel, height, width) to (image, position, channel)."""

    def forward(self, values: Tensor) -> Tensor:
        """Return (image, step, feature)."""
        return values.flatten(2).transpose(1, 2)


class AddPositions(nn.Module):
    """A code of its own added to each step of a sequence, learned or fixed."""

    codes: Tensor | None

    def __init__(self, steps: int, features: int, *, learned: bool) -> None:
        super().__init__()
        if learned:
            self.weight = nn.Parameter(torch.empty(steps, features).normal_(std=0.02))
        # Moves with the module; nothing of it is stored.
        self.register_buffer("codes", None if learned else position_codes(steps, features), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Return (image, step, feature) with the codes."""
        return values + (self.weight if self.codes is None else self.codes.to(values))


class PutClassToken(nn.Module):
    """A learned step in front of each sequence."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, features).normal_(std=0.02))

    def forward(self, values: Tensor) -> Tensor:
        """Return (image, step + 1, feature)."""
        return torch.cat([self.weight.expand(len(values), 1, -1), values], dim=1)


class TakeFirstStep(nn.Module):
    """The first step of each sequence."""

    def forward(self, values: Tensor) -> Tensor:
        """Return (image, feature)."""
        return values[:, 0]


class SelfAttention(nn.Module):
    """Self-attention of the steps of a sequence, whose four products are linear layers."""

    def __init__(self, features: int, heads: int, units: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(features, heads * units, bias=bias) for _ in range(3))
        self.output = nn.Linear(heads * units, features, bias=bias)

    def forward(self, values: Tensor) -> Tensor:
        """Return (image, step, feature)."""
        query, key, value = (
            layer(values).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        attended = functional.scaled_dot_product_attention(query, key, value)
        return self.output(attended.transpose(1, 2).flatten(2))


class OverPositions(nn.Module):
    """The mean or maximum over all positions of an image, or over all steps of a sequence."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, values: Tensor) -> Tensor:
        """Return (image, channel) of (image, channel, height, width), or (image, feature) of (image, step, feature)."""
        if values.dim() == 3:
            return values.mean(dim=1) if self.kind == "average" else values.amax(dim=1)
        pool = functional.adaptive_avg_pool2d if self.kind == "average" else functional.adaptive_max_pool2d
        return pool(values, 1).flatten(1)


class RNN(nn.RNN):
    """A recurrent layer that gives states alone: of every step, or the last one."""

    every: bool

    def forward(self, values: Tensor) -> Tensor:  # type: ignore[override]
        """Return (image, step, feature) or (image, feature) of (image, step, feature)."""
        states = super().forward(values)[0]
        return states if self.every else states[:, -1]


class GRU(nn.GRU):
    """As `RNN`, with the gates of a GRU."""

    every: bool

    def forward(self, values: Tensor) -> Tensor:  # type: ignore[override]
        """Return (image, step, feature) or (image, feature) of (image, step, feature)."""
        states = super().forward(values)[0]
        return states if self.every else states[:, -1]


class AddEarlier(nn.Module):
    """An earlier output added to this one: all of it, or its first channels to the first of this one."""

    def __init__(self, source: str, channels: int | None) -> None:
        super().__init__()
        self.source, self.channels = source, channels

    def forward(self, values: Tensor, earlier: Tensor) -> Tensor:
        """Return values (image, channel, ...) with what is added."""
        if self.channels is None:
            return values + earlier
        summed = values[:, : self.channels] + earlier[:, : self.channels]
        return torch.cat([summed, values[:, self.channels :]], dim=1)


class Earlier(nn.Module):
    """An earlier output in place of this one."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source

    def forward(self, _: Tensor, earlier: Tensor) -> Tensor:
        """Return the earlier output."""
        return earlier


class BranchedSequential(nn.Sequential):
    """Layers in order, some of which also read what an earlier one gave."""

    def forward(self, values: Tensor) -> Tensor:
        """Return what the last layer gives."""
        readers = (AddEarlier, Earlier)
        read = {module.source for module in self if isinstance(module, readers)}
        earlier = {INPUT: values}
        for name, module in self.named_children():
            values = module(values, earlier[module.source]) if isinstance(module, readers) else module(values)
            if name in read:
                earlier[name] = values
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


def build_module(
    layers: Sequence[Layer], input_shape: Shape, *, activation: Function | None, dropout: float = 0.0
) -> nn.Sequential:
    """Return one model that maps inputs (image, channel, height, width) to outputs (image, class).

    Its `state_dict` has the names of the parameter layout. The initial weights are torch's own defaults.

    Args:
        layers: its layers in order.
        input_shape: of what it reads.
        activation: the function of the layers that name none.
        dropout: the rate of every dropout layer.
    """
    kind = BranchedSequential if sources(layers) else nn.Sequential
    modules = [
        (layer.name, _module(layer, activation, dropout, flat=len(shape) == 1))
        for layer, shape in zip(layers, shapes(layers, input_shape), strict=True)
    ]
    return kind(OrderedDict(modules))


def _module(layer: Layer, activation: Function | None, dropout: float, *, flat: bool) -> nn.Module:
    if isinstance(layer, Convolution):
        return nn.Conv2d(
            *(layer.inputs, layer.outputs, layer.kernels),
            stride=layer.strides,
            padding=layer.paddings,
            groups=layer.groups,
            bias=layer.bias,
        )
    if isinstance(layer, Linear):
        return nn.Linear(layer.inputs, layer.outputs, bias=layer.bias)
    if isinstance(layer, Recurrent):
        sizes = layer.inputs, layer.outputs
        recurrent: RNN | GRU
        if layer.kind == "rnn":
            recurrent = RNN(*sizes, nonlinearity=layer.function, bias=layer.bias, batch_first=True)
        else:
            recurrent = GRU(*sizes, bias=layer.bias, batch_first=True)
        recurrent.every = layer.sequence
        return recurrent
    if isinstance(layer, Pooling):
        return (nn.MaxPool2d if layer.kind == "max" else nn.AvgPool2d)(layer.sizes, layer.strides, layer.paddings)
    if isinstance(layer, GlobalPooling):
        return OverPositions(layer.kind)
    if isinstance(layer, Flatten):
        return FlattenPositions() if layer.channels_last else nn.Flatten()
    if isinstance(layer, Rows):
        return SequenceRows()
    if isinstance(layer, Tokens):
        return PositionTokens()
    if isinstance(layer, ClassToken):
        return PutClassToken(layer.features)
    if isinstance(layer, PositionEmbedding):
        return AddPositions(layer.steps, layer.features, learned=layer.learned)
    if isinstance(layer, Attention):
        return SelfAttention(layer.features, layer.heads, layer.units, bias=layer.bias)
    if isinstance(layer, FirstStep):
        return TakeFirstStep()
    if isinstance(layer, Normalization):
        batch_norm = nn.BatchNorm1d if flat else nn.BatchNorm2d
        return batch_norm(layer.features, eps=layer.epsilon, momentum=layer.momentum, affine=layer.affine)
    if isinstance(layer, LayerNorm):
        return nn.LayerNorm(layer.shape, eps=layer.epsilon, elementwise_affine=layer.affine)
    if isinstance(layer, GroupNorm):
        return nn.GroupNorm(layer.groups, layer.channels, eps=layer.epsilon, affine=layer.affine)
    if isinstance(layer, Residual):
        return AddEarlier(layer.source, layer.channels)
    if isinstance(layer, Branch):
        return Earlier(layer.source)
    if isinstance(layer, Dropout):
        return nn.Dropout(dropout)
    if isinstance(layer, Activate):
        function = layer.function or activation
        assert function is not None  # a manifest whose layers need an activation has been checked to give one
        return _MODULES[function]()
    return Add(layer.value)
