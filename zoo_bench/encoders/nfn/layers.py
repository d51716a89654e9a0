"""Layers of neural functional networks: maps of weights to weights that commute with reorderings of neurons.

Zhou et al., Permutation Equivariant Neural Functionals (NeurIPS 2023), equations 3 to 5: NP reorders the neurons of all
layers, inputs and outputs too, HNP those of hidden layers alone. Whatever of a tensor does not move (kernels, positions
of a flattened image, and in HNP inputs and outputs) is a channel of the first layer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.errors import ZooError

Kind = Literal["np", "hnp"]


@dataclass(frozen=True)
class Axes:
    """One tensor of a network as (network, row, column, channel), and whose neurons its rows and columns are."""

    start: int
    shape: tuple[int, ...]
    rows: tuple[str, int] | None  # neurons and their number; None where rows do not move
    columns: tuple[str, int] | None

    @property
    def channels(self) -> int:
        """How many numbers stand at each row and column."""
        moving = (self.rows[1] if self.rows else 1) * (self.columns[1] if self.columns else 1)
        return math.prod(self.shape) // moving

    def read(self, weights: Tensor) -> Tensor:
        """Return the tensor (network, row, column, channel) of flat weights (network, parameter)."""
        count, size = len(weights), math.prod(self.shape)
        outputs = self.shape[0]
        inputs = self.columns[1] if self.columns else 1
        values = weights[:, self.start : self.start + size].reshape(count, outputs, inputs, -1)
        if self.rows is None:
            values = values.transpose(1, 2).reshape(count, 1, inputs, -1)
        return values


def axes_of(layout: ParameterLayout, kind: Kind) -> list[Axes]:
    """Return the tensors of a layout with the neurons that move along them.

    Raises:
        ZooError: neurons are a part of an axis, as with groups and gates, or several rows each.
    """
    shapes = {parameter.name: parameter.shape for parameter in layout.parameters}
    rows: dict[str, tuple[str, int]] = {}
    columns: dict[str, tuple[str, int]] = {}
    for symmetry in layout.symmetries:
        for move in symmetry.moves:
            is_whole = move.rows is None and symmetry.size * move.block == shapes[move.parameter][move.axis]
            if not is_whole or (move.axis == 0 and move.block > 1):
                raise ZooError(
                    f"nfn: units of {symmetry.layer} are a part of axis {move.axis} of {move.parameter}, or several "
                    "rows each; expected layers without groups and gates"
                )
            (rows if move.axis == 0 else columns)[move.parameter] = symmetry.layer, symmetry.size
    if kind == "np":
        first, last = layout.parameters[0], layout.layers[-1]
        if len(first.shape) > 1:
            columns.setdefault(first.name, ("inputs", first.shape[1]))
        for parameter in layout.parameters:
            if parameter.layer == last:
                rows.setdefault(parameter.name, ("outputs", parameter.shape[0]))
    return [Axes(p.start, p.shape, rows.get(p.name), columns.get(p.name)) for p in layout.parameters]


class EquivariantLayer(nn.Module):
    """Tensors (network, row, column, channel) to such tensors of other channels.

    The output at a row and column is linear in four things: the input at that row and column, the means over the
    entries of the row's neuron, the means over those of the column's neuron, and the means of every tensor.
    """

    def __init__(self, axes: Sequence[Axes], inputs: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.axes = list(axes)
        of_neurons: dict[str, int] = {}
        for tensor_axes, channels in zip(axes, inputs, strict=True):
            for side in (tensor_axes.rows, tensor_axes.columns):
                if side:
                    of_neurons[side[0]] = of_neurons.get(side[0], 0) + channels
        # Of the entry itself. Files of saved encoders hold this name.
        self.own = nn.ModuleList(nn.Linear(channels, outputs) for channels in inputs)
        self.total = nn.ModuleList(nn.Linear(sum(inputs), outputs) for _ in axes)
        self.rows, self.columns = (
            nn.ModuleList(nn.Linear(of_neurons[side[0]], outputs) if side else nn.Identity() for side in sides)
            for sides in ([tensor_axes.rows for tensor_axes in axes], [tensor_axes.columns for tensor_axes in axes])
        )

    def forward(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Map tensors (network, row, column, channel) to as many (network, row, column, output)."""
        totals = torch.cat([tensor.mean(dim=(1, 2)) for tensor in tensors], dim=1)
        parts: dict[str, list[Tensor]] = {}
        for tensor_axes, tensor in zip(self.axes, tensors, strict=True):
            if tensor_axes.rows:
                parts.setdefault(tensor_axes.rows[0], []).append(tensor.mean(dim=2))
            if tensor_axes.columns:
                parts.setdefault(tensor_axes.columns[0], []).append(tensor.mean(dim=1))
        neurons = {name: torch.cat(several, dim=2) for name, several in parts.items()}
        mapped = []
        for number, (tensor_axes, tensor) in enumerate(zip(self.axes, tensors, strict=True)):
            values = self.own[number](tensor) + self.total[number](totals)[:, None, None]
            if tensor_axes.rows:
                values = values + self.rows[number](neurons[tensor_axes.rows[0]]).unsqueeze(2)
            if tensor_axes.columns:
                values = values + self.columns[number](neurons[tensor_axes.columns[0]]).unsqueeze(1)
            mapped.append(values)
        return mapped
