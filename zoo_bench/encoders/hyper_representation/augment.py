"""Augmentations of weights: permutations of hidden units, noise and erased blocks, drawn for each view.

After Schürholt et al. (NeurIPS 2021, section 3 and public code), in this order. All views of a batch are drawn at once
on the device and each has numbers of its own: there is no finite pool of permutations, no loop over samples, and two
views of a sample are never one tensor.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from zoo_gen.architecture.layout import Move, Parameter, ParameterLayout
from zoo_gen.errors import ZooError

TRIES = 10  # to place an erased block inside the weights


@dataclass(frozen=True)
class Augmentation:
    """What is done to a view.

    Attributes:
        permute: whether hidden units are put in a random order (all layers but the last).
        noise: the deviation of Gaussian noise added to each weight.
        erase: the probability that one block of consecutive weights is set to 0.
        shortest: the least length of the block, as a share of all weights.
        longest: its greatest length.
    """

    permute: bool = True
    noise: float = 0.0
    erase: float = 0.5
    shortest: float = 0.02
    longest: float = 0.33

    @property
    def config(self) -> dict[str, Any]:
        """The settings as plain data."""
        return asdict(self)

    def views(self, weights: Tensor, permutations: "Permutations", generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a view of each row of weights (row, parameter), and the same view without noise and erasing."""
        permuted = permutations.apply(weights, generator) if self.permute else weights
        view = permuted
        if self.noise > 0:
            drawn = torch.randn(view.shape, generator=generator, device=view.device, dtype=view.dtype)
            view = view + self.noise * drawn
        if self.erase > 0:
            hit = erased(
                len(view),
                view.shape[1],
                probability=self.erase,
                shortest=self.shortest,
                longest=self.longest,
                generator=generator,
            )
            view = view.masked_fill(hit, 0.0)
        return view, permuted


def erased(
    n_rows: int, n_parameters: int, *, probability: float, shortest: float, longest: float, generator: torch.Generator
) -> Tensor:
    """Return which weights are erased, bool (row, parameter): with `probability`, one block of a row.

    Its length is the whole part of n_parameters x U(shortest, longest) and its start uniform; a block that does not
    end before the last weight is drawn again, up to ten times, and then left out.
    """
    device = generator.device
    draws = torch.rand(2, n_rows, TRIES, generator=generator, device=device)
    lengths = (n_parameters * (shortest + (longest - shortest) * draws[0])).floor()
    starts = (n_parameters * draws[1]).floor()
    fits = starts + lengths < n_parameters
    first = fits.int().argmax(dim=1, keepdim=True)  # the first try that fits; where none does, try 0, not taken
    taken = fits.gather(1, first) & (torch.rand(n_rows, 1, generator=generator, device=device) < probability)
    start, length = starts.gather(1, first), lengths.gather(1, first)
    position = torch.arange(n_parameters, device=device)
    return taken & (position >= start) & (position < start + length)


class Permutations:
    """Random members of an architecture's permutation group, as gather indices on a device.

    An axis on which several sets of units lie is reordered by one after the other, as `ParameterLayout.permutation`
    does.

    Raises:
        ZooError: units lie along an axis that is neither outputs nor inputs.
    """

    def __init__(self, layout: ParameterLayout, device: torch.device) -> None:
        self.symmetries = layout.symmetries
        self._moves: dict[tuple[str, int], list[tuple[str, Move]]] = {}  # parameter and axis -> (layer, move)
        for symmetry in self.symmetries:
            for move in symmetry.moves:
                if move.axis > 1:
                    raise ZooError(
                        f"augmentation: units of {symmetry.layer} lie along axis {move.axis} of {move.parameter}; "
                        "expected axis 0 (outputs) or 1 (inputs)"
                    )
                self._moves.setdefault((move.parameter, move.axis), []).append((symmetry.layer, move))
        self._parameters = layout.parameters
        self._device = device

    def orders(self, n_rows: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw an order of the units of every layer for each row, uniformly: layer -> int64 (row, unit)."""
        return {
            symmetry.layer: torch.rand(n_rows, symmetry.size, generator=generator, device=generator.device).argsort(1)
            for symmetry in self.symmetries
        }

    def index(self, orders: dict[str, Tensor]) -> Tensor:
        """Return a gather index a row, int64 (row, parameter), as `ParameterLayout.permutation` does for one."""
        n_rows = len(next(iter(orders.values())))
        parts = [self._part(parameter, orders, n_rows) for parameter in self._parameters]
        return torch.cat(parts, dim=1)

    def apply(self, weights: Tensor, generator: torch.Generator) -> Tensor:
        """Permute the hidden units of each row of weights (row, parameter) by orders of its own."""
        if not self.symmetries:
            return weights
        return weights.gather(1, self.index(self.orders(len(weights), generator)))

    def _part(self, parameter: Parameter, orders: dict[str, Tensor], n_rows: int) -> Tensor:
        """Return the index of one parameter (row, size): its axes are reordered one after the other, batched."""
        outputs, inputs = parameter.shape[0], parameter.shape[1] if len(parameter.shape) > 1 else 1
        inner = parameter.size // (outputs * inputs)  # entries of one output and input
        rows = self._axis(parameter.name, 0, outputs, orders)
        columns = self._axis(parameter.name, 1, inputs, orders)
        if columns.dim() == 2:
            columns = columns[:, None, :]
        entries = torch.arange(inner, device=self._device)
        index = (rows[:, :, None] * inputs + columns)[..., None] * inner + entries
        return (parameter.start + index.flatten(1)).expand(n_rows, -1)

    def _axis(self, parameter: str, axis: int, length: int, orders: dict[str, Tensor]) -> Tensor:
        """Return the order of an axis, int64 (row or 1, length); units are blocks of neighbours on it.

        Of inputs that are reordered in a part of the outputs alone, (row, output, length).
        """
        places = torch.arange(length, device=self._device)[None]
        moves = self._moves.get((parameter, axis), [])
        if any(move.rows for _, move in moves):
            outputs = next(each.shape[0] for each in self._parameters if each.name == parameter)
            places = places.expand(outputs, -1)[None]
        for layer, move in moves:
            order = (orders[layer][:, :, None] * move.block + torch.arange(move.block, device=self._device)).flatten(1)
            stop = move.start + order.shape[1]
            places = places.expand(len(order), *places.shape[1:]).clone()
            if places.dim() == 3:
                part = places[:, slice(*(move.rows or (None,))), move.start : stop]
                part.copy_(part.gather(2, order[:, None, :].expand_as(part)))
            else:
                places[:, move.start : stop] = places[:, move.start : stop].gather(1, order)
        return places
