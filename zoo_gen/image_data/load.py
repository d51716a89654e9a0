"""load_image_data: the arrays that the [data] of a manifest describes, read or downloaded below one data root.

The last two data sets stay in memory, since a worker asks for the same one again with every shard.
"""

from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import Field

from zoo_gen.errors import ZooError, shown
from zoo_gen.files.location import on_disk
from zoo_gen.image_data import (
    array_files,
    digits,
    folder,
    huggingface,
    idx,
    image_fields,
    sine,
    synthetic,
    table,
    tetris,
    torchvision,
)
from zoo_gen.image_data.arrays import ImageData
from zoo_gen.image_data.curves import Curves
from zoo_gen.image_data.fitted_images import FittedImages
from zoo_gen.image_data.places import default_data_root

Source = (
    tetris.Tetris
    | digits.Digits
    | synthetic.Synthetic
    | idx.Idx
    | torchvision.Torchvision
    | huggingface.HuggingFace
    | folder.Folder
    | array_files.Arrays
    | table.Table
    | sine.Sine
    | image_fields.ImageFields
)
DataSource = Annotated[Source, Field(discriminator="source")]
Data = ImageData | Curves | FittedImages


def load_image_data(source: Source, *, data_root: str | Path | None = None) -> Data:
    """Return the images that a manifest's [data] describes. The arrays are shared between callers: do not change them.

    Args:
        source: the description.
        data_root: the folder that holds data sets or receives what is downloaded; the environment's ZOO_DATA_ROOT if
            not given, or else zoo_gen/data in the user's cache folder.

    Raises:
        ZooError: the source is none, or its data is neither there nor to be had, is not what the source says, or a
            library is not installed.

    >>> from zoo_gen import load_image_data, open_zoo
    >>> images, labels = load_image_data(open_zoo("zoos/tiny").manifest.data).tensors("test")
    >>> images.shape[1:]  # channel, height, width
    torch.Size([1, 4, 4])
    """
    if not isinstance(source, Source):
        raise ZooError(f"image data: got {shown(source)}; expected the `data` of a manifest, as zoo.manifest.data")
    root = on_disk(data_root) if data_root else default_data_root()
    return _load(source, root.expanduser().absolute())


@lru_cache(maxsize=2)
def _load(source: Source, root: Path) -> Data:
    match source:
        case tetris.Tetris():
            return tetris.load(source)
        case digits.Digits():
            return digits.load(source)
        case synthetic.Synthetic():
            return synthetic.load(source)
        case idx.Idx():
            return idx.load(source, root)
        case torchvision.Torchvision():
            return torchvision.load(source, root)
        case huggingface.HuggingFace():
            return huggingface.load(source, root)
        case folder.Folder():
            return folder.load(source, root)
        case array_files.Arrays():
            return array_files.load(source, root)
        case table.Table():
            return table.load(source, root)
        case sine.Sine():
            return sine.load(source)
        case image_fields.ImageFields():
            images = _load(source.images, root)
            assert isinstance(images, ImageData)
            return image_fields.fitted(source, images)
