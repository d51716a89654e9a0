"""The forward pass of all models of a population at once.

Images lie as (image, model, channel, height, width): on a CPU a convolution of all models is then one grouped
convolution, which for one model is the plain one. Flat values lie as (model, feature, image): the few features of a
small network would make poor vectors, the images of a batch make good ones, and a linear layer is one batched matrix
product. On a CPU the results of one model equal the plain module's bit for bit, for two images or more.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from zoo_gen.layers import (
    Activate,
    Activation,
    Convolution,
    Dropout,
    Flatten,
    GlobalPooling,
    Layer,
    Linear,
    Pooling,
    Shift,
)
from zoo_gen.modules import FUNCTIONS

Run = tuple[Activation | None, slice]  # neighbouring models that share an activation
# dropout(hidden (model, image, ...)) -> hidden of the same shape
DropoutOf = Callable[[Tensor], Tensor]


def forward(
    layers: Sequence[Layer],
    parameters: Mapping[str, Tensor],
    activations: Sequence[Run],
    inputs: Tensor,
    *,
    dropout: DropoutOf | None = None,
) -> Tensor:
    """Return the outputs (model, output, image) of every model for its own inputs.

    Args:
        layers: the layers of the architecture, in order.
        parameters: name -> stacked parameter (model, *shape).
        activations: runs of neighbouring models that cover all models in order.
        inputs: (image, model, channel, height, width) or (image, model, feature); inputs that all models share may be
            expanded.
        dropout: what dropout layers do; nothing if not given.
    """
    hidden = inputs if inputs.dim() == 5 else inputs.permute(1, 2, 0)
    for layer in layers:
        if isinstance(layer, Convolution):
            hidden = _convolve(layer, hidden, parameters)
        elif isinstance(layer, Linear):
            weight = parameters[f"{layer.name}.weight"]  # (model, output, input)
            if layer.bias:
                hidden = torch.baddbmm(parameters[f"{layer.name}.bias"].unsqueeze(2), weight, hidden)
            else:
                hidden = torch.bmm(weight, hidden)
        elif isinstance(layer, Activate):
            runs = [(layer.function, slice(None))] if layer.function else activations
            hidden = _activate(hidden, runs)
        elif isinstance(layer, Pooling):
            pool = functional.max_pool2d if layer.kind == "max" else functional.avg_pool2d
            hidden = pool(hidden.flatten(1, 2), layer.size, layer.stride).unflatten(1, hidden.shape[1:3])
        elif isinstance(layer, GlobalPooling):
            means = functional.adaptive_avg_pool2d(hidden.flatten(1, 2), 1)
            hidden = means.view(hidden.shape[:3]).permute(1, 2, 0)
        elif isinstance(layer, Flatten):
            hidden = hidden.flatten(2).permute(1, 2, 0) if hidden.dim() == 5 else hidden
        elif isinstance(layer, Dropout):
            if dropout:
                hidden = _drop(hidden, dropout)
        elif isinstance(layer, Shift):
            hidden = hidden + layer.value
        else:
            raise TypeError(f"{layer.name}: is no layer of a generated zoo")
    return hidden


def _convolve(layer: Convolution, hidden: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    weight = parameters[f"{layer.name}.weight"]  # (model, output, input, kernel, kernel)
    bias = parameters[f"{layer.name}.bias"] if layer.bias else None  # (model, output)
    if hidden.is_cuda:
        return _convolve_as_product(layer, hidden, weight, bias)
    found = functional.conv2d(
        hidden.flatten(1, 2),
        weight.flatten(0, 1),
        None if bias is None else bias.flatten(),
        stride=layer.stride,
        padding=layer.padding,
        groups=len(weight),
    )
    return found.unflatten(1, (len(weight), layer.outputs))


def _convolve_as_product(layer: Convolution, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve through a matrix product of patches a model: on a GPU grouped convolutions are several times slower."""
    padded = functional.pad(hidden, (layer.padding,) * 4) if layer.padding else hidden
    windows = padded.unfold(3, layer.kernel, layer.stride).unfold(4, layer.kernel, layer.stride)
    # (image, model, channel, height, width, kernel, kernel) -> (model, channel x kernel x kernel, image x positions)
    patches = windows.permute(1, 2, 5, 6, 0, 3, 4)
    n_images, height, width = patches.shape[4:]
    patches = patches.reshape(len(weight), -1, n_images * height * width)
    found = torch.bmm(weight.flatten(2), patches)
    if bias is not None:
        found = found + bias.unsqueeze(2)
    return found.view(len(weight), layer.outputs, n_images, height, width).permute(2, 0, 1, 3, 4)


def _activate(hidden: Tensor, runs: Sequence[Run] | Sequence[tuple]) -> Tensor:
    if len(runs) == 1:
        return FUNCTIONS[runs[0][0]](hidden)
    axis = 1 if hidden.dim() == 5 else 0
    parts = [FUNCTIONS[name](hidden.narrow(axis, models.start, models.stop - models.start)) for name, models in runs]
    return torch.cat(parts, dim=axis)


def _drop(hidden: Tensor, dropout: DropoutOf) -> Tensor:
    # Values of an image are numbered channel by channel of a pixel, as they lie on a GPU.
    if hidden.dim() == 5:
        return dropout(hidden.permute(1, 0, 3, 4, 2)).permute(1, 0, 4, 2, 3)
    return dropout(hidden.transpose(1, 2)).transpose(1, 2)
