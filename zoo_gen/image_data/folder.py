"""Folder: PNG or JPEG files of one's own in a folder a class, read from a folder, a zip or a tar.

What a manifest leaves out (classes, sizes, mode) is looked up in the files when the manifest is read, and a zoo keeps
the manifest with all of it, so that a zoo can be read where the images are not.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydantic
from pydantic import Field, model_validator

from zoo_gen.errors import ZooError
from zoo_gen.files.schema import Count
from zoo_gen.image_data import pictures
from zoo_gen.image_data.arrays import ImageData
from zoo_gen.image_data.examples import Share, shuffled, split_off
from zoo_gen.image_data.own_files import Choice, completed
from zoo_gen.image_data.pictures import Mode, Pictures
from zoo_gen.image_data.places import own_path
from zoo_gen.image_data.steps import Size, Steps, Stored, apply, chosen


class Folder(Steps):
    """Images in class folders, at `path`: absolute, in the working folder, or below the data root.

    Args:
        path: of a folder, a zip or a tar, plain or compressed.
        train_folder: its folder of training images, where there is one.
        test_folder: the same of test images.
        test_share: which share of the images is for tests, where there are no such folders; drawn by `seed`.
        size: height and width that all are resized to; looked up where all have the same.
        mode: "L" (grey) or "RGB", to which all are converted; looked up where all have the same.
        classes: their names, sorted; looked up.
    """

    source: Literal["folder"]
    path: str = Field(min_length=1)
    train_folder: str = "train"
    test_folder: str = "test"
    test_share: Share | None = None
    size: tuple[Count, Count] | None = None
    mode: Mode
    classes: tuple[str, ...] = Field(min_length=2)
    train_size: Count
    test_size: Count

    @model_validator(mode="before")
    @classmethod
    def _look_up(cls, document: Any, info: pydantic.ValidationInfo) -> Any:
        return completed(document, info, _Choice, _look_up, facts={"classes", "mode", "train_size", "test_size"})

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)

    @property
    def stored(self) -> Stored:
        """What the files hold."""
        return Stored(1 if self.mode == "L" else 3, self.size)


class _Choice(Choice):
    """What decides where the images are and what they are brought to."""

    train_folder: str = "train"
    test_folder: str = "test"
    size: tuple[Count, Count] | None = None
    mode: Mode | None = None
    resize: Size | None = None
    center_crop: Size | None = None

    @property
    def may_differ(self) -> bool:
        """Whether the steps make images of different sizes equal."""
        return isinstance(self.resize, tuple) or (self.resize is not None and self.center_crop is not None)


def _look_up(choice: _Choice, root: Path) -> dict[str, Any]:
    """Return what the files say and the manifest does not."""
    path = own_path(choice.path, root)
    listed = pictures.listed(path, train=choice.train_folder, test=choice.test_folder)
    train, test = _divided(listed, choice.test_share, choice.seed, path)
    size, mode = pictures.common_shape(
        path, [*train, *test], size=choice.size, mode=choice.mode, may_differ=choice.may_differ
    )
    facts: dict[str, Any] = {} if size is None else {"size": size}
    return facts | {"mode": mode, "classes": listed.classes} | choice.sizes(len(train), len(test), of="images")


def _divided(listed: Pictures, share: float | None, seed: int, path: Path) -> tuple[list[str], list[str]]:
    """Return the names of all training images, shuffled as they lie class by class, and of all test images."""
    if (listed.test is None) != (share is not None):
        folders = "class folders alone" if listed.test is None else "a training and a test folder"
        expected = "test_share = 0.2 or another share" if listed.test is None else "no test_share"
        raise ZooError(f"{path}: there are {folders}; expected {expected} in [data]")
    names = list(listed.train)
    if listed.test is not None:
        return [names[at] for at in shuffled(len(names), seed)], list(listed.test)
    train, test = split_off(len(names), share or 0, seed)
    return [names[at] for at in train], [names[at] for at in test]


def load(source: Folder, root: Path) -> ImageData:
    """Return the images.

    Raises:
        ZooError: they are not there, are damaged, or are not what the source says.
    """
    path = own_path(source.path, root)
    listed = pictures.listed(path, train=source.train_folder, test=source.test_folder)
    if listed.classes != source.classes:
        raise ZooError(
            f"{path}: has the classes {', '.join(listed.classes)}; expected {', '.join(source.classes)}, as [data] says"
        )
    train, test = _divided(listed, source.test_share, source.seed, path)
    numbers = chosen(source, n_train=len(train), n_test=len(test), where=str(path))
    parts = [[names[at] for at in part] for names, part in zip((train, train, test), numbers, strict=True)]
    images = _read(source, path, [name for part in parts for name in part])
    number_of = {label: number for number, label in enumerate(source.classes)}
    label_of = dict(listed.train) | dict(listed.test or {})
    labels = [np.array([number_of[label_of[name]] for name in part], dtype=np.int64) for part in parts]
    of_parts = np.split(images, np.cumsum([len(part) for part in parts])[:-1])
    scale, offset = source.affine
    return ImageData.of(
        list(zip(of_parts, labels, strict=True)), n_classes=source.n_classes, scale=scale, offset=offset
    )


def _read(source: Folder, path: Path, names: Sequence[str]) -> np.ndarray:
    """Return the images of these names, uint8 (image, channel, height, width), after the steps."""
    place_of = {name: place for place, name in enumerate(names)}
    alone = source.size is None  # images of different sizes go through the steps one by one
    shape = source.input_shape if alone else (source.stored.channels, *(source.size or ()))
    images = np.empty((len(names), *shape), dtype=np.uint8)
    missing = set(names)
    for name, content in pictures.contents(path, names):
        image = pictures.pixels(content, size=source.size, mode=source.mode, where=f"{path}/{name}")
        images[place_of[name]] = apply(source, image[None])[0] if alone else image
        missing.discard(name)
    for name in sorted(missing):
        raise ZooError(f"{path}/{name}: cannot be read; expected a file")
    return images if alone else apply(source, images)
