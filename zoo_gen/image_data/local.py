"""Test images that are already on the disk, for checking what others trained: nothing is downloaded.

Folders in IDX format are taken also where they hold fewer images than the published set, since accuracies may have
been measured on such a part; whoever compares says on how many images.
"""

from pathlib import Path

import numpy as np

from zoo_gen.image_data import idx, torchvision
from zoo_gen.image_data.arrays import ImageData
from zoo_gen.image_data.load import load_image_data
from zoo_gen.image_data.steps import Steps, apply

_TEST = idx.STANDARD[2:]
_PLAIN = str.maketrans("", "", "-_ ")


def test_images(source: Steps, root: Path) -> ImageData | None:
    """Return the test images of a source below `root` (its training images are left empty), or None.

    Raises:
        ZooError: there are files of it, and they are damaged.
    """
    if not isinstance(source, torchvision.Torchvision):
        return None
    if not source.facts.in_idx:
        found = load_image_data(source, data_root=root) if torchvision.at_hand(source, root) else None
        return found if isinstance(found, ImageData) else None
    folder = next((path for path in _folders(source.dataset, root) if idx.complete(path, _TEST)), None)
    if folder is None:
        return None
    images_path, labels_path = idx.present(folder, _TEST[0]), idx.present(folder, _TEST[1])
    if images_path is None or labels_path is None:
        return None
    images, labels = idx.read(images_path), idx.read(labels_path).astype(np.int64) - source.facts.first_label
    scale, offset = source.affine
    pixels = np.array(apply(source, images[:, None]))  # torch wants what can be written to
    none, no_label = pixels[:0], labels[:0]
    return ImageData(none, no_label, none, no_label, pixels, labels, source.n_classes, scale, offset)


def _folders(dataset: str, root: Path) -> list[Path]:
    """Return where the files may be: torchvision's place, folders named like the set or beginning so, the root."""
    name = dataset.lower()
    inside = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    named = [path for path in inside if path.name.lower().translate(_PLAIN) == name]
    similar = [path for path in inside if path.name.lower().translate(_PLAIN).startswith(name) and path not in named]
    return [root / dataset / "raw", *named, *(path / dataset / "raw" for path in named), *similar, root]
