"""Test images of published zoos, read where they are already on the disk; nothing is downloaded.

Folders in IDX format may hold fewer images than the published set, since accuracies may have been measured on a part.
"""

from pathlib import Path

import numpy as np

from zoo_gen.image_data import idx, torchvision
from zoo_gen.image_data.arrays import ImageData
from zoo_gen.image_data.steps import Steps, apply

_TEST = idx.STANDARD[2:]


def test_images(source: Steps, root: Path) -> ImageData | None:
    """Return the test images of a source below `root` (its training images are left empty), or None.

    Raises:
        ZooError: there are files of it, and they are damaged.
    """
    if not isinstance(source, torchvision.Torchvision):
        return None
    if not source.facts.in_idx:
        return torchvision.load(source, root) if torchvision.is_local(source, root) else None
    folder = next((path for path in _folders(source.dataset, root) if idx.complete(path, _TEST)), None)
    if folder is None:
        return None
    images_path, labels_path = idx.present(folder, _TEST[0]), idx.present(folder, _TEST[1])
    if images_path is None or labels_path is None:
        return None
    images, labels = idx.read(images_path), idx.read(labels_path).astype(np.int64) - source.facts.first_label
    scale, offset = source.affine
    pixels = np.array(apply(source, images[:, None]))  # torch wants what can be written to
    empty = pixels[:0], labels[:0]
    return ImageData(*empty, *empty, pixels, labels, source.n_classes, scale, offset)


def _folders(dataset: str, root: Path) -> list[Path]:
    """Return where the files may be: torchvision's place, folders named like the set or beginning so, the root."""
    named = torchvision.folders_named(dataset, root)
    similar = torchvision.folders_named(dataset, root, beginning=True)[len(named) :]
    return [root / dataset / "raw", *named, *(path / dataset / "raw" for path in named), *similar, root]
