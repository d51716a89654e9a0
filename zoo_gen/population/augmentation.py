"""Augmentation: training images cropped at random places and mirrored, each model's its own in every epoch.

One random word a model, epoch and image says both, so that a model sees the same images alone and in company, however
its epoch is cut into steps.
"""

import torch
from torch import Tensor

from zoo_gen.population.random import Purpose, stream_keys, words_at

_BITS = 20  # of a word, for each of three draws


class Augmentation:
    """What happens to the training images of a population.

    An image of black borders, `padding` pixels on each side, is cropped to its size at one of (2 x padding + 1)^2
    places, and then mirrored left to right with probability `flip`.

    Args:
        seeds: int64 (model,).
        padding: int64 (model,) pixels.
        flip: (model,) probabilities.
    """

    def __init__(self, seeds: Tensor, *, padding: Tensor, flip: Tensor) -> None:
        self._seeds = self._keys = seeds
        self._places = (2 * padding + 1).unsqueeze(1)
        self._padding = padding.unsqueeze(1)
        self._threshold = (flip.double() * 2**_BITS + 0.5).floor().long().unsqueeze(1)

    def begin(self, epoch: int) -> None:
        """Let an epoch, counted from 1, draw its own."""
        self._keys = stream_keys(self._seeds, Purpose.AUGMENTATION, epoch)

    def draws(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is drawn for training images (model, image), each of their shape.

        Beside how many pixels down and to the right of the image's own corner its crop begins, whether it is mirrored.
        """
        words = words_at(self._keys, images)
        down, right, mirror = ((words >> shift) & (2**_BITS - 1) for shift in (0, _BITS, 2 * _BITS))
        down, right = ((draw * self._places >> _BITS) - self._padding for draw in (down, right))
        return down, right, mirror < self._threshold

    def of(self, pixels: Tensor, images: Tensor) -> Tensor:
        """Return pixels (image x model, channel, height, width) of training images (model, image) after it."""
        down, right, mirrored = (draw.T.reshape(-1, 1) for draw in self.draws(images))
        height, width = pixels.shape[2:]
        column = torch.arange(width, device=pixels.device)
        rows = torch.arange(height, device=pixels.device) + down  # (image x model, height)
        columns = torch.where(mirrored, width - 1 - column, column) + right
        inside = ((rows >= 0) & (rows < height)).unsqueeze(2) & ((columns >= 0) & (columns < width)).unsqueeze(1)
        places = rows.clamp(0, height - 1).unsqueeze(2) * width + columns.clamp(0, width - 1).unsqueeze(1)
        flat = pixels.flatten(2)
        moved = flat.gather(2, places.flatten(1).unsqueeze(1).expand_as(flat)).view(pixels.shape)
        return moved.masked_fill_(~inside.unsqueeze(1), 0)
