"""Which layers our own kernels compute; networks with others are trained by torch's operations."""

from collections.abc import Sequence

from zoo_gen.architecture.layers import (
    Activate,
    Convolution,
    Dropout,
    Flatten,
    GlobalPooling,
    Layer,
    Linear,
    Pooling,
    Shape,
    Shift,
)
from zoo_gen.population.gpu import transformer_form


def unserved(layers: Sequence[Layer], input_shape: Shape) -> Layer | None:
    """Return the first layer that our kernels do not compute for inputs of a shape, None if they compute all."""
    if (form := transformer_form.read(layers, input_shape)) is not None:
        layers, input_shape = form.rest, (form.embedding.convolution.outputs,)
    return next((layer for layer in layers if len(input_shape) == 2 or not _is_served(layer)), None)


def reads_crops(layers: Sequence[Layer], input_shape: Shape) -> bool:
    """Return whether the kernels that read the images of a network crop and mirror them, too."""
    return transformer_form.read(layers, input_shape) is not None


def _is_served(layer: Layer) -> bool:
    if isinstance(layer, Convolution | Pooling):
        return layer.is_plain
    if isinstance(layer, GlobalPooling):
        return layer.kind == "average"
    return isinstance(layer, Linear | Flatten | Activate | Dropout | Shift)
