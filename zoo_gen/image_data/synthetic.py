"""Synthetic: a learnable random task with images of any shape and any number of classes, for benchmarks.

Every class has one picture of coarse random patches, so that its looks are local enough for a convolution and global
enough for an MLP; an image is the picture of its class mixed with uniform noise.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, Strict

from zoo_gen.files.schema import Count, DataSeed
from zoo_gen.image_data.arrays import ImageData
from zoo_gen.image_data.source import ImageSource

_PATCH = 4  # pixels on a side


class Synthetic(ImageSource):
    """Images of `n_classes` equally frequent classes; `noise` 0 shows the pictures themselves, 1 nothing but noise."""

    source: Literal["synthetic"]
    image_shape: tuple[Count, Count, Count] = (1, 28, 28)
    n_classes: Annotated[int, Strict(), Field(ge=2)] = 10
    noise: Annotated[float, Strict(), Field(ge=0, le=1)] = 0.7
    train_size: Count = 10_000
    validation_size: Annotated[int, Strict(), Field(ge=0)] = 0
    test_size: Count = 2_000
    seed: DataSeed = 0

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The shape of an image: channel, height, width."""
        return self.image_shape

    @property
    def n_train(self) -> int:
        """The number of training images."""
        return self.train_size

    @property
    def n_validation(self) -> int:
        """The number of validation images."""
        return self.validation_size

    @property
    def n_test(self) -> int:
        """The number of test images."""
        return self.test_size


def load(source: Synthetic) -> ImageData:
    """Return the images, a pure function of the source."""
    channels, height, width = source.image_shape
    # RandomState and not Generator: its stream is frozen, so the images stay the same across numpy versions.
    random = np.random.RandomState(source.seed)
    rows, columns = -(-height // _PATCH), -(-width // _PATCH)
    patches = random.randint(0, 256, size=(source.n_classes, channels, rows, columns), dtype=np.uint8)
    pictures = patches.repeat(_PATCH, axis=2).repeat(_PATCH, axis=3)[:, :, :height, :width]
    # In whole numbers of 1/256, the mixture is the same on every machine.
    share = round(source.noise * 256)
    signal = pictures.astype(np.uint16) * (256 - share)

    def images(labels: np.ndarray) -> np.ndarray:
        noise = random.randint(0, 256, size=(len(labels), channels, height, width), dtype=np.uint8)
        mixed = noise.astype(np.uint16)
        mixed *= share
        mixed += signal[labels]
        mixed >>= 8
        return mixed.astype(np.uint8)

    sizes = (source.n_train, source.n_validation, source.n_test)
    every = [np.arange(size, dtype=np.int64) % source.n_classes for size in sizes]
    parts = [(images(labels), labels) for labels in every]
    scale, offset = np.full(channels, 1 / 255), np.zeros(channels)
    return ImageData.of(parts, n_classes=source.n_classes, scale=scale, offset=offset)
