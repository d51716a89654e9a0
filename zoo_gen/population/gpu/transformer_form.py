"""Which networks are transformers of images that our kernels compute, and their layers by what they do together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from zoo_gen.architecture.layers import (
    Activate,
    Attention,
    ClassToken,
    Convolution,
    Dropout,
    FirstStep,
    GlobalPooling,
    Layer,
    LayerNorm,
    Linear,
    PositionEmbedding,
    Residual,
    Shape,
    Tokens,
)

MOST_STEPS = MOST_FEATURES = MOST_PIXELS = 64  # that one program holds: tokens, their features, pixels of a patch
MOST_HIDDEN = 128  # units between the two linear layers
# Programs that share a model's images, each with a sum of its own of the gradient: enough for a GPU with few models,
# and never a matter of how many there are.
SPLITS = 4

_L = TypeVar("_L", bound=Layer)


@dataclass(frozen=True)
class Embedding:
    """Patches to tokens."""

    convolution: Convolution
    token: ClassToken | None
    positions: PositionEmbedding | None
    dropout: bool


@dataclass(frozen=True)
class Mixing:
    """Attention, or two linear layers with an activation between, of normalised tokens."""

    norm: LayerNorm | None
    layers: tuple[Attention] | tuple[Linear, Activate | None, Linear]
    dropout: bool
    skip: bool


@dataclass(frozen=True)
class Gathering:
    """Normalised tokens to one vector: their mean, or the first."""

    norm: LayerNorm | None
    only_first: bool


@dataclass(frozen=True)
class Form:
    """A transformer, and the layers behind its tokens."""

    embedding: Embedding
    mixing: tuple[Mixing, ...]
    gathering: Gathering
    rest: tuple[Layer, ...]
    steps: int


def read(layers: Sequence[Layer], input_shape: Shape) -> Form | None:
    """Return a network's transformer, None if it is none that our kernels compute."""
    if len(input_shape) != 3 or not any(isinstance(layer, Tokens) for layer in layers):
        return None
    left = list(layers)
    embedding, steps = _embedding(left, input_shape)
    if embedding is None or not _fits(embedding.convolution, input_shape, steps):
        return None
    before = layers[len(layers) - len(left) - 1].name
    mixing: list[Mixing] = []
    while (part := _mixing(left, before)) is not None:
        mixing.append(part)
        before = layers[len(layers) - len(left) - 1].name
    norm = _take(left, LayerNorm)
    if not left or not isinstance(left[0], FirstStep | GlobalPooling):
        return None
    gathering = Gathering(norm, only_first=isinstance(left[0], FirstStep))
    if getattr(left.pop(0), "kind", "average") != "average":
        return None
    return Form(embedding, tuple(mixing), gathering, tuple(left), steps)


def _embedding(left: list[Layer], input_shape: Shape) -> tuple[Embedding | None, int]:
    """Take the layers from patches to tokens; return how many tokens there are, too."""
    convolution = _take(left, Convolution)
    if convolution is None or _take(left, Tokens) is None:
        return None, 0
    token, positions = _take(left, ClassToken), _take(left, PositionEmbedding)
    patches = [side // convolution.kernel for side in input_shape[1:]]
    steps = patches[0] * patches[1] + (token is not None)
    return Embedding(convolution, token, positions, _take(left, Dropout) is not None), steps


def _fits(convolution: Convolution, input_shape: Shape, steps: int) -> bool:
    """Whether patches lie side by side, and a program holds an image's tokens."""
    area = convolution.inputs * convolution.kernel**2
    side_by_side = convolution.is_plain and convolution.kernel == convolution.stride and not convolution.padding
    return side_by_side and steps <= MOST_STEPS and convolution.outputs <= MOST_FEATURES and area <= MOST_PIXELS


def _mixing(left: list[Layer], before: str) -> Mixing | None:
    """Take the layers of a part of a block that reads what the layer `before` gave; None, and nothing, if none is."""
    layers = list(left)
    norm, attention = _take(layers, LayerNorm), _take(layers, Attention)
    parts: Any = (attention,)
    if attention is None:
        first, activation, second = _take(layers, Linear), _take(layers, Activate), _take(layers, Linear)
        if first is None or second is None or first.inputs != second.outputs or first.outputs > MOST_HIDDEN:
            return None
        parts = (first, activation, second)
    elif attention.inner > MOST_FEATURES:
        return None
    dropout = _take(layers, Dropout) is not None
    skip = bool(layers) and isinstance(layers[0], Residual) and layers[0].source == before
    left[:] = layers[1:] if skip else layers
    return Mixing(norm, parts, dropout, skip)


def _take(left: list[Layer], kind: type[_L]) -> _L | None:
    """Take the first layer if it is of a kind."""
    if left and isinstance(left[0], kind):
        layer = left.pop(0)
        assert isinstance(layer, kind)
        return layer
    return None
