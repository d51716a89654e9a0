"""zoo_gen: train populations of neural networks as one computation, store them, and read them back.

The public names are imported on first use, so that commands start fast. Reading a zoo never imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo_gen.errors import ZooError
    from zoo_gen.image_data import ImageData, load_image_data
    from zoo_gen.manifest import ZooManifest, find_manifest, read_manifest
    from zoo_gen.published.pull import pull
    from zoo_gen.published.push import push
    from zoo_gen.zoo import Zoo, ZooView, open_zoo

__all__ = [
    "ImageData",
    "Zoo",
    "ZooError",
    "ZooManifest",
    "ZooView",
    "find_manifest",
    "load_image_data",
    "open_zoo",
    "pull",
    "push",
    "read_manifest",
]

_HOME = {
    "ImageData": "image_data",
    "Zoo": "zoo",
    "ZooError": "errors",
    "ZooManifest": "manifest",
    "ZooView": "zoo",
    "find_manifest": "manifest",
    "load_image_data": "image_data",
    "open_zoo": "zoo",
    "pull": "published.pull",
    "push": "published.push",
    "read_manifest": "manifest",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'zoo_gen' has no attribute {name!r}")
    return getattr(import_module(f"zoo_gen.{_HOME[name]}"), name)
