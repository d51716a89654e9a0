"""PNG and JPEG files in a folder, a zip or a tar: which lie in which class folder, and their pixels.

Archives are read from the first to the last member and never unpacked: a compressed tar can be read in no other order.
"""

import io
import lzma
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from zoo_gen.errors import ZooError, needing, one_line

if TYPE_CHECKING:
    from PIL.Image import Image

Mode = Literal["L", "RGB"]  # grey and colour, as Pillow calls them
SUFFIXES = (".png", ".jpg", ".jpeg")
_PNG_DEPTH = 24  # the byte of a PNG that says how many bits a channel has
_UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, RuntimeError)


@dataclass(frozen=True)
class Pictures:
    """The image files of a folder or archive with their classes, in the order of their names."""

    train: Mapping[str, str]  # name, from the folder or archive on -> class
    test: Mapping[str, str] | None  # None where training and test images lie together

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted."""
        return tuple(sorted(set(self.train.values())))


def listed(path: Path, *, train: str, test: str) -> Pictures:
    """Return the images of a folder or archive: CLASS/IMAGE, or TRAIN/CLASS/IMAGE and TEST/CLASS/IMAGE.

    A single folder around everything, as archives have, is looked through. Hidden files are passed over. Links in a
    folder are followed.

    Args:
        path: the folder, zip or tar.
        train: the name of the folder of training images.
        test: the name of the folder of test images.

    Raises:
        ZooError: it cannot be read, an image lies in no class folder, a class is empty, something else than images lies
            in one, or the classes of training and test images differ.
    """
    entries = {parts: is_file for parts, is_file in _entries(path) if not _is_hidden(parts)}
    depth = _depth(entries, stop=(train, test))
    divided = any(parts[depth : depth + 1] == (train,) for parts in entries)
    images: dict[str, dict[str, str]] = {"": {}, train: {}, test: {}}
    folders: set[tuple[str, str]] = set()
    for parts, is_file in sorted(entries.items()):
        part, below = (parts[depth], parts[depth + 1 :]) if divided and len(parts) > depth else ("", parts[depth:])
        if part not in images or (divided and not part) or not below:
            continue
        is_image = is_file and parts[-1].lower().endswith(SUFFIXES)
        if len(below) == 1 and is_image:
            raise ZooError(f"{path}/{'/'.join(parts)}: lies in no class folder; expected CLASS/IMAGE")
        if len(below) == 1 and not is_file:
            folders.add((part, below[0]))
        if len(below) > 1 and is_image:
            images[part]["/".join(parts)] = below[0]
        elif len(below) > 1 and is_file:
            raise ZooError(f"{path}/{'/'.join(parts)}: expected only images there, ending in {', '.join(SUFFIXES)}")
    for part, label in sorted(folders):
        if label not in images[part].values():
            raise ZooError(f"{path}: class folder {'/'.join(filter(None, (part, label)))} holds no image")
    if divided:
        _check_twins(path, images, train, test)
    pictures = Pictures(images[train], images[test]) if divided else Pictures(images[""], None)
    if len(pictures.classes) < 2:
        class_names = ", ".join(pictures.classes) or "none"
        raise ZooError(f"{path}: has class folders with images: {class_names}; expected two or more, CLASS/IMAGE")
    return pictures


def common_shape(
    path: Path, names: Collection[str], *, size: tuple[int, int] | None, mode: Mode | None, may_differ: bool
) -> tuple[tuple[int, int] | None, Mode]:
    """Return the size (height, width) and the mode that all images have, or are brought to.

    Args:
        path: the folder or archive.
        names: of the images.
        size: what all are resized to, where the manifest says it.
        mode: what all are converted to, where the manifest says it.
        may_differ: whether a later step makes the sizes equal; the size is None then, if it is not the same anyway.

    Raises:
        ZooError: images differ in what the manifest does not say, or one is damaged; the message names the files.
    """
    if size is not None and mode is not None:
        return size, mode
    first, first_size, first_mode = "", (0, 0), ""
    for name, content in contents(path, names):
        with _opened(content, where=f"{path}/{name}") as image:
            image_size, image_mode = (image.height, image.width), image.mode
        if not first:
            first, first_size, first_mode = name, image_size, image_mode
        if mode is None and image_mode != first_mode:
            raise ZooError(
                f"{path}: {first} has mode {first_mode} and {name} has {image_mode}; expected images of one mode, "
                'or mode = "L" or "RGB", to which all are converted'
            )
        if size is None and image_size != first_size:
            if not may_differ:
                raise ZooError(
                    f"{path}: {first} has {list(first_size)} pixels and {name} has {list(image_size)}; expected images "
                    "of one size, or size = [height, width], to which all are resized"
                )
            if mode is not None:
                return None, mode
            first_size = (0, 0)
    if mode is None and first_mode not in ("L", "RGB"):
        raise ZooError(
            f'{path}: {first} has mode {first_mode}; expected mode = "L" or "RGB", to which all are converted'
        )
    return size or (first_size if first_size != (0, 0) else None), mode or first_mode  # type: ignore[return-value]


def pixels(content: bytes, *, size: tuple[int, int] | None, mode: Mode, where: str) -> np.ndarray:
    """Return an image as uint8 (channel, height, width), converted to a mode and resized (bilinear, by Pillow).

    Raises:
        ZooError: it is damaged, or has more than 8 bits a channel, which conversion would cut off.
    """
    with _opened(content, where=where) as image:
        try:
            converted = image if image.mode == mode else image.convert(mode)
            if size is not None and (converted.height, converted.width) != size:
                from PIL.Image import Resampling

                converted = converted.resize((size[1], size[0]), Resampling.BILINEAR)
            values = np.asarray(converted)
        # What a damaged file raises depends on its format.
        except Exception as error:
            raise ZooError(f"{where}: is a damaged image ({one_line(error)})") from None
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def contents(path: Path, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the content of files of a folder or archive, each with its name, in the order in which they lie there.

    Raises:
        ZooError: the archive is damaged, or a file cannot be read.
    """
    asked = set(names)
    try:
        if path.is_dir():
            yield from ((name, (path / name).read_bytes()) for name in sorted(asked))
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for member_name in archive.namelist():
                    if (name := "/".join(_parts(member_name))) in asked:
                        yield name, archive.read(member_name)
        else:
            with tarfile.open(path) as tar:
                for member in tar:
                    name = "/".join(_parts(member.name))
                    if name in asked and (file := tar.extractfile(member)) is not None:
                        yield name, file.read()
    except _UNREADABLE as error:
        raise ZooError(f"{path}: cannot be read ({one_line(error)})") from None


