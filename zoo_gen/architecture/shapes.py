"""The shape of what each layer gives, and of its parameters and running statistics.

What cannot follow what is refused here, in words that say what a layer needs.
"""

import math
from collections.abc import Mapping, Sequence

from zoo_gen.architecture.layers import (
    INPUT,
    Attention,
    Branch,
    ClassToken,
    Convolution,
    Embedding,
    FirstStep,
    Flatten,
    GlobalPooling,
    GroupNorm,
    Layer,
    LayerNorm,
    Linear,
    Normalization,
    Pair,
    Pooling,
    PositionEmbedding,
    Recurrent,
    Residual,
    Rows,
    Shape,
    Tokens,
)

_STATISTICS = ("running_mean", "running_var")


def output_shape(layer: Layer, shape: Shape, *, earlier: Mapping[str, Shape] | None = None) -> Shape:
    """Return the shape of one hidden value after a layer.

    Args:
        layer: the layer.
        shape: of the value before it.
        earlier: the shapes of earlier outputs by the names of their layers, for layers that read one.

    Raises:
        ValueError: the layer cannot follow a value of that shape; the message says what it needs.
    """
    if isinstance(layer, Convolution | Pooling | Rows | Tokens) and len(shape) != 3:
        raise ValueError("needs an image (channel, height, width), but the values before it are flat or a sequence")
    if isinstance(layer, GlobalPooling) and len(shape) == 1:
        raise ValueError("needs an image or a sequence, but the values before it are flat")
    if isinstance(layer, Recurrent) and len(shape) != 2:
        raise ValueError("needs a sequence (step, feature); expected a rows layer before it, or data of two axes")
    if isinstance(layer, Embedding | Attention | FirstStep) and len(shape) != 2:
        raise ValueError("needs a sequence (step, feature); expected a patch_embedding, tokens or rows layer before it")
    if isinstance(layer, Linear) and len(shape) == 3:
        raise ValueError("needs flat values; expected a flatten or global_average_pooling layer before it")
    if isinstance(layer, Normalization | GroupNorm) and len(shape) == 2:
        raise ValueError("needs an image or flat values, but the values before it are a sequence; expected layer_norm")
    inputs = shape[0] if isinstance(layer, Convolution) else shape[-1]
    if isinstance(layer, Convolution | Linear | Recurrent) and layer.inputs != inputs:
        raise ValueError(f"reads {layer.inputs} inputs, but the values before it have {inputs}")
    if isinstance(layer, Convolution):
        if layer.inputs % layer.groups or layer.outputs % layer.groups:
            raise ValueError(
                f"cuts {layer.inputs} and {layer.outputs} channels into {layer.groups} groups; expected a divisor of "
                "both"
            )
        return (layer.outputs, *_windows(shape, layer.kernels, layer.strides, layer.paddings))
    if isinstance(layer, GroupNorm) and layer.channels % layer.groups:
        raise ValueError(f"cuts {layer.channels} channels into {layer.groups} groups; expected a divisor of these")
    if isinstance(layer, Pooling):
        if any(2 * padding > size for padding, size in zip(layer.paddings, layer.sizes, strict=True)):
            raise ValueError(f"pads by {_times(layer.paddings)}; expected at most half of its {_times(layer.sizes)}")
        return (shape[0], *_windows(shape, layer.sizes, layer.strides, layer.paddings))
    if isinstance(layer, Linear):
        return (*shape[:-1], layer.outputs)
    if isinstance(layer, Recurrent):
        return (shape[0], layer.outputs) if layer.sequence else (layer.outputs,)
    if isinstance(layer, GlobalPooling):
        return shape[:1] if len(shape) == 3 else shape[1:]
    if isinstance(layer, Flatten):
        return (math.prod(shape),)
    if isinstance(layer, Rows):
        return (shape[1], shape[0] * shape[2])
    if isinstance(layer, Tokens):
        return (shape[1] * shape[2], shape[0])
    if isinstance(layer, ClassToken):
        return (shape[0] + 1, shape[1])
    if isinstance(layer, FirstStep):
        return shape[1:]
    if isinstance(layer, Branch):
        assert earlier is not None  # which everybody gives who meets branches
        return earlier[layer.source]
    if isinstance(layer, Residual) and layer.channels is None and earlier is not None:
        added = earlier[layer.source]
        if added != shape:
            raise ValueError(
                f"adds {_times(added)} to {_times(shape)} values; expected equal shapes, or a shortcut that makes them "
                "equal, such as a convolution with kernel 1"
            )
    return shape


