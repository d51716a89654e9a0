"""Idx: a folder of four files in the IDX format of MNIST, and the reader of that format.

The manifest says how many images of what size there are and the files are checked against it, never the other way.
"""

import gzip
import struct
import zlib
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, Strict

from zoo_gen.errors import ZooError
from zoo_gen.files.schema import Count
from zoo_gen.image_data.arrays import ImageData
from zoo_gen.image_data.steps import Steps, Stored, apply, assemble

STANDARD = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


class Idx(Steps):
    """Grey images in the four files of MNIST, in `folder` below the data root or at an absolute path.

    `train_size` (with `validation_size`) and `test_size` may be all of the images or fewer.
    """

    source: Literal["idx"]
    folder: str = Field(min_length=1)
    size: tuple[Count, Count] = (28, 28)  # height and width in the files
    n_classes: Annotated[int, Strict(), Field(ge=2)] = 10
    train_size: Count
    test_size: Count

    @property
    def stored(self) -> Stored:
        """What the files hold."""
        return Stored(channels=1, size=self.size)


def load(source: Idx, root: Path) -> ImageData:
    """Return the images.

    Raises:
        ZooError: a file is missing, damaged or not as the source says.
    """
    folder = root / Path(source.folder).expanduser()
    if not complete(folder, STANDARD):
        names = ", ".join(STANDARD)
        raise ZooError(f"{folder}: is not a folder of IDX files; expected {names}, each plain or ending in .gz")
    return load_folder(source, folder, STANDARD, n_classes=source.n_classes)


def load_folder(
    source: Steps,
    folder: Path,
    names: tuple[str, ...],
    *,
    n_classes: int,
    first_label: int = 0,
    sizes: tuple[int, int] | None = None,
) -> ImageData:
    """Return the images of a folder with the files `names`: training images and labels, test images and labels.

    Args:
        source: the description.
        folder: where the files are.
        names: of the files, without .gz.
        n_classes: labels lie below, after `first_label` is subtracted.
        first_label: what the files call the first class.
        sizes: how many training and test images there must be, where that is known.

    Raises:
        ZooError: a file is missing, damaged or not as described.
    """
    arrays: list[np.ndarray] = []
    for name, dimensions in zip(names, (3, 1, 3, 1), strict=True):
        path = present(folder, name)
        if path is None:
            raise ZooError(f"{folder}: has no {name} or {name}.gz")
        array = read(path)
        if array.ndim != dimensions:
            raise ZooError(f"{path}: has {array.ndim} dimensions; expected {dimensions}")
        if dimensions == 3 and array.shape[1:] != source.stored.size:
            size, expected = list(array.shape[1:]), list(source.stored.size or ())
            raise ZooError(f"{path}: holds images of {size} pixels; expected size = {expected}")
        if dimensions == 1 and len(array) != len(arrays[-1]):
            raise ZooError(f"{path}: holds {len(array)} labels; expected {len(arrays[-1])}, one an image")
        arrays.append(array)
    train_images, train_labels, test_images, test_labels = arrays
    if sizes is not None and (len(train_images), len(test_images)) != sizes:
        raise ZooError(
            f"{folder}: holds {len(train_images)} training and {len(test_images)} test images; expected {sizes[0]} and"
            f' {sizes[1]}; for images of your own say source = "idx" with folder = "{folder.name}"'
        )

    def of(images: np.ndarray, labels: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return apply(source, images[chosen, None]), labels[chosen].astype(np.int64) - first_label

    return assemble(
        source,
        n_train=len(train_images),
        n_test=len(test_images),
        n_classes=n_classes,
        train=lambda chosen: of(train_images, train_labels, chosen),
        test=lambda chosen: of(test_images, test_labels, chosen),
        where=str(folder),
    )


def complete(folder: Path, names: tuple[str, ...]) -> bool:
    """Return whether a folder has all these files, each plain or ending in .gz."""
    return all(present(folder, name) is not None for name in names)


def present(folder: Path, name: str) -> Path | None:
    """Return the path of a file that may end in .gz, or None."""
    paths = [folder / name, folder / f"{name}.gz"]
    return next((path for path in paths if path.is_file()), None)


def read(path: Path) -> np.ndarray:
    """Return the array of bytes in an IDX file: 0, 0, 8 (bytes), the number of axes, each big-endian, the values."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise ZooError(f"{path}: is damaged or incomplete; expected a gzipped IDX file") from None
    except OSError as error:
        raise ZooError(f"{path}: cannot be read ({error.strerror}); expected an IDX file") from None
    dimensions = content[3] if len(content) > 3 else 0
    start = 4 + 4 * dimensions
    if content[:3] != b"\0\0\x08" or not dimensions or len(content) < start:
        raise ZooError(f"{path}: is not an IDX file of bytes; expected it to begin with 0, 0, 8 and its dimensions")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != int(np.prod(shape, dtype=np.int64)):
        raise ZooError(f"{path}: holds {len(content) - start} values; expected {' x '.join(map(str, shape))}")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
