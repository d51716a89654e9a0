"""Tetris: noisy 4x4 images of four tetrominoes, made from a seed.

A re-creation: the images of the Tetris zoos of Schürholt et al. (NeurIPS 2021) are not public.
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, Strict

from zoo_gen.files.schema import Count, DataSeed
from zoo_gen.image_data.arrays import ImageData
from zoo_gen.image_data.source import ImageSource


class Tetris(ImageSource):
    """Noisy 4x4 images of four tetrominoes (O, I, L and S) in every place, and in every rotation if so wished.

    A square is 1, the ground 0; Gaussian noise of standard deviation `noise` is added. Classes are equally frequent.
    """

    source: Literal["tetris"]
    noise: Annotated[float, Strict(), Field(ge=0, le=1)] = 0.3
    rotations: Annotated[bool, Strict()] = False
    train_size: Count = 2000
    test_size: Count = 500
    seed: DataSeed = 0
    input_shape: ClassVar[tuple[int, int, int]] = (1, 4, 4)
    n_classes: ClassVar[int] = 4
    n_validation: ClassVar[int] = 0

    @property
    def n_train(self) -> int:
        """The number of training images."""
        return self.train_size

    @property
    def n_test(self) -> int:
        """The number of test images."""
        return self.test_size


_TETROMINOES = (
    ((1, 1), (1, 1)),  # O
    ((1, 1, 1, 1),),  # I
    ((1, 0), (1, 0), (1, 1)),  # L
    ((0, 1, 1), (1, 1, 0)),  # S
)


def load(source: Tetris) -> ImageData:
    """Return the images, a pure function of the source."""
    # RandomState and not Generator: its stream is frozen, so the images stay the same across numpy versions.
    random = np.random.RandomState(source.seed)
    places = [_places(np.array(shape), turns=4 if source.rotations else 1) for shape in _TETROMINOES]
    total = source.train_size + source.test_size
    labels = np.concatenate([np.arange(size) % 4 for size in (source.train_size, source.test_size)])
    clean = np.stack([places[label][random.randint(len(places[label]))] for label in labels])
    noisy = clean + source.noise * random.standard_normal(clean.shape)
    # Bytes stand for -1 to 2, wide enough for three standard deviations of the usual noise on either side.
    pixels = np.rint((np.clip(noisy, -1.0, 2.0) + 1.0) * 85.0).astype(np.uint8).reshape(total, 1, 4, 4)
    train, test = slice(0, source.train_size), slice(source.train_size, total)
    parts = [(pixels[rows], labels[rows]) for rows in (train, slice(0), test)]
    return ImageData.of(parts, n_classes=source.n_classes, scale=np.array([1 / 85]), offset=np.array([-1.0]))


def _places(shape: np.ndarray, *, turns: int) -> list[np.ndarray]:
    """Return every distinct image (4, 4) that shows the shape, turned so often and moved in every way that fits."""
    images: dict[bytes, np.ndarray] = {}
    for turn in range(turns):
        turned = np.rot90(shape, turn)
        height, width = turned.shape
        for row in range(5 - height):
            for column in range(5 - width):
                image = np.zeros((4, 4))
                image[row : row + height, column : column + width] = turned
                images[image.tobytes()] = image
    return list(images.values())
