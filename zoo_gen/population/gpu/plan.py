"""A network as stages: which layers are computed together, and what lies between them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from zoo_gen.architecture.layers import (
    Activate,
    Convolution,
    Dropout,
    Flatten,
    Function,
    GlobalPooling,
    Layer,
    Linear,
    Pooling,
    Shape,
    Shift,
)
from zoo_gen.architecture.network import Network
from zoo_gen.architecture.shapes import output_shape
from zoo_gen.errors import ZooError
from zoo_gen.population.gpu import kernels, transformer, transformer_form
from zoo_gen.population.gpu.served import unserved
from zoo_gen.population.gpu.stages import OPERANDS, Arrays, Behind, Pool, Product, Stage, Value
from zoo_gen.population.gpu.stem import Stem
from zoo_gen.population.gpu.updates import Crops

FROM_VALUE = ("relu", "leaky_relu", "tanh", "sigmoid")  # their derivative follows from their value


def build(network: Network, arrays: Arrays, *, capacity: int, scale: Tensor, splits: int, crops: Crops) -> list[Stage]:
    """Return the stages of a network in the order of the forward pass.

    Args:
        network: of every model.
        arrays: what the stages share.
        capacity: the most images that a model reads at once.
        scale: of the pixels of the images, float32 (2, channel): factor and offset.
        splits: into how many sums the gradient of a stem is cut.
        crops: of training images, which only transformers have.

    Raises:
        ZooError: the first layer with arithmetic is neither a convolution nor a linear one, or a layer has no kernel.
    """
    if (lacking := unserved(network.layers, network.input_shape)) is not None:
        raise ZooError(f"architecture: kernels do not know {lacking.name}; expected torch's own operations")
    builder = _Builder(arrays, capacity, list(network.layers))
    stages: list[Stage] = []
    shape = network.input_shape
    value: Value | None = None
    if (form := transformer_form.read(network.layers, shape)) is not None:
        stages.extend(
            transformer.stages(
                form, arrays, capacity=capacity, shape=shape, scale=scale, crops=crops, behind_of=builder.behind
            )
        )
        builder.rest, value = list(form.rest), stages[-1].output
        shape = value.shape
    while builder.rest:
        layer = builder.rest.pop(0)
        if isinstance(layer, Flatten):
            builder.flat = True  # values stay where they are; the tables of the next layer know
        elif isinstance(layer, Convolution) and value is None and _is_stem(layer, builder.rest, shape, arrays):
            middle = output_shape(layer, shape)
            between = builder.pointwise(middle, fused=False)
            second = builder.rest.pop(0)
            assert isinstance(second, Convolution)
            after = output_shape(second, middle)
            behind = builder.pointwise(after, fused=True)
            value = builder.value(after, behind)
            stem = Stem(layer, second, value, arrays, between, behind, shape=shape, scale=scale, splits=splits)
            stages.append(stem)
            shape = after
        elif isinstance(layer, Convolution | Linear):
            after = (layer.outputs,) if isinstance(layer, Linear) else output_shape(layer, shape)
            builder.flat = builder.flat and not isinstance(layer, Linear)
            behind = builder.pointwise(after, fused=True)
            source, value = value, builder.value(after, behind)
            stages.append(Product(layer, source, value, arrays, behind, shape=shape, scale=scale))
            shape = after
        elif value is None:
            raise ZooError(f"architecture: begins with {layer.name}; expected a convolution or a linear layer first")
        elif not isinstance(layer, Shift):  # which the loss adds
            size, step, kind = (1, 1), 1, "average"
            if isinstance(layer, Pooling):
                size, step, kind = (layer.size, layer.size), layer.stride, layer.kind
            elif isinstance(layer, GlobalPooling):
                size, step = (shape[1], shape[2]), max(shape[1:])
            else:
                builder.rest.insert(0, layer)  # a pointwise layer of its own
            after = output_shape(layer, shape)
            behind = builder.pointwise(after, fused=False)
            source, value = value, builder.value(after, None)
            stages.append(Pool(size, step, kind, source, value, arrays, behind))
            shape = after
    return stages


@dataclass
class _Builder:
    """The layers that are still to be made stages of."""

    arrays: Arrays
    capacity: int
    rest: list[Layer]
    flat: bool = False  # whether values of an image are numbered as flattened
    dropped: list[int] = field(default_factory=list)  # values an image of each dropout layer so far

    def pointwise(self, after: Shape, *, fused: bool) -> Behind:
        """Take activation and dropout from the layers that follow; `fused`: only what a product can take back."""
        codes, drops, earlier = None, False, tuple(self.dropped)
        following = self.rest[0] if self.rest else None
        if isinstance(following, Activate) and (not fused or _from_value(self.arrays, following.function)):
            codes = _codes(self.arrays, following.function)
            self.rest.pop(0)
        if self.rest and isinstance(self.rest[0], Dropout):
            self.rest.pop(0)
            drops = bool(self.arrays.dropout.any())
            self.dropped.append(math.prod(after))
        return Behind(codes, drops, earlier, channel_first=self.flat and len(after) == 3)

    def behind(self, after: Shape, dropout: bool, activation: Activate | None) -> Behind:
        """Return the dropout, if any, of a part that gives a shape, and the activation inside it."""
        codes = None if activation is None else _codes(self.arrays, activation.function)
        earlier = tuple(self.dropped)
        if dropout:
            self.dropped.append(math.prod(after))
        # Also where no model drops anything: another compiled kernel might add up in another order.
        return Behind(codes, dropout, earlier)

    def value(self, after: Shape, behind: Behind | None) -> Value:
        """Return room for what a stage gives; `behind`: what is done to it as it is stored by a product."""
        arrays = self.arrays
        codes = rates = None
        if behind is not None and (behind.codes is not None or behind.drops):
            codes = torch.zeros_like(_codes(arrays, None)) if behind.codes is None else behind.codes
            rates = arrays.dropout if behind.drops else torch.zeros_like(arrays.dropout)
        last = not any(isinstance(layer, Convolution | Linear) for layer in self.rest)
        dtype = torch.float32 if last else OPERANDS[arrays.precision]
        device = str(arrays.weights.device)
        return Value(after, len(arrays.weights), self.capacity, dtype, device, codes, rates).allocate()


def _is_stem(first: Layer, rest: Sequence[Layer], shape: Shape, arrays: Arrays) -> bool:
    """Whether a convolution and the next one, with only activation and dropout between, are computed together.

    In float32, whose products are no matrix units' work, computing twice costs more than writing.
    """
    if arrays.precision == "float32":
        return False
    following = [layer for layer in rest[:3] if not isinstance(layer, Activate | Dropout)]
    between = rest[: rest.index(following[0])] if following else []
    in_order = [type(layer) for layer in between] in ([], [Activate], [Dropout], [Activate, Dropout])
    return bool(following) and in_order and Stem.fits(first, following[0], shape)


def _codes(arrays: Arrays, function: Function | None) -> Tensor:
    """Return what stands for an activation: for the one named, or for each model's own, int32 (model,)."""
    names = [function or activation for activation in arrays.activations]
    return torch.tensor([kernels.CODES[name] for name in names], dtype=torch.int32, device=arrays.weights.device)


def _from_value(arrays: Arrays, function: Function | None) -> bool:
    """Whether the derivative of an activation follows from its value, for all models."""
    return {function or activation for activation in arrays.activations} <= set(FROM_VALUE)
