"""Windows of tokens: parts of the token sequences of networks of several architectures, gathered on the device.

Where a network has fewer tokens than a window, the window holds tokens that are not there; they are read by no other
and count nowhere.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.architecture.tokens import TokenIndex


class Window(NamedTuple):
    """One window of each network of a batch."""

    values: Tensor  # float32 (network, token, size)
    mask: Tensor  # bool (network, token, size), where a number stands and no padding
    positions: Tensor  # int64 (network, token, 4), as `TokenIndex` has them
    present: Tensor | None  # bool (network, token), which tokens are there; None where all are


class Windows:
    """Cuts windows out of networks of some layouts.

    Args:
        layouts: of the networks.
        size: numbers a token.
        most: tokens a window at most.
        device: of the networks' numbers.

    Attributes:
        length: tokens a window; fewer than `most` where no network has as many.
        counts: tokens of each layout.
    """

    def __init__(self, layouts: Sequence[ParameterLayout], *, size: int, most: int, device: torch.device) -> None:
        indices = [TokenIndex.of(layout, size) for layout in layouts]
        counts = np.array([len(index.index) for index in indices], dtype=np.int64)
        self.counts = tuple(counts.tolist())
        self.length = min(most, int(counts.max()))
        self._are_all_present = bool(counts.min() >= self.length)
        self._index = torch.from_numpy(np.concatenate([index.index for index in indices])).to(device)
        self._positions = torch.from_numpy(np.concatenate([index.positions for index in indices])).to(device)
        self._counts = torch.from_numpy(counts).to(device)
        self._firsts = torch.from_numpy(np.cumsum(counts) - counts).to(device)

    def draw(self, layouts: Tensor, generator: torch.Generator) -> Tensor:
        """Draw where the window of each network begins, uniformly among all full windows, int64 (network,)."""
        choices = (self._counts[layouts] - self.length + 1).clamp(min=1)
        drawn = torch.rand(len(layouts), generator=generator, device=choices.device, dtype=torch.float64)
        return torch.minimum((drawn * choices).long(), choices - 1)

    def take(self, layouts: Tensor, numbers: Tensor, offsets: Tensor, starts: Tensor) -> Window:
        """Return a window of each network of a batch.

        Args:
            layouts: the number of each network's layout, int64 (network,).
            numbers: of many networks (number,).
            offsets: where the networks of the batch begin in them, int64 (network,).
            starts: the first token of each window, int64 (network,).
        """
        counts = self._counts[layouts][:, None]
        places = starts[:, None] + torch.arange(self.length, device=starts.device)
        rows = self._firsts[layouts][:, None] + torch.minimum(places, counts - 1)
        index, positions = self._index[rows], self._positions[rows]
        mask, present = index >= 0, None
        if not self._are_all_present:
            present = places < counts
            mask = mask & present[:, :, None]
        values = numbers[offsets[:, None, None] + index.clamp(min=0)].masked_fill(~mask, 0.0)
        return Window(values, mask, positions, present)

    def covering(self) -> list[tuple[int, slice]]:
        """Return windows that cover all tokens of the first layout: where each begins, and which of its tokens count.

        All are full: the last one begins early enough, and its tokens that stand in the window before do not count
        again.
        """
        count, windows = self.counts[0], []
        for first in range(0, count, self.length):
            start = max(0, min(first, count - self.length))
            windows.append((start, slice(first - start, min(self.length, count - start))))
        return windows
