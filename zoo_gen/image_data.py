"""Image datasets as arrays of bytes: what the models of a zoo are trained and tested on.

Pixels are kept as uint8; a model's input is `scale * pixel + offset`, computed once on the device. Every source is a
pure function of its description, so the data of a zoo can be made again from its manifest alone.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, Strict

from zoo_gen.errors import ZooError
from zoo_gen.schema import Schema

if TYPE_CHECKING:
    import torch

Count = Annotated[int, Strict(), Field(gt=0)]
DataSeed = Annotated[int, Strict(), Field(ge=0, lt=2**32)]


class Tetris(Schema):
    """Noisy 4x4 images of four tetrominoes (O, I, L and S) in every place, and in every rotation if so wished.

    A re-creation: the images of the Tetris zoos of Schürholt et al. (NeurIPS 2021) are not public. A square is 1, the
    ground 0, and Gaussian noise of standard deviation `noise` is added; classes are equally frequent.
    """

    source: Literal["tetris"]
    noise: Annotated[float, Strict(), Field(ge=0, le=1)] = 0.3
    rotations: Annotated[bool, Strict()] = False
    train_size: Count = 2000
    test_size: Count = 500
    seed: DataSeed = 0
    image_shape: ClassVar[tuple[int, int, int]] = (1, 4, 4)
    n_classes: ClassVar[int] = 4

    @property
    def pixels(self) -> int:
        """The length of a flattened image."""
        return 16


class Digits(Schema):
    """The 1,797 real handwritten digits of 8x8 pixels that come with scikit-learn (UCI optical digits, test part)."""

    source: Literal["digits"]
    test_size: Annotated[int, Strict(), Field(gt=0, lt=1797)] = 360
    seed: DataSeed = 0
    image_shape: ClassVar[tuple[int, int, int]] = (1, 8, 8)
    n_classes: ClassVar[int] = 10

    @property
    def pixels(self) -> int:
        """The length of a flattened image."""
        return 64

    @property
    def train_size(self) -> int:
        """The number of training images."""
        return 1797 - self.test_size


DataSource = Annotated[Tetris | Digits, Field(discriminator="source")]


@dataclass(frozen=True)
class ImageData:
    """Training and test images with their labels."""

    train_images: np.ndarray  # uint8 (image, channel, height, width)
    train_labels: np.ndarray  # int64 (image,)
    test_images: np.ndarray  # uint8 (image, channel, height, width)
    test_labels: np.ndarray  # int64 (image,)
    n_classes: int
    scale: float
    offset: float

    def tensors(
        self, part: Literal["train", "test"], *, dtype: "torch.dtype | None" = None, device: str = "cpu"
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Return the model inputs (image, channel, height, width) and the labels (image,) of one part."""
        import torch

        images, labels = (
            (self.train_images, self.train_labels) if part == "train" else (self.test_images, self.test_labels)
        )
        inputs = torch.from_numpy(images).to(device, dtype or torch.float32).mul_(self.scale).add_(self.offset)
        return inputs, torch.from_numpy(labels).to(device)

    def sha256(self) -> str:
        """Return the SHA-256 (hex) of all images and labels."""
        found = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            found.update(str(array.shape).encode() + array.tobytes())
        return found.hexdigest()


def load_image_data(source: Tetris | Digits) -> ImageData:
    """Return the images that a manifest's [data] describes.

    Raises:
        ZooError: a library that the source needs is not installed.
    """
    loaders: dict[str, Callable[..., ImageData]] = {"tetris": _tetris, "digits": _digits}
    return loaders[source.source](source)


_TETROMINOES = (
    ((1, 1), (1, 1)),  # O
    ((1, 1, 1, 1),),  # I
    ((1, 0), (1, 0), (1, 1)),  # L
    ((0, 1, 1), (1, 1, 0)),  # S
)


def _tetris(source: Tetris) -> ImageData:
    # RandomState and not Generator: its stream is frozen, so the images stay the same across numpy versions.
    random = np.random.RandomState(source.seed)
    places = [_places(np.array(shape), turns=4 if source.rotations else 1) for shape in _TETROMINOES]
    total = source.train_size + source.test_size
    labels = np.concatenate([np.arange(size) % 4 for size in (source.train_size, source.test_size)])
    clean = np.stack([places[label][random.randint(len(places[label]))] for label in labels])
    noisy = clean + source.noise * random.standard_normal(clean.shape)
    # Bytes stand for -1 to 2, wide enough for three standard deviations of the usual noise on either side.
    pixels = np.rint((np.clip(noisy, -1.0, 2.0) + 1.0) * 85.0).astype(np.uint8).reshape(total, 1, 4, 4)
    train = slice(0, source.train_size)
    test = slice(source.train_size, total)
    return ImageData(pixels[train], labels[train], pixels[test], labels[test], 4, scale=1 / 85, offset=-1.0)


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


def _digits(source: Digits) -> ImageData:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ZooError("data source 'digits' needs scikit-learn; expected: pip install 'zoo-gen[generate]'") from None
    images, labels = load_digits(return_X_y=True)
    pixels = images.astype(np.uint8).reshape(-1, 1, 8, 8)  # grey levels 0 to 16
    order = np.random.RandomState(source.seed).permutation(len(pixels))
    train, test = order[source.test_size :], order[: source.test_size]
    labels = labels.astype(np.int64)
    return ImageData(pixels[train], labels[train], pixels[test], labels[test], 10, scale=1 / 16, offset=0.0)
