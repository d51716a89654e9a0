"""HuggingFace: any image data set of the Hub that the `datasets` library reads, pinned by its commit.

Downloads are saved below the data root in a folder that names the commit, and are looked for there first:
without the Hub, `datasets` itself would answer with whatever revision of the data set it had last seen.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, Strict

from zoo_gen.errors import ZooError, needing, one_line, unknown_name
from zoo_gen.files import hub, reachable
from zoo_gen.files.schema import Count
from zoo_gen.image_data.arrays import ImageData
from zoo_gen.image_data.steps import Part, Steps, Stored, apply, assemble

# What Pillow calls images that have no colour to lose.
_GREY = ("1", "L")


class HuggingFace(Steps):
    """Two splits of a data set on the Hub, with a column of images and a column of whole-numbered labels.

    Images are decoded into `channels`: 1 takes grey images only, 3 any. `size` is left out where images differ in size;
    resize, or resize with center_crop, must then make them equal.
    """

    source: Literal["huggingface"]
    repository: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")
    config: str | None = None
    image_column: str = "image"
    label_column: str = "label"
    train_split: str = "train"
    test_split: str = "test"
    channels: Literal[1, 3]
    size: tuple[Count, Count] | None = None  # height and width in the files
    n_classes: Annotated[int, Strict(), Field(ge=2)]
    train_size: Count
    test_size: Count

    @property
    def stored(self) -> Stored:
        """What the files hold."""
        return Stored(self.channels, self.size)


def load(source: HuggingFace, root: Path) -> ImageData:
    """Return the images, downloaded if they are not below the data root.

    Raises:
        ZooError: the data cannot be had or is not what the source says, or `datasets` is not installed.
    """
    where = f"{source.repository}@{source.revision[:8]}"
    splits = _splits(source, root, where=where)
    for split in (source.train_split, source.test_split):
        if split not in splits:
            raise ZooError(f"{where}: {unknown_name('split', split, splits)}")
        for column in (source.image_column, source.label_column):
            if column not in splits[split].column_names:
                raise ZooError(f"{where} {split}: {unknown_name('column', column, splits[split].column_names)}")
    train, test = splits[source.train_split], splits[source.test_split]
    return assemble(
        source,
        n_train=len(train),
        n_test=len(test),
        n_classes=source.n_classes,
        train=partial(_images, source, train, where=f"{where} {source.train_split}"),
        test=partial(_images, source, test, where=f"{where} {source.test_split}"),
        where=where,
    )


def _splits(source: HuggingFace, root: Path, *, where: str) -> Any:
    """Return all splits of the revision: a mapping from names to datasets.Dataset."""
    with needing("data source 'huggingface'", extra="generate"):
        import datasets
    folder = (
        root / "huggingface" / source.repository.replace("/", "--") / source.revision / (source.config or "default")
    )
    try:
        if folder.is_dir():
            return datasets.load_from_disk(str(folder))
        if Path(source.repository).exists():
            raise ZooError("a folder of that name is here and would be read; run elsewhere")
        reachable.require([hub.endpoint()], needed_for="the download")
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A new cache, thrown away afterwards, holds no other revision and no incomplete download.
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as staged, hub.quiet():
            splits = datasets.load_dataset(
                source.repository, source.config, revision=source.revision, cache_dir=f"{staged}/cache"
            )
            splits.save_to_disk(f"{staged}/complete")
            try:
                Path(staged, "complete").rename(folder)
            except OSError:
                # Another run may have been faster; it saved the same.
                if not folder.is_dir():
                    raise
        return datasets.load_from_disk(str(folder))
    # Its errors come from several libraries and have no class in common.
    except Exception as error:
        raise ZooError(
            f"{where}: cannot be loaded ({one_line(error)}); expected the data set on the Hub, or "
            f"{folder} from a machine that has loaded it"
        ) from None


def _images(source: HuggingFace, split: Any, chosen: np.ndarray, *, where: str) -> Part:
    """Return the images of a split with these numbers, after the steps, and their labels."""
    images = np.empty((len(chosen), *source.input_shape), dtype=np.uint8)
    labels = np.empty(len(chosen), dtype=np.int64)
    for place, row in enumerate(split.select(chosen)):
        image, label = row[source.image_column], row[source.label_column]
        number = int(chosen[place])
        if not hasattr(image, "convert"):
            raise ZooError(f"{where}: {source.image_column}[{number}] is no image but a {type(image).__name__}")
        if type(label) is not int:
            raise ZooError(f"{where}: {source.label_column}[{number}] is {label!r}; expected a whole number")
        if source.channels == 1 and image.mode not in _GREY:
            raise ZooError(f"{where}: image {number} is of mode {image.mode}; expected grey, or channels = 3")
        if source.size is not None and (image.height, image.width) != source.size:
            size = [image.height, image.width]
            raise ZooError(f"{where}: image {number} is {size}; expected size = {list(source.size)}")
        # Pillow gives (height, width) for grey and (height, width, channel) for colour.
        pixels = np.asarray(image.convert("L" if source.channels == 1 else "RGB")).reshape(
            image.height, image.width, source.channels
        )
        images[place] = apply(source, pixels.transpose(2, 0, 1)[None])[0]
        labels[place] = label
    return images, labels