def _entries(path: Path) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Yield the parts of the name of each file and folder of a folder or archive, and whether it is a file."""
    try:
        if path.is_dir():
            yield from _below(path, path)
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield from ((_parts(info.filename), not info.is_dir()) for info in archive.infolist())
        else:
            with tarfile.open(path) as tar:
                yield from ((_parts(member.name), member.isfile()) for member in tar)
    except _UNREADABLE as error:
        raise ZooError(f"{path}: is no folder, zip or tar that can be read ({one_line(error)})") from None


def _below(root: Path, folder: Path) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Yield what `_entries` does of a folder; its links are followed."""
    for each in folder.iterdir():
        if each.is_dir():
            if each.is_symlink() and folder.resolve().is_relative_to(each.resolve()):
                raise ZooError(f"{each}: is a link to a folder that holds it; expected folders and files")
            yield from _below(root, each)
        yield each.relative_to(root).parts, not each.is_dir()  # a link that leads nowhere fails when it is read


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.split("/") if part not in ("", "."))


def _is_hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith(".") for part in parts) or "__MACOSX" in parts or parts[-1:] == ("Thumbs.db",)


def _depth(entries: Mapping[tuple[str, ...], bool], *, stop: Collection[str]) -> int:
    """Return how many folders lie around everything; one that holds images itself is a class and does not count."""
    depth = 0
    while True:
        names = {parts[depth] for parts, is_file in entries.items() if len(parts) > depth + is_file}
        inside = [parts for parts in entries if len(parts) > depth + 1]
        if len(names) != 1 or names & set(stop) or not any(len(parts) > depth + 2 for parts in inside):
            return depth
        depth += 1


def _check_twins(path: Path, images: Mapping[str, Mapping[str, str]], train: str, test: str) -> None:
    """Refuse class folders that only the training or only the test images have."""
    if not images[test]:
        raise ZooError(f"{path}: has images in {train} and none in {test}; expected both, or test_folder = its name")
    for part, other in ((train, test), (test, train)):
        for label in sorted(set(images[part].values()) - set(images[other].values())):
            raise ZooError(f"{path}: has class folder {part}/{label} and no {other}/{label}; expected both")


def _opened(content: bytes, *, where: str) -> "Image":
    """Return an image whose pixels are not read yet."""
    with needing("data source 'folder'", extra="generate"):
        from PIL import Image, UnidentifiedImageError
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # a large picture is what was asked for
            image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
    except UnidentifiedImageError:  # its own text shows an address in memory
        raise ZooError(f"{where}: is no PNG or JPEG; expected an image of one of these formats") from None
    # What a damaged file raises depends on its format.
    except Exception as error:
        raise ZooError(f"{where}: is no PNG or JPEG that can be read ({one_line(error)})") from None
    # Pillow opens a PNG in colour of 16 bits a channel as one of 8, and cuts off the rest.
    if image.mode.startswith(("I", "F")) or (image.format == "PNG" and content[_PNG_DEPTH] > 8):
        raise ZooError(f"{where}: has more than 8 bits a channel; expected 8")
    return image
