"""Steps: preprocessing of the images of a source (grey, resize, crop, normalise, choice of images per part).

Grey, resize and crop are done once, on bytes; normalising is only two numbers a channel, applied where the models are.
What comes out (shape, sizes) follows from the description alone, so a manifest is checked without the images.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, Self

import numpy as np
import pydantic
from pydantic import Field, Strict, WrapValidator, model_validator

from zoo_gen.errors import ZooError, needing
from zoo_gen.files.schema import Count, DataSeed, Schema
from zoo_gen.image_data.arrays import ImageData
from zoo_gen.image_data.source import ImageSource

Part = tuple[np.ndarray, np.ndarray]  # images uint8 (image, channel, height, width), labels int64 (image,)


def _one_message(expected: str) -> WrapValidator:
    """Refuse what does not fit with one message, where a union would give one for each of its members."""

    def check(value: Any, handler: pydantic.ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except pydantic.ValidationError:
            raise ValueError(f"expected {expected}, got {value!r}") from None

    return WrapValidator(check)


class MeanDeviation(Schema):
    """input = (pixel / 255 - mean) / deviation, a number of each a channel."""

    mean: tuple[float, ...]
    deviation: tuple[Annotated[float, Field(gt=0)], ...]


Size = Annotated[Count | tuple[Count, Count], _one_message("a whole number of pixels or [height, width]")]
Normalization = Annotated[
    Literal["unit", "symmetric"] | MeanDeviation,
    _one_message('"unit", "symmetric" or { mean = [0.5], deviation = [0.5] }, a number a channel'),
]


@dataclass(frozen=True)
class Stored:
    """What the files of a source hold, as far as it is known without them."""

    channels: int
    size: tuple[int, int] | None  # height, width; None if images differ
    n_train: int | None = None
    n_test: int | None = None


class Steps(ImageSource):
    """The fields that real sources share, in the order in which they act.

    Args:
        grey: one channel, the plain mean of all, rounded to a whole level.
        resize: [height, width], or the shorter side of an image that keeps its proportions; bilinear with antialias.
        center_crop: [height, width], or the side of a square.
        normalize: "unit" for inputs in [0, 1], "symmetric" for [-1, 1], or mean and deviation on the scale of [0, 1].
        train_size: training images; all that are not for validation if not given.
        validation_size: images that are cut from the training images.
        test_size: test images; all if not given.
        seed: of the choice. RandomState(seed).permutation orders the training images: validation takes the first,
            training the next; another of the same seed orders the test images. Where all are taken for one part,
            nothing is permuted and the order is the source's.
    """

    grey: Annotated[bool, Strict()] = False
    resize: Size | None = None
    center_crop: Size | None = None
    normalize: Normalization = "unit"
    train_size: Count | None = None
    validation_size: Annotated[int, Strict(), Field(ge=0)] = 0
    test_size: Count | None = None
    seed: DataSeed = 0

    @property
    @abstractmethod
    def stored(self) -> Stored:
        """What the files hold."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The shape of an image after the steps: channel, height, width."""
        height, width = self._size()
        return (1 if self.grey else self.stored.channels), height, width

    @property
    def n_train(self) -> int:
        """The number of training images."""
        return self.train_size or (self.stored.n_train or 0) - self.validation_size

    @property
    def n_validation(self) -> int:
        """The number of validation images."""
        return self.validation_size

    @property
    def n_test(self) -> int:
        """The number of test images."""
        return self.test_size or self.stored.n_test or 0

    @property
    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """The scale and the offset (channel,) that make an input of a pixel."""
        return affine(self.normalize, 1 if self.grey else self.stored.channels)

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        self._size()
        check_normalize(self.normalize, 1 if self.grey else self.stored.channels)
        available, needed = self.stored.n_train, (self.train_size or 1) + self.validation_size
        if available is not None and needed > available:
            train = "" if self.train_size is None else f"train_size {self.train_size} and "
            asked = f"{train}validation_size {self.validation_size}"
            raise ValueError(f"{asked} exceed what can be cut from {available} training images")
        available = self.stored.n_test
        if available is not None and self.n_test > available:
            raise ValueError(f"test_size {self.test_size} exceeds the {available} test images of the source")
        return self

    def _size(self) -> tuple[int, int]:
        """Return the height and the width after the steps, or raise a ValueError that says what does not fit."""
        known = self.stored.size is not None or isinstance(self.resize, tuple)
        if not known and (self.resize is None or self.center_crop is None):
            raise ValueError(
                "the images may differ in size; expected size = [height, width] if they do not,"
                " resize = [height, width], or resize = n with center_crop"
            )
        # The shorter side is all that is known of images of any size that are resized in proportion.
        before = resized(self.stored.size or (1, 1), self.resize)
        if self.center_crop is None:
            return before
        crop = _pair(self.center_crop)
        if crop[0] > before[0] or crop[1] > before[1]:
            raise ValueError(f"center_crop: {list(crop)} exceeds the images, which are {list(before)} by then")
        return crop


