"""The forward pass of all models of a population at once.

Hidden values lie as (model, feature, image): the few features of a small network would make poor vectors, the images of
a batch make good ones (measured: 2.6 times faster steps than with the features last). A linear layer is one batched
matrix product, model by model the one that a plain `torch.nn.Linear` computes: on a CPU its results equal the plain
module's bit for bit for two images or more.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from zoo_gen.architectures import Activate, Activation, Flatten, Layer

_FUNCTIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky_relu": functional.leaky_relu,
    "sigmoid": torch.sigmoid,
    "gelu": functional.gelu,
    "silu": functional.silu,
}

Run = tuple[Activation, slice]  # neighbouring models that share an activation


def forward(
    layers: Sequence[Layer], parameters: Mapping[str, Tensor], activations: Sequence[Run], inputs: Tensor
) -> Tensor:
    """Return the logits (model, class, image) of every model for its own images.

    Args:
        layers: the layers of the architecture, in order.
        parameters: name -> stacked parameter (model, *shape).
        activations: runs of neighbouring models that cover all models in order.
        inputs: (model, image, channel, height, width); images that all models share may be expanded.
    """
    hidden = inputs
    for layer in layers:
        if isinstance(layer, Flatten):
            hidden = hidden.flatten(start_dim=2).transpose(1, 2)
        elif isinstance(layer, Activate):
            hidden = _activate(hidden, activations)
        else:
            weight = parameters[f"{layer.name}.weight"]  # (model, output, input)
            if layer.bias:
                hidden = torch.baddbmm(parameters[f"{layer.name}.bias"].unsqueeze(2), weight, hidden)
            else:
                hidden = torch.bmm(weight, hidden)
    return hidden


def _activate(hidden: Tensor, activations: Sequence[Run]) -> Tensor:
    if len(activations) == 1:
        return _FUNCTIONS[activations[0][0]](hidden)
    return torch.cat([_FUNCTIONS[name](hidden[models]) for name, models in activations])
