"""The registry of architectures: each is a short sequence of layers, and becomes a plain torch module for one model.

The same sequence drives the plain module built here, the parameter layout of the stored vector and the stacked
computation of a population, so the three cannot drift apart. Nothing here imports torch until a module is built.
"""

from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import Field, Strict

from zoo_gen.layout import Parameter, ParameterLayout
from zoo_gen.schema import Schema

if TYPE_CHECKING:
    import torch

Activation = Literal["tanh", "relu", "leaky_relu", "sigmoid", "gelu", "silu"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)

Width = Annotated[int, Strict(), Field(gt=0)]


class MLP(Schema):
    """Fully connected layers with the model's activation between them; the last one gives the logits.

    `widths` counts the units from the flattened image to the classes: [16, 5, 4] is the 100-parameter network of
    the Tetris zoos when `bias` is false (Schürholt et al., NeurIPS 2021).
    """

    name: Literal["mlp"]
    widths: tuple[Width, ...] = Field(min_length=2)
    bias: Annotated[bool, Strict()] = True


Architecture = MLP


@dataclass(frozen=True)
class Flatten:
    """Images to vectors."""

    name: str


@dataclass(frozen=True)
class Linear:
    """A fully connected layer, `weight` (outputs, inputs) and `bias` (outputs,) or none."""

    name: str
    inputs: int
    outputs: int
    bias: bool


@dataclass(frozen=True)
class Activate:
    """The activation function that the model's hyper-parameters name."""

    name: str


Layer = Flatten | Linear | Activate


def layers(architecture: Architecture) -> tuple[Layer, ...]:
    """Return the layers of an architecture in the order of the forward pass."""
    found: list[Layer] = [Flatten("flatten")]
    for number, (inputs, outputs) in enumerate(pairwise(architecture.widths), start=1):
        if number > 1:
            found.append(Activate(f"activation{number - 1}"))
        found.append(Linear(f"linear{number}", inputs, outputs, architecture.bias))
    return tuple(found)


def parameter_layout(architecture: Architecture) -> ParameterLayout:
    """Return where each parameter lies in the flat weight vector: layer after layer, weight before bias."""
    shapes: list[tuple[str, Literal["weight", "bias"], tuple[int, ...]]] = []
    for layer in layers(architecture):
        if isinstance(layer, Linear):
            shapes.append((layer.name, "weight", (layer.outputs, layer.inputs)))
            if layer.bias:
                shapes.append((layer.name, "bias", (layer.outputs,)))
    parameters: list[Parameter] = []
    for layer_name, role, shape in shapes:
        parameters.append(Parameter(layer_name, role, shape, start=parameters[-1].stop if parameters else 0))
    return ParameterLayout(tuple(parameters))


def build_module(architecture: Architecture, *, activation: Activation) -> "torch.nn.Sequential":
    """Return one model as a plain torch module that maps images (image, channel, height, width) to logits.

    Its `state_dict` has the names of `parameter_layout`. The initial weights are torch's own defaults.
    """
    import torch

    functions: dict[Activation, type[torch.nn.Module]] = {
        "tanh": torch.nn.Tanh,
        "relu": torch.nn.ReLU,
        "leaky_relu": torch.nn.LeakyReLU,
        "sigmoid": torch.nn.Sigmoid,
        "gelu": torch.nn.GELU,
        "silu": torch.nn.SiLU,
    }
    modules: OrderedDict[str, torch.nn.Module] = OrderedDict()
    for layer in layers(architecture):
        if isinstance(layer, Flatten):
            modules[layer.name] = torch.nn.Flatten()
        elif isinstance(layer, Linear):
            modules[layer.name] = torch.nn.Linear(layer.inputs, layer.outputs, bias=layer.bias)
        else:
            modules[layer.name] = functions[activation]()
    return torch.nn.Sequential(modules)
