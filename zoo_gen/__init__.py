"""zoo_gen: train populations of neural networks as one computation, store them, and read them back.

Importing it does not import torch.
"""

from zoo_gen.errors import ZooError
from zoo_gen.image_data import ImageData, load_image_data
from zoo_gen.manifest import ZooManifest, find_manifest, read_manifest
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
    "read_manifest",
]
