"""ImageSource and CurveSource: kinds of data source, each of which says what task models learn from it.

A source names its metrics, the hyper-parameters that only its data has, and the shapes that networks read and give, so
that nothing outside this room asks what kind of data a zoo has.
"""

from typing import ClassVar, Protocol

import numpy as np

from zoo_gen.files.schema import Schema
from zoo_gen.image_data.arrays import ImageData

Metrics = tuple[tuple[str, int], ...]  # (name, numbers a checkpoint) of every metric that a zoo stores
# Hyper-parameters that models have only where their data source says so.
OF_IMAGES = ("train_fraction", "label_noise")
OF_WAVES = ("amplitude", "frequency")
OF_IMAGE_FIELDS = ("image",)
HYPERPARAMETERS_OF_DATA = frozenset((*OF_IMAGES, *OF_WAVES, *OF_IMAGE_FIELDS))


def metrics_of_classes(n_classes: int, *, validation: bool) -> Metrics:
    """Return the metrics of classifiers: loss and accuracy of every part, and F1 of each class on the test images."""
    parts = ("train", "validation", "test") if validation else ("train", "test")
    each = [(f"{part}_{kind}", 1) for part in (*parts, "running") for kind in ("loss", "accuracy")]
    return (*each, ("test_class_f1", n_classes))


def metrics_of_numbers(*, validation: bool) -> Metrics:
    """Return the metrics of models that predict a number: loss, MSE, MAE and R2 of every part."""
    parts = ("train", "validation", "test") if validation else ("train", "test")
    each = [(f"{part}_{kind}", 1) for part in parts for kind in ("loss", "mse", "mae", "r2")]
    return (*each, ("running_loss", 1))


class _Images(Protocol):
    """What each image source defines itself."""

    @property
    def input_shape(self) -> tuple[int, int, int]: ...
    @property
    def n_classes(self) -> int: ...
    @property
    def n_validation(self) -> int: ...


class ImageSource(Schema):
    """Images with labels; the task is classification."""

    task: ClassVar[str] = "classification"
    examples: ClassVar[str] = "training images"
    columns: ClassVar[tuple[str, ...]] = ()  # of the table of models, which the data tells and no manifest
    fitted_images: ClassVar[tuple[int, ...]] = ()  # how many of each part, one a model; of other tasks none
    hyperparameters: ClassVar[tuple[str, ...]] = OF_IMAGES
    read_by_kernels: ClassVar[bool] = True  # whether our kernels for GPUs read such data

    @property
    def n_outputs(self: _Images) -> int:
        """The outputs of a network: one a class."""
        return self.n_classes

    @property
    def metrics(self: _Images) -> Metrics:
        """Loss and accuracy of every part, and F1 of each class on the test images."""
        return metrics_of_classes(self.n_classes, validation=self.n_validation > 0)

    def stand_in(self: _Images, *, n_images: int) -> ImageData:
        """Return random images and labels of the right shape, made without the data."""
        random = np.random.RandomState(0)
        images = random.randint(0, 256, (n_images, *self.input_shape)).astype(np.uint8)
        labels = random.randint(0, self.n_classes, n_images).astype(np.int64)
        scale = np.full(self.input_shape[0], 1 / 255)
        return ImageData(images, labels, images[:0], labels[:0], images, labels, self.n_classes, scale, 0 * scale)


class CurveSource(Schema):
    """Points of a curve that differs from model to model; the task is regression of curves."""

    task: ClassVar[str] = "regression of curves"
    examples: ClassVar[str] = "points"
    columns: ClassVar[tuple[str, ...]] = ()
    fitted_images: ClassVar[tuple[int, ...]] = ()
    read_by_kernels: ClassVar[bool] = True
    metrics: ClassVar[Metrics] = (("train_loss", 1), ("test_loss", 1), ("running_loss", 1))
    input_shape: ClassVar[tuple[int]] = (1,)
    n_outputs: ClassVar[int] = 1  # the height of the curve
    n_classes: ClassVar[int] = 1
    n_validation: ClassVar[int] = 0
