"""The classes of the images that the networks of a zoo are fitted to, as a zoo keeps them among its attributes.

The manifest says which image a model fits, but not of what class that is; kept here, the table of models is derived and
checked where the images are not. The labels of a whole image set are deflated, a few dozen kilobytes.
"""

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from zoo_gen.errors import ZooError

IMAGE_LABELS = "image_labels"  # the attribute
COLUMN = "class"
_KIND = "<u2"


def described(labels: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return the attribute for labels (image,) and the names of the classes, as plain data."""
    content = zlib.compress(labels.astype(_KIND).tobytes(), 9)
    return {"classes": list(classes), "labels": base64.b64encode(content).decode()}


def with_classes(rows: pa.Table, attributes: Mapping[str, Any], *, where: str) -> pa.Table:
    """Return rows of models with the class of the image that each is fitted to; as they are where there are no images.

    Raises:
        ZooError: the attribute cannot be read, or lacks an image.
    """
    if IMAGE_LABELS not in attributes:
        return rows
    try:
        stored = attributes[IMAGE_LABELS]
        labels = np.frombuffer(zlib.decompress(base64.b64decode(stored["labels"])), _KIND)
        names = [stored["classes"][number] for number in labels[rows["image"].to_numpy()]]
    except (KeyError, IndexError, TypeError, ValueError, zlib.error) as error:
        raise ZooError(f"{where}: attribute {IMAGE_LABELS!r} does not give the class of each image ({error})") from None
    return rows.add_column(rows.column_names.index("split"), COLUMN, pa.array(names, pa.string()))