def shapes(layers: Sequence[Layer], input_shape: Shape) -> list[Shape]:
    """Return the shape of one hidden value after each layer; errors as `output_shape`."""
    earlier = {INPUT: input_shape}
    shapes_after: list[Shape] = []
    for layer in layers:
        shapes_after.append(output_shape(layer, shapes_after[-1] if shapes_after else input_shape, earlier=earlier))
        earlier[layer.name] = shapes_after[-1]
    return shapes_after


def parameter_shapes(layer: Layer) -> list[tuple[str, Shape]]:
    """Return role and shape of each parameter of a layer, in torch's order; of attention, `query.weight` and so on."""
    if isinstance(layer, Normalization):
        roles = [*(["weight", "bias"] if layer.affine else []), *([] if layer.buffers else _STATISTICS)]
        return [(role, (layer.features,)) for role in roles]
    if isinstance(layer, LayerNorm | GroupNorm):
        shape = layer.shape if isinstance(layer, LayerNorm) else (layer.channels,)
        return [("weight", shape), ("bias", shape)] if layer.affine else []
    if isinstance(layer, Recurrent):
        rows = layer.gates * layer.outputs
        weights: list[tuple[str, Shape]] = [
            ("weight_ih_l0", (rows, layer.inputs)),
            ("weight_hh_l0", (rows, layer.outputs)),
        ]
        return [*weights, ("bias_ih_l0", (rows,)), ("bias_hh_l0", (rows,))] if layer.bias else weights
    if isinstance(layer, ClassToken):
        return [("weight", (1, layer.features))]
    if isinstance(layer, PositionEmbedding):
        return [("weight", (layer.steps, layer.features))] if layer.learned else []
    if isinstance(layer, Attention):
        inner, features = layer.inner, layer.features
        each = [(part, (inner, features)) for part in ("query", "key", "value")] + [("output", (features, inner))]
        return [
            (f"{part}.{role}", of_part[: 2 if role == "weight" else 1])
            for part, of_part in each
            for role in (("weight", "bias") if layer.bias else ("weight",))
        ]
    if not isinstance(layer, Convolution | Linear):
        return []
    weight: Shape = (layer.outputs, layer.inputs)
    if isinstance(layer, Convolution):
        weight = (layer.outputs, layer.inputs // layer.groups, *layer.kernels)
    return [("weight", weight), ("bias", (layer.outputs,))] if layer.bias else [("weight", weight)]


def buffer_shapes(layer: Layer) -> list[tuple[str, Shape]]:
    """Return role and shape of the running statistics of a layer that are kept beside the weights."""
    if isinstance(layer, Normalization) and layer.buffers:
        return [(role, (layer.features,)) for role in _STATISTICS]
    return []


def _windows(shape: Shape, sizes: Pair, strides: Pair, paddings: Pair) -> Pair:
    height, width = (
        (length + 2 * padding - size) // stride + 1
        for length, size, stride, padding in zip(shape[1:], sizes, strides, paddings, strict=True)
    )
    if height < 1 or width < 1:
        raise ValueError(f"windows of {_times(sizes)} do not fit into images of {_times(shape[1:])}")
    return height, width


def _times(lengths: Sequence[int]) -> str:
    return " x ".join(map(str, lengths))
