"""Weights of networks of several layouts, one after another in one flat array on the device.

A batch is a list of offsets into one flat array, so no weights travel and no batch is padded to the longest network.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Networks:
    """Networks of several layouts, one after another on the device.

    For an encoder that reads more of an architecture than its layout, something else that tells them apart stands in
    its place.
    """

    layouts: tuple[Any, ...]  # ParameterLayout, or what the encoder reads instead of it
    layout_of: np.ndarray  # int64 (network,)
    numbers: Tensor  # float32 (number,)
    offsets: Tensor  # int64 (network,)

    @classmethod
    def of(cls, layouts: Sequence[Hashable], rows: Sequence[np.ndarray], device: torch.device) -> Self:
        """Lay rows (network, number), an array a layout, one after another; a layout may come several times."""
        known = tuple(dict.fromkeys(layouts))
        layout_of = np.repeat([known.index(layout) for layout in layouts], [len(array) for array in rows])
        lengths = np.repeat([array.shape[1] for array in rows], [len(array) for array in rows])
        numbers = torch.from_numpy(np.concatenate([array.reshape(-1) for array in rows]))
        offsets = torch.from_numpy(np.cumsum(lengths) - lengths)
        return cls(known, layout_of.astype(np.int64), numbers.to(device), offsets.to(device))

    @property
    def numbers_each(self) -> float:
        """The numbers of a network, on average."""
        return len(self.numbers) / len(self.offsets)

    def part(self, chosen: np.ndarray) -> Self:
        """Return some of the networks, by their numbers, int64 (network,); the numbers of all stay where they are."""
        offsets = self.offsets[torch.from_numpy(chosen).to(self.offsets.device)]
        return replace(self, layout_of=self.layout_of[chosen], offsets=offsets)


def last_layer(inputs: int, outputs: int = 1) -> nn.Linear:
    """Return the layer that gives the logit, or one a class: zero at first, so that it predicts the mean untrained."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def dense(numbers: Tensor, offsets: Tensor, length: int) -> Tensor:
    """Return networks of one length as rows (network, number), from all numbers (number,) and offsets (network,)."""
    positions = offsets[:, None] + torch.arange(length, device=offsets.device)
    return numbers.index_select(0, positions.view(-1)).view(len(offsets), length)
