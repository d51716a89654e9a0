"""Image data sets as arrays of bytes, and points of curves and images: what models are trained and tested on.

Pixels are kept as uint8; a model's input is `scale * pixel + offset`, a channel its own pair. A source says its task
and the shape of its data before any of it is there, so that a manifest can be checked on a machine without the data.
"""

from zoo_gen.image_data.array_files import Arrays
from zoo_gen.image_data.arrays import ImageData
from zoo_gen.image_data.curves import Curves
from zoo_gen.image_data.digits import Digits
from zoo_gen.image_data.fitted_images import FittedImages
from zoo_gen.image_data.folder import Folder
from zoo_gen.image_data.huggingface import HuggingFace
from zoo_gen.image_data.idx import Idx
from zoo_gen.image_data.image_fields import ImageFields
from zoo_gen.image_data.load import Data, DataSource, load_image_data
from zoo_gen.image_data.sine import Sine
from zoo_gen.image_data.source import HYPERPARAMETERS_OF_DATA
from zoo_gen.image_data.synthetic import Synthetic
from zoo_gen.image_data.table import Table
from zoo_gen.image_data.tetris import Tetris
from zoo_gen.image_data.torchvision import Torchvision

__all__ = [
    "HYPERPARAMETERS_OF_DATA",
    "Arrays",
    "Curves",
    "Data",
    "DataSource",
    "Digits",
    "FittedImages",
    "Folder",
    "HuggingFace",
    "Idx",
    "ImageData",
    "ImageFields",
    "Sine",
    "Synthetic",
    "Table",
    "Tetris",
    "Torchvision",
    "load_image_data",
]
