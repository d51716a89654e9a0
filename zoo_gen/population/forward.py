"""The forward pass of all models of a population at once.

Images lie as (image, model, channel, height, width): on a CPU a convolution of some models is then one grouped
convolution, which for one model is the plain one; or as `lanes` says, where a convolution has that form. Flat values
lie as (model, feature, image): the few features of a small network would make poor vectors, the images of a batch make
good ones, and a linear layer is one batched matrix product. Sequences lie as (model, image, step, feature), or behind
tokens of an image in lanes as `lanes_sequences` says. On a CPU
the results of one model equal the plain module's bit for bit, for two images or more; but for layers over sequences,
scales of normalisation and linear layers of one value in company, whose last bit may differ.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from zoo_gen.architecture.layers import (
    INPUT,
    Activate,
    Activation,
    Branch,
    Convolution,
    Dropout,
    Flatten,
    Function,
    GlobalPooling,
    GroupNorm,
    Layer,
    LayerNorm,
    Linear,
    Normalization,
    Pooling,
    Recurrent,
    Residual,
    Rows,
    Shift,
    Tokens,
    sources,
)
from zoo_gen.population import attention
from zoo_gen.population.cpu import lanes, lanes_sequences
from zoo_gen.population.cpu.convolutions import LANES, MODELS_OF_A_GROUP
from zoo_gen.population.elementwise import activate
from zoo_gen.population.filling import filled, first
from zoo_gen.population.normalization import normalize
from zoo_gen.population.products import product_of_columns
from zoo_gen.population.recurrence import linear_of_steps, recur

Run = tuple[Activation | None, slice]  # neighbouring models that share an activation
# dropout(hidden (model, image, ...), or as lanes) -> hidden of the same shape
DropoutOf = Callable[[Tensor], Tensor]


def forward(
    layers: Sequence[Layer],
    parameters: Mapping[str, Tensor],
    activations: Sequence[Run],
    inputs: Tensor,
    *,
    forms: Mapping[str, str] = MappingProxyType({}),
    dropout: DropoutOf | None = None,
    buffers: Mapping[str, Tensor] = MappingProxyType({}),
    training: bool = False,
    as_plain: bool = True,
) -> Tensor:
    """Return the outputs (model, output, image) of every model for its own inputs.

    Args:
        layers: the layers of the architecture, in order.
        parameters: name -> stacked parameter (model, *shape).
        activations: runs of neighbouring models that cover all models in order.
        inputs: (image, model, channel, height, width), (image, model, step, feature) or (image, model, feature); inputs
            that all models share may be expanded.
        forms: name of a convolution -> its form (`cpu.convolutions`), GROUPED if not given.
        dropout: what dropout layers do; nothing if not given.
        buffers: running statistics, name -> (model, *shape), each contiguous.
        training: whether batch normalisation uses the statistics of the batch, and changes the running ones in place.
        as_plain: whether a lone model is computed as its plain module is. Training computes it as one of several.
    """
    n_models = activations[-1][1].stop
    hidden = _laid_out(inputs)
    read_again = sources(layers)
    earlier, of_steps = {INPUT: (hidden, False)}, False  # whether what lies in lanes is a sequence
    done: tuple[Layer, ...] = ()  # what follows a convolution and is done with it
    for number, layer in enumerate(layers):
        was_in_lanes = hidden.dim() == 6
        hidden = _left_lanes(layer, hidden, forms, n_models, of_steps=of_steps) if was_in_lanes else hidden
        of_steps = hidden.dim() == 6 and (of_steps or isinstance(layer, Tokens))
        if layer in done:
            pass
        elif of_steps and isinstance(layer, lanes_sequences.LAYERS):
            done = _done_with(layers, number, activations, read_again) if isinstance(layer, Linear) else ()
            hidden = lanes_sequences.passed(layer, hidden, parameters, n_models, with_relu=bool(done))
        elif isinstance(layer, Convolution):
            if forms.get(layer.name) == LANES:
                done = _done_with(layers, number, activations, read_again) if layer.is_plain else ()
                hidden = _convolve_in_lanes(layer, done, hidden, parameters)
            else:
                hidden = _convolve(layer, hidden, parameters, as_plain=as_plain)
        elif isinstance(layer, Linear):
            hidden = _linear(layer, hidden, parameters, as_plain=as_plain)
        elif isinstance(layer, Activate):
            hidden = _activate(hidden, [(layer.function, slice(0, n_models))] if layer.function else activations)
        elif isinstance(layer, Pooling):
            hidden = lanes.pool(layer, hidden) if hidden.dim() == 6 else _pool(layer, hidden)
        elif isinstance(layer, GlobalPooling):
            hidden = lanes.means(hidden, n_models) if hidden.dim() == 6 else _over_positions(layer, hidden)
        elif isinstance(layer, Flatten):
            hidden = _flattened(hidden, n_models)
        elif isinstance(layer, Recurrent):
            hidden = recur(layer, hidden, parameters)
        elif isinstance(layer, attention.LAYERS):
            hidden = attention.passed(layer, hidden, parameters)
        elif isinstance(layer, Dropout):
            hidden = _drop(hidden, dropout) if dropout else hidden
        elif isinstance(layer, Normalization | LayerNorm | GroupNorm):
            hidden = normalize(layer, hidden, parameters, buffers, training=training)
        elif isinstance(layer, Branch):
            hidden, of_steps = earlier[layer.source]
        elif isinstance(layer, Residual) and layer.channels is None:
            hidden = _add(hidden, earlier[layer.source][0], n_models)
        elif isinstance(layer, Shift):
            hidden = hidden + layer.value
        else:
            raise TypeError(f"{layer.name}: is no layer of a generated zoo")
        if was_in_lanes and hidden.dim() == 5 and _returns_to_lanes(layer):
            hidden = lanes.to_lanes(hidden)
        if layer.name in read_again:
            earlier[layer.name] = hidden, of_steps
    return hidden


def _laid_out(inputs: Tensor) -> Tensor:
    """Return inputs as values between layers lie."""
    if inputs.dim() == 5:
        return inputs
    return inputs.permute(1, 2, 0) if inputs.dim() == 3 else inputs.transpose(0, 1)


def _done_with(
    layers: Sequence[Layer], number: int, activations: Sequence[Run], read_again: Collection[str]
) -> tuple[Layer, ...]:
    """Return the layers after a convolution, or a linear layer of steps, that our kernels do with it: pooling, relu."""
    done: tuple[Layer, ...] = ()
    before = layers[number]
    for layer in layers[number + 1 : number + 3]:
        if before.name in read_again:
            break
        if isinstance(layer, Activate):
            functions = [layer.function] if layer.function else [name for name, _ in activations]
            return (*done, layer) if functions == ["relu"] else done
        if done or not (isinstance(layer, Pooling) and _pools_in_lanes(layer)):
            break
        done, before = (layer,), layer
    return done


def _pools_in_lanes(layer: Pooling) -> bool:
    return layer.is_plain and layer.size <= lanes.LARGEST_WINDOW


def _left_lanes(layer: Layer, hidden: Tensor, forms: Mapping[str, str], n_models: int, *, of_steps: bool) -> Tensor:
    """Return values in lanes as the next layer reads them: as they are, if it has a form in lanes."""
    if of_steps:
        leaves = isinstance(layer, Recurrent | Flatten)
        return lanes_sequences.from_lanes(hidden, n_models) if leaves else hidden
    return lanes.from_lanes(hidden, n_models) if _leaves_lanes(layer, forms) else hidden


def _leaves_lanes(layer: Layer, forms: Mapping[str, str]) -> bool:
    if isinstance(layer, Convolution):
        return forms.get(layer.name) != LANES
    if isinstance(layer, GlobalPooling):
        return layer.kind != "average"
    if isinstance(layer, Pooling):
        return not _pools_in_lanes(layer)
    return isinstance(layer, Rows)


def _returns_to_lanes(layer: Layer) -> bool:
    return isinstance(layer, Pooling) and not layer.is_plain


def _add(hidden: Tensor, earlier: Tensor, n_models: int) -> Tensor:
    """Add an earlier output to this one, as lanes where one is an image in lanes."""
    if 4 in (hidden.dim(), earlier.dim()):
        hidden, earlier = (
            lanes_sequences.from_lanes(each, n_models) if each.dim() == 6 else each for each in (hidden, earlier)
        )
    elif hidden.dim() != earlier.dim():
        hidden, earlier = (each if each.dim() == 6 else lanes.to_lanes(each) for each in (hidden, earlier))
    return hidden + earlier


def _flattened(hidden: Tensor, n_models: int) -> Tensor:
    """Return (model, feature, image) of any form."""
    if hidden.dim() == 6:
        return lanes.flattened(hidden, n_models)
    if hidden.dim() == 5:
        return hidden.flatten(2).permute(1, 2, 0)
    return hidden.flatten(2).transpose(1, 2) if hidden.dim() == 4 else hidden


def _linear(layer: Linear, hidden: Tensor, parameters: Mapping[str, Tensor], *, as_plain: bool) -> Tensor:
    if hidden.dim() == 4:
        return linear_of_steps(layer, hidden, parameters)
    weight = parameters[f"{layer.name}.weight"]  # (model, output, input)
    return product_of_columns(weight, hidden, parameters.get(f"{layer.name}.bias"), as_plain=as_plain)


def _convolve(layer: Convolution, hidden: Tensor, parameters: Mapping[str, Tensor], *, as_plain: bool) -> Tensor:
    weight = parameters[f"{layer.name}.weight"]  # (model, output, input, kernel, kernel)
    bias = parameters[f"{layer.name}.bias"] if layer.bias else None  # (model, output)
    if hidden.is_cuda:
        return _convolve_as_product(layer, hidden, weight, bias)
    if as_plain and len(weight) == 1:
        return _convolve_grouped(layer, hidden, weight, bias)
    # torch has other kernels for other numbers of models, so these are always as many.
    n_models, pieces = len(weight), [*range(0, len(weight), MODELS_OF_A_GROUP)]
    hidden, weight = filled(hidden, 1, MODELS_OF_A_GROUP), filled(weight, 0, MODELS_OF_A_GROUP)
    bias = None if bias is None else filled(bias, 0, MODELS_OF_A_GROUP)
    outputs = [
        _convolve_grouped(layer, hidden[:, some], weight[some], None if bias is None else bias[some])
        for some in (slice(start, start + MODELS_OF_A_GROUP) for start in pieces)
    ]
    together = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
    return together if len(weight) == n_models else first(together, 1, n_models)


def _convolve_grouped(layer: Convolution, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    outputs = functional.conv2d(
        hidden.flatten(1, 2),
        weight.flatten(0, 1),
        None if bias is None else bias.flatten(),
        stride=layer.strides,
        padding=layer.paddings,
        groups=len(weight) * layer.groups,
    )
    return outputs.unflatten(1, (len(weight), layer.outputs))


def _convolve_in_lanes(
    layer: Convolution, following: Sequence[Layer], hidden: Tensor, parameters: Mapping[str, Tensor]
) -> Tensor:
    weight = parameters[f"{layer.name}.weight"]  # (model, output, input, kernel, kernel)
    bias = parameters[f"{layer.name}.bias"] if layer.bias else None  # (model, output)
    if not layer.is_plain:  # our kernels have no such convolution; torch's are those of one model after the other
        hidden = lanes.from_lanes(hidden, len(weight)) if hidden.dim() == 6 else hidden
        outputs = [
            _convolve_grouped(layer, hidden[:, one].contiguous(), weight[one], None if bias is None else bias[one])
            for one in (slice(model, model + 1) for model in range(len(weight)))
        ]
        return lanes.to_lanes(torch.cat(outputs, dim=1))
    hidden = hidden if hidden.dim() == 6 else lanes.to_lanes(hidden)
    pooling = next((each for each in following if isinstance(each, Pooling)), None)
    relu = any(isinstance(each, Activate) for each in following)
    return lanes.convolve(layer, pooling, hidden, weight, bias, relu=relu)


def _convolve_as_product(layer: Convolution, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve through a matrix product of patches a model: on a GPU grouped convolutions are several times slower."""
    (down, across), (high, wide), (stride_down, stride_across) = layer.paddings, layer.kernels, layer.strides
    padded = functional.pad(hidden, (across, across, down, down)) if down or across else hidden
    windows = padded.unfold(3, high, stride_down).unfold(4, wide, stride_across)
    # (image, model, channel, height, width, kernel, kernel) -> (group, channel x kernel x kernel, image x positions)
    patches = windows.permute(1, 2, 5, 6, 0, 3, 4)
    n_images, height, width = patches.shape[4:]
    n_groups = len(weight) * layer.groups
    patches = patches.reshape(n_groups, -1, n_images * height * width)
    # Weights are slices of longer rows: model and group have one stride only after a copy.
    outputs = torch.bmm(weight.reshape(n_groups, layer.outputs // layer.groups, -1), patches)
    outputs = outputs.view(len(weight), layer.outputs, -1)
    if bias is not None:
        outputs = outputs + bias.unsqueeze(2)
    return outputs.view(len(weight), layer.outputs, n_images, height, width).permute(2, 0, 1, 3, 4)


def _pool(layer: Pooling, hidden: Tensor) -> Tensor:
    if layer.kind == "max" and not (hidden.is_cuda or torch.is_grad_enabled() or any(layer.paddings)):
        # On a CPU far faster than max_pool2d, and exactly the same; it has another gradient where values are equal.
        return _maxima(layer, _maxima(layer, hidden, 3), 4)
    pool = functional.max_pool2d if layer.kind == "max" else functional.avg_pool2d
    pooled = pool(hidden.flatten(1, 2), layer.sizes, layer.strides, layer.paddings)
    return pooled.unflatten(1, hidden.shape[1:3])


def _maxima(layer: Pooling, hidden: Tensor, axis: int) -> Tensor:
    """Return the maximum of each window along one axis."""
    size, stride = layer.sizes[axis - 3], layer.strides[axis - 3]
    reach = (hidden.shape[axis] - size) // stride * stride + 1
    parts = [hidden.narrow(axis, start, reach) for start in range(size)]
    every = (slice(None),) * axis + (slice(None, None, stride),)
    maximum = parts[0][every]
    for part in parts[1:]:
        maximum = torch.maximum(maximum, part[every])
    return maximum


def _over_positions(layer: GlobalPooling, hidden: Tensor) -> Tensor:
    """Return the mean or maximum over all positions or steps (model, channel, image)."""
    if hidden.dim() == 4:
        return (hidden.mean(dim=2) if layer.kind == "average" else hidden.amax(dim=2)).transpose(1, 2)
    pool = functional.adaptive_avg_pool2d if layer.kind == "average" else functional.adaptive_max_pool2d
    return pool(hidden.flatten(1, 2), 1).view(hidden.shape[:3]).permute(1, 2, 0)


def _activate(hidden: Tensor, runs: Sequence[tuple[Function | None, slice]]) -> Tensor:
    if hidden.dim() == 6:
        return lanes.activate(hidden, [(partial(_of_all, name), models) for name, models in runs])
    return activate(runs, hidden, axis=1 if hidden.dim() == 5 else 0)


def _of_all(name: Function | None, hidden: Tensor) -> Tensor:
    """Return a function of all lanes."""
    return activate([(name, slice(0, len(hidden)))], hidden, axis=0)


def _drop(hidden: Tensor, dropout: DropoutOf) -> Tensor:
    # Values of an image are numbered channel by channel of a pixel, as they lie on a GPU and in lanes.
    if hidden.dim() in (4, 6):
        return dropout(hidden)
    if hidden.dim() == 5:
        return dropout(hidden.permute(1, 0, 3, 4, 2)).permute(1, 0, 4, 2, 3)
    return dropout(hidden.transpose(1, 2)).transpose(1, 2)
