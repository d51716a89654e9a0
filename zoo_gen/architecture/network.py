"""Network: what a model computes, by layers or by a module of the user's own, and the shape of what it reads."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from zoo_gen.architecture.layers import Convolution, Function, Layer, Shape
from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.architecture.own_module import OwnModule
from zoo_gen.architecture.shapes import shapes
from zoo_gen.architecture.symmetries import layouts

if TYPE_CHECKING:
    import torch

BUFFERS = "buffers"  # the array of a zoo that holds the running statistics of its models


@dataclass(frozen=True)
class Network:
    """One network, without its weights.

    >>> from zoo_gen.architecture.registry import MLP, network
    >>> tetris = network(MLP(name="mlp", widths=(16, 5, 4), bias=False), (1, 4, 4), 4)
    >>> tetris.n_outputs, tetris.layout.size
    (4, 100)
    """

    layers: tuple[Layer, ...]
    input_shape: Shape  # (channel, height, width), or (feature,)
    own_module: OwnModule | None = None  # instead of layers, which are empty then

    @cached_property
    def layout(self) -> ParameterLayout:
        """Where each parameter lies in the flat weight vector: layer after layer, weight before bias."""
        if self.own_module is not None:
            return self.own_module.layout
        return self._layouts[0]

    @cached_property
    def buffer_layout(self) -> ParameterLayout:
        """Where each running statistic lies in the array of buffers; of size 0 where there are none."""
        if self.own_module is not None:
            return self.own_module.buffer_layout
        return self._layouts[1]

    @cached_property
    def _layouts(self) -> tuple[ParameterLayout, ParameterLayout]:
        return layouts(self.layers, self.input_shape)

    @property
    def n_outputs(self) -> int:
        """The number of outputs."""
        if self.own_module is not None:
            return self.own_module.n_outputs
        return (shapes(self.layers, self.input_shape) or [self.input_shape])[-1][0]

    @property
    def has_convolution(self) -> bool:
        """Whether a layer is a convolution."""
        if self.own_module is not None:
            return self.own_module.has_convolution
        return any(isinstance(layer, Convolution) for layer in self.layers)

    def module(self, *, activation: Function | None, dropout: float = 0.0) -> "torch.nn.Module":
        """Return a plain torch module of inputs (image, *input_shape) to outputs (image, output).

        Its `state_dict` has the names of the layout. The initial weights are torch's own defaults.

        Args:
            activation: the function of the layers that name none.
            dropout: the rate of every dropout layer.
        """
        if self.own_module is not None:
            return self.own_module.build()
        from zoo_gen.architecture import modules

        return modules.build_module(self.layers, self.input_shape, activation=activation, dropout=dropout)
