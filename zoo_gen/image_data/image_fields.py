"""ImageFields: a set of images to each of which a network of its own is fitted, an implicit neural representation.

A network maps the two coordinates of a pixel to its grey level or colour. Which image a model fits is its
hyper-parameter `image`, and the class of that image its column `class`, so that models can be classified by what they
show, as the published sets are (DWSNets, Navon et al., ICML 2023; NFN, Zhou et al., NeurIPS 2023).
"""

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from zoo_gen.files.schema import Schema
from zoo_gen.image_data.array_files import Arrays
from zoo_gen.image_data.arrays import ImageData
from zoo_gen.image_data.digits import Digits
from zoo_gen.image_data.fitted_images import FittedImages
from zoo_gen.image_data.folder import Folder
from zoo_gen.image_data.huggingface import HuggingFace
from zoo_gen.image_data.idx import Idx
from zoo_gen.image_data.source import OF_IMAGE_FIELDS, Metrics
from zoo_gen.image_data.steps import MeanDeviation
from zoo_gen.image_data.synthetic import Synthetic
from zoo_gen.image_data.torchvision import Torchvision

ImageSet = Annotated[
    Digits | Synthetic | Idx | Torchvision | HuggingFace | Folder | Arrays, Field(discriminator="source")
]


class ImageFields(Schema):
    """Networks that are fitted to images, one each.

    Args:
        images: the image set, any source of images with labels; its images are numbered from 0, those for training
            first, then those for validation and for tests.
    """

    source: Literal["image_fields"]
    images: ImageSet
    task: ClassVar[str] = "regression of images"
    examples: ClassVar[str] = "pixels"
    hyperparameters: ClassVar[tuple[str, ...]] = OF_IMAGE_FIELDS
    columns: ClassVar[tuple[str, ...]] = ("class",)
    metrics: ClassVar[Metrics] = (("train_loss", 1), ("train_mse", 1), ("train_psnr", 1), ("running_loss", 1))
    input_shape: ClassVar[tuple[int]] = (2,)
    n_classes: ClassVar[int] = 1
    n_validation: ClassVar[int] = 0
    n_test: ClassVar[int] = 0

    @model_validator(mode="after")
    def _are_pictures(self) -> Self:
        if self.images.task != "classification" or len(self.images.input_shape) != 3:
            raise ValueError("images: are numbers; expected images of bytes with classes")
        if isinstance(self.images, Arrays) and self.images.kind != "bytes":
            raise ValueError("images: are numbers; expected images of bytes with classes")
        if isinstance(getattr(self.images, "normalize", None), MeanDeviation):
            raise ValueError('images.normalize: has mean and deviation; expected "unit" or "symmetric"')
        return self

    @property
    def n_outputs(self) -> int:
        """The outputs of a network: one a channel."""
        return self.images.input_shape[0]

    @property
    def n_train(self) -> int:
        """The number of pixels of an image."""
        return self.images.input_shape[1] * self.images.input_shape[2]

    @property
    def fitted_images(self) -> tuple[int, int, int]:
        """How many images there are for training, validation and tests, a network each."""
        return self.images.n_train, self.images.n_validation, self.images.n_test

    @property
    def n_images(self) -> int:
        """The number of images."""
        return sum(self.fitted_images)

    @property
    def read_by_kernels(self) -> bool:
        """Whether our kernels for GPUs read such data: their squared error is of one output."""
        return self.n_outputs == 1

    def stand_in(self, *, n_images: int) -> FittedImages:
        """Return as many images as there are, all of one random picture, made without the data."""
        picture = np.random.RandomState(0).randint(0, 256, self.images.input_shape).astype(np.uint8)
        images = np.broadcast_to(picture, (self.n_images, *picture.shape))
        labels = np.zeros(self.n_images, dtype=np.int64)
        scale = np.full(self.n_outputs, 1 / 255)
        data = ImageData(images, labels, images[:0], labels[:0], images[:0], labels[:0], 2, scale, 0 * scale)
        return fitted(self, data)


def fitted(source: ImageFields, images: ImageData) -> FittedImages:
    """Return what networks are fitted to, of the images of the source's image set."""
    names = getattr(source.images, "classes", None) or tuple(map(str, range(source.images.n_classes)))
    value_range = 2.0 if getattr(source.images, "normalize", None) == "symmetric" else 1.0
    return FittedImages(images, tuple(names), value_range)
