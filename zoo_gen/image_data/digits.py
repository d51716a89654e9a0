"""Digits: the 1,797 real handwritten digits of 8x8 pixels that come with scikit-learn.

They are the test part of UCI's optical digits; scikit-learn has no other, so training and test images are cut from it.
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, Strict

from zoo_gen.errors import needing
from zoo_gen.files.schema import Count, DataSeed
from zoo_gen.image_data.arrays import ImageData
from zoo_gen.image_data.source import ImageSource
from zoo_gen.image_data.steps import bilinear

IMAGES = 1797


class Digits(ImageSource):
    """The digits of scikit-learn: `test_size` of them, chosen by `seed`, are for tests, the others for training.

    `resize`, [height, width], makes images of another size of them, bilinear, such as those of MNIST.
    """

    source: Literal["digits"]
    test_size: Annotated[int, Strict(), Field(gt=0, lt=IMAGES)] = 360
    seed: DataSeed = 0
    resize: tuple[Count, Count] | None = None
    n_classes: ClassVar[int] = 10
    n_validation: ClassVar[int] = 0

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The shape of an image: channel, height, width."""
        return (1, *(self.resize or (8, 8)))

    @property
    def n_train(self) -> int:
        """The number of training images."""
        return IMAGES - self.test_size

    @property
    def n_test(self) -> int:
        """The number of test images."""
        return self.test_size


def load(source: Digits) -> ImageData:
    """Return the images.

    Raises:
        ZooError: scikit-learn is not installed, or Pillow where they are resized.
    """
    with needing("data source 'digits'", extra="generate"):
        from sklearn.datasets import load_digits
    images, labels = load_digits(return_X_y=True)
    pixels = images.astype(np.uint8).reshape(-1, 1, 8, 8)  # grey levels 0 to 16
    levels = 16
    if source.resize is not None:  # on all 256 levels of a byte, or edges between 17 would show
        pixels, levels = (
            bilinear(np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8), source.resize),
            255,
        )
    labels = labels.astype(np.int64)
    order = np.random.RandomState(source.seed).permutation(len(pixels))
    train, test = order[source.test_size :], order[: source.test_size]
    parts = [(pixels[rows], labels[rows]) for rows in (train, order[:0], test)]
    return ImageData.of(parts, n_classes=source.n_classes, scale=np.array([1 / levels]), offset=np.array([0.0]))
