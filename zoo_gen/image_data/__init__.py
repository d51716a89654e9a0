"""Image datasets as arrays of bytes: what the models of a zoo are trained and tested on.

Pixels are kept as uint8; a model's input is `scale * pixel + offset`, a channel its own pair. A source says what its
images are like before any of them is there, so that a manifest can be checked on a machine without the data.
"""

from zoo_gen.image_data.arrays import ImageData
from zoo_gen.image_data.digits import Digits
from zoo_gen.image_data.huggingface import HuggingFace
from zoo_gen.image_data.idx import Idx
from zoo_gen.image_data.load import DataSource, load_image_data
from zoo_gen.image_data.sine import Sine, Waves
from zoo_gen.image_data.synthetic import Synthetic
from zoo_gen.image_data.tetris import Tetris
from zoo_gen.image_data.torchvision import Torchvision

__all__ = [
    "DataSource",
    "Digits",
    "HuggingFace",
    "Idx",
    "ImageData",
    "Sine",
    "Synthetic",
    "Tetris",
    "Torchvision",
    "Waves",
    "load_image_data",
]
