"""Torchvision: the classic image data sets, found on disk or downloaded as torchvision does it.

The MNIST-like ones are read as IDX files without torchvision. A download goes to a folder of its own and is moved into
place when it is whole, so that what an interruption leaves is never taken for data.
"""

import contextlib
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from pydantic import Field, field_validator

from zoo_gen.errors import ZooError, one_line
from zoo_gen.files import reachable
from zoo_gen.image_data import idx
from zoo_gen.image_data.arrays import ImageData
from zoo_gen.image_data.steps import Part, Steps, Stored, apply, assemble


@dataclass(frozen=True)
class Facts:
    """What is known of a data set without its files."""

    shape: tuple[int, int, int]  # channel, height, width
    n_classes: int
    n_train: int
    n_test: int
    folder: str  # of the files, below torchvision's root
    files: tuple[str, ...]  # of IDX without .gz: training images and labels, test images and labels
    first_label: int = 0  # what IDX files call the first class

    @property
    def in_idx(self) -> bool:
        """Whether the files are IDX files, which are read without torchvision."""
        return self.folder.endswith("raw")


def _mnist_like(name: str) -> Facts:
    return Facts((1, 28, 28), 10, 60_000, 10_000, f"{name}/raw", idx.STANDARD)


def _emnist(split: str, n_classes: int, n_train: int, n_test: int, first_label: int = 0) -> Facts:
    parts = ("train-images-idx3", "train-labels-idx1", "test-images-idx3", "test-labels-idx1")
    files = tuple(f"emnist-{split}-{part}-ubyte" for part in parts)
    return Facts((1, 28, 28), n_classes, n_train, n_test, "EMNIST/raw", files, first_label)


CIFAR10_FILES = (*(f"data_batch_{batch}" for batch in range(1, 6)), "test_batch", "batches.meta")
# The unlabelled images are among what torchvision checks before it reads the others.
STL10_FILES = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "unlabeled_X.bin")
FACTS = {
    "MNIST": _mnist_like("MNIST"),
    "FashionMNIST": _mnist_like("FashionMNIST"),
    "KMNIST": _mnist_like("KMNIST"),
    "USPS": Facts((1, 16, 16), 10, 7_291, 2_007, "", ("usps.bz2", "usps.t.bz2")),
    "SVHN": Facts((3, 32, 32), 10, 73_257, 26_032, "", ("train_32x32.mat", "test_32x32.mat")),
    "CIFAR10": Facts((3, 32, 32), 10, 50_000, 10_000, "cifar-10-batches-py", CIFAR10_FILES),
    "CIFAR100": Facts((3, 32, 32), 100, 50_000, 10_000, "cifar-100-python", ("train", "test", "meta")),
    "STL10": Facts((3, 96, 96), 10, 5_000, 8_000, "stl10_binary", STL10_FILES),
}
EMNIST = {
    "byclass": _emnist("byclass", 62, 697_932, 116_323),
    "bymerge": _emnist("bymerge", 47, 697_932, 116_323),
    "balanced": _emnist("balanced", 47, 112_800, 18_800),
    "letters": _emnist("letters", 26, 124_800, 20_800, first_label=1),
    "digits": _emnist("digits", 10, 240_000, 40_000),
    "mnist": _emnist("mnist", 10, 60_000, 10_000),
}
# Where Debian's data packages are; dataset-fashion-mnist is one.
SYSTEM = Path("/usr/share/datasets")


class Torchvision(Steps):
    """One of torchvision's data sets by its name there; EMNIST also needs the name of its split."""

    source: Literal["torchvision"]
    dataset: Literal["MNIST", "FashionMNIST", "KMNIST", "EMNIST", "USPS", "SVHN", "CIFAR10", "CIFAR100", "STL10"]
    split: Annotated[
        Literal["byclass", "bymerge", "balanced", "letters", "digits", "mnist"] | None, Field(validate_default=True)
    ] = None

    # A check of the field and not of the whole, because the checks of the steps already need the facts.
    @field_validator("split")
    @classmethod
    def _of_emnist(cls, split: str | None, info: pydantic.ValidationInfo) -> str | None:
        dataset = info.data.get("dataset")
        if dataset is not None and (dataset == "EMNIST") != (split is not None):
            raise ValueError(
                f"a split belongs to EMNIST, which needs one of {', '.join(EMNIST)}; the dataset is {dataset}"
            )
        return split

    @property
    def facts(self) -> Facts:
        """What is known of the data set."""
        return EMNIST[self.split] if self.split is not None else FACTS[self.dataset]

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return self.facts.n_classes

    @property
    def stored(self) -> Stored:
        """What the files hold."""
        facts = self.facts
        return Stored(facts.shape[0], facts.shape[1:], facts.n_train, facts.n_test)


def load(source: Torchvision, root: Path) -> ImageData:
    """Return the images, downloaded if they are not there.

    Raises:
        ZooError: the data cannot be had, is damaged or not whole, or torchvision is not installed.
    """
    folder = _find(source, root, SYSTEM)
    if folder is not None:
        return _read(source, folder)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as staged:
            reachable.require(_addresses(source.dataset), needed_for="the download")
            _download(source, Path(staged))
            folder = _find(source, Path(staged))
            if folder is None:
                raise ZooError("the download lacks files")
            # Read before it is moved: what does not read never gets a place among the data.
            data = _read(source, folder)
            for file in sorted(path for path in Path(staged).rglob("*") if path.is_file()):
                target = root / file.relative_to(staged)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)
    # A download fails in the ways of sockets, HTTP, archives, disks and torchvision.
    except Exception as error:
        files = ", ".join(f"{file}[.gz]" if source.facts.in_idx else file for file in source.facts.files)
        raise ZooError(
            f"{root}: has no {source.dataset}, and it cannot be downloaded ({one_line(error)}); expected in"
            f" {root / source.facts.folder}: {files}"
        ) from None
    return data