def resized(size: tuple[int, int], resize: int | tuple[int, int] | None) -> tuple[int, int]:
    """Return the height and width of an image of `size` after the step; the longer side is rounded down."""
    if resize is None:
        return size
    if isinstance(resize, tuple):
        return resize
    height, width = size
    short = min(size)
    return resize * height // short, resize * width // short


def apply(source: Steps, images: np.ndarray) -> np.ndarray:
    """Return images (image, channel, height, width) after grey, resize and crop; all uint8."""
    if source.grey:
        images = np.rint(images.mean(axis=1, keepdims=True, dtype=np.float32)).astype(np.uint8)
    size = (images.shape[2], images.shape[3])
    target = resized(size, source.resize)
    if target != size:
        images = bilinear(images, target)
    if source.center_crop is not None:
        height, width = _pair(source.center_crop)
        top, left = round((target[0] - height) / 2), round((target[1] - width) / 2)
        images = images[:, :, top : top + height, left : left + width]
    return np.ascontiguousarray(images)


class _Sizes(Protocol):
    """How many images of each part a source takes, and the seed of the choice."""

    @property
    def seed(self) -> int: ...
    @property
    def n_train(self) -> int: ...
    @property
    def n_validation(self) -> int: ...
    @property
    def n_test(self) -> int: ...


def chosen(source: _Sizes, *, n_train: int, n_test: int, where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the numbers of the images for training and validation, and of those for tests.

    Args:
        source: how many it takes, and the seed of the choice.
        n_train: images that there are for training and validation.
        n_test: images that there are for tests.
        where: names the source's place in errors.

    Raises:
        ZooError: there are fewer images than wanted.
    """
    for part, expected, held in (
        ("training", source.n_train + source.n_validation, n_train),
        ("test", source.n_test, n_test),
    ):
        if expected > held:
            raise ZooError(f"{where}: holds {held} {part} images; expected {expected} or more, as [data] says")
    everything = source.n_validation == 0 and source.n_train == n_train
    order = np.arange(n_train) if everything else np.random.RandomState(source.seed).permutation(n_train)
    cut = source.n_validation
    of_test = np.arange(n_test) if source.n_test == n_test else np.random.RandomState(source.seed).permutation(n_test)
    return order[cut : cut + source.n_train], order[:cut], of_test[: source.n_test]


def affine(normalize: Normalization, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the scale and the offset (channel,) that make an input of a pixel."""
    if isinstance(normalize, MeanDeviation):
        mean, deviation = np.array(normalize.mean), np.array(normalize.deviation)
        return 1 / (255 * deviation), -mean / deviation
    low = -1.0 if normalize == "symmetric" else 0.0
    return np.full(channels, (1 - low) / 255), np.full(channels, low)


def check_normalize(normalize: Normalization, channels: int) -> None:
    """Refuse means and deviations that are not one a channel.

    Raises:
        ValueError: there are more or fewer.
    """
    if isinstance(normalize, MeanDeviation):
        lengths = [len(normalize.mean), len(normalize.deviation)]
        if lengths != [channels, channels]:
            raise ValueError(f"normalize: mean and deviation have {lengths} numbers; expected {channels} of each")


def assemble(
    source: Steps,
    *,
    n_train: int,
    n_test: int,
    n_classes: int,
    train: Callable[[np.ndarray], Part],
    test: Callable[[np.ndarray], Part],
    where: str,
) -> ImageData:
    """Choose the images of each part and put them together.

    Args:
        source: the description.
        n_train: images that the source has for training and validation.
        n_test: images that it has for tests.
        n_classes: labels lie below.
        train: returns the images with these numbers, after the steps, and their labels.
        test: the same of the test images.
        where: names the source's place in errors.

    Raises:
        ZooError: there are fewer images than wanted, or a label lies outside the classes.
    """
    numbers = chosen(source, n_train=n_train, n_test=n_test, where=where)
    parts = [read(part) for read, part in zip((train, train, test), numbers, strict=True)]
    for _, labels in parts:
        if len(labels) and not (labels.min() >= 0 and labels.max() < n_classes):
            span = f"{labels.min()} to {labels.max()}"
            raise ZooError(
                f"{where}: has labels from {span}; expected 0 to {n_classes - 1} for n_classes = {n_classes}"
            )
    scale, offset = source.affine
    return ImageData.of(parts, n_classes=n_classes, scale=scale, offset=offset)


def bilinear(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return images (image, channel, height, width), uint8, in a new size (height, width).

    Pillow's, because it works on bytes in whole numbers, the same everywhere.

    Raises:
        ZooError: Pillow is not installed.
    """
    with needing("data step 'resize'", extra="generate"):
        from PIL import Image
    height, width = size
    resized = np.empty((*images.shape[:2], height, width), dtype=np.uint8)
    for image, target in zip(images, resized, strict=True):
        for channel, out in zip(image, target, strict=True):
            out[:] = Image.fromarray(np.ascontiguousarray(channel)).resize((width, height), Image.Resampling.BILINEAR)
    return resized


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)