def is_local(source: Torchvision, root: Path) -> bool:
    """Return whether the files are on the disk, so that nothing would be downloaded."""
    return _find(source, root, SYSTEM) is not None


def _find(source: Torchvision, root: Path, system: Path | None = None) -> Path | None:
    """Return the folder that has the files: torchvision's, one named like the data set, or the system's."""
    facts = source.facts
    named = folders_named(source.dataset, root)
    folders = [root / facts.folder, *(folder / facts.folder for folder in named)]
    if facts.in_idx:
        folders += named + (folders_named(source.dataset, system) if system else [])
        return next((folder for folder in folders if idx.complete(folder, facts.files)), None)
    return next((folder for folder in folders if all((folder / file).is_file() for file in facts.files)), None)


def folders_named(dataset: str, root: Path, *, beginning: bool = False) -> list[Path]:
    """Return the folders inside `root` that are named like a data set, whatever their case, dashes and spaces.

    Args:
        dataset: its name.
        root: where to look; it need not exist.
        beginning: whether folders whose names only begin so follow after those.
    """
    name, plain = dataset.lower(), str.maketrans("", "", "-_ ")
    names = {path: path.name.lower().translate(plain) for path in sorted(root.glob("*")) if path.is_dir()}
    longer = [path for path, each in names.items() if each != name and each.startswith(name)] if beginning else []
    return [path for path, each in names.items() if each == name] + longer


def _read(source: Torchvision, folder: Path) -> ImageData:
    """Return the images in a folder that has the data set's files."""
    facts = source.facts
    sizes = (facts.n_train, facts.n_test)
    if facts.in_idx:
        return idx.load_folder(
            source, folder, facts.files, n_classes=facts.n_classes, first_label=facts.first_label, sizes=sizes
        )
    try:
        (train_images, train_labels), (test_images, test_labels) = _arrays(source.dataset, folder)
    except ZooError:
        raise
    # What a damaged file raises depends on its format.
    except Exception as error:
        raise ZooError(
            f"{folder}: {source.dataset} is damaged or incomplete ({one_line(error)}); expected the published files;"
            " remove them to download them again"
        ) from None
    if (len(train_images), len(test_images)) != sizes or train_images.shape[1:] != facts.shape:
        held = f"{len(train_images)} and {len(test_images)} images of {list(train_images.shape[1:])}"
        expected = f"{sizes[0]} and {sizes[1]} of {list(facts.shape)}"
        raise ZooError(f"{folder}: {source.dataset} holds {held}; expected {expected}")
    return assemble(
        source,
        n_train=len(train_images),
        n_test=len(test_images),
        n_classes=facts.n_classes,
        train=lambda chosen: (apply(source, train_images[chosen]), train_labels[chosen]),
        test=lambda chosen: (apply(source, test_images[chosen]), test_labels[chosen]),
        where=str(folder),
    )


def _arrays(name: str, folder: Path) -> tuple[Part, Part]:
    """Return the training and the test images (image, channel, height, width) and labels, as torchvision reads them."""
    root = folder.parent if FACTS[name].folder else folder
    parts = []
    for dataset in _datasets(name, root):
        images = np.asarray(dataset.data)
        if name == "USPS":
            images = images[:, None]
        elif name.startswith("CIFAR"):
            images = images.transpose(0, 3, 1, 2)
        labels = dataset.labels if name in ("SVHN", "STL10") else dataset.targets
        parts.append((images, np.asarray(labels, dtype=np.int64)))
    return parts[0], parts[1]


def _datasets(name: str, root: Path, *, download: bool = False) -> tuple[Any, Any]:
    """Return torchvision's training and test data set; it checks the published digests of what it reads."""
    of = getattr(_torchvision(), name)
    if name in ("SVHN", "STL10"):
        return of(root, split="train", download=download), of(root, split="test", download=download)
    return of(root, train=True, download=download), of(root, train=False, download=download)


def _download(source: Torchvision, root: Path) -> None:
    """Let torchvision download a data set into an empty folder."""
    # Without a limit, a network that swallows packets would hold the run for ever.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(60)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            if source.dataset == "EMNIST":
                _torchvision().EMNIST(root, split=source.split, download=True)
            else:
                _datasets(source.dataset, root, download=True)
    finally:
        socket.setdefaulttimeout(before)


def _addresses(name: str) -> list[str]:
    """Return where torchvision would look for a data set."""
    dataset = getattr(_torchvision(), name)
    parts = getattr(dataset, "split_list", {}).values()
    # EMNIST inherits the mirrors of MNIST, and does not use them.
    single = [dataset.url] if hasattr(dataset, "url") else [url for url, *_ in parts]
    return single or list(dataset.mirrors)


def _torchvision() -> Any:
    try:
        from torchvision import datasets
    # Beside a torch that it was not built for, torchvision raises a RuntimeError.
    except (ImportError, RuntimeError) as error:
        raise ZooError(
            f"torchvision cannot be imported ({one_line(error)}); expected: pip install 'zoo-gen[generate]'"
        ) from None
    return datasets
