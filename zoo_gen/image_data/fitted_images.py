"""FittedImages: images that networks are fitted to, one a model, as grey levels or colours at coordinates of pixels.

The coordinates are those of SIREN's public code (Sitzmann et al., NeurIPS 2020): from -1 to 1 along each side, both
ends included, the rows first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from zoo_gen.image_data.arrays import ImageData

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class FittedImages:
    """The images of a set, numbered through its training, validation and test images, in this order."""

    image_set: ImageData
    classes: tuple[str, ...]  # their names
    value_range: float  # from the darkest to the brightest value that a network is fitted to

    hyperparameters: ClassVar[tuple[str, ...]] = ("image",)
    parts: ClassVar[tuple[str, ...]] = ("train",)  # on which models are measured: all pixels
    input_shape: ClassVar[tuple[int, ...]] = (2,)  # of what a network reads: two coordinates

    @property
    def n_outputs(self) -> int:
        """What a network gives: a number a channel."""
        return self.image_set.input_shape[0]

    @property
    def n_train(self) -> int:
        """The number of pixels."""
        return len(self.coordinates)

    @property
    def coordinates(self) -> np.ndarray:
        """Where each pixel is, row by row, float64 (pixel, 2): down and across, from -1 to 1."""
        sides = [np.linspace(-1.0, 1.0, length) for length in self.image_set.input_shape[1:]]
        return np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 2)

    @property
    def labels(self) -> np.ndarray:
        """The class of every image, int64 (image,)."""
        data = self.image_set
        return np.concatenate([data.train_labels, data.validation_labels, data.test_labels])

    def values(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return what networks are fitted to, float64 (image, channel, pixel), of the images with these numbers."""
        data = self.image_set
        parts = [data.train_images, data.validation_images, data.test_images]
        starts = np.cumsum([0, *map(len, parts)])
        part_of = np.searchsorted(starts, numbers, side="right") - 1
        chosen = [parts[part][number - starts[part]] for part, number in zip(part_of, numbers, strict=True)]
        pixels = np.stack(chosen).reshape(len(chosen), self.n_outputs, -1).astype(np.float64)
        return pixels * data.scale[:, None] + data.offset[:, None]

    def measure(self, module: "torch.nn.Module", hyperparameters: Mapping[str, Any]) -> dict[str, float]:
        """Return how well one model as a plain module fits its image, {"train_mse": ...}."""
        import torch

        outputs = module(torch.from_numpy(self.coordinates).float())  # (pixel, channel)
        expected = torch.from_numpy(self.values([hyperparameters["image"]])[0]).T
        return {"train_mse": torch.nn.functional.mse_loss(outputs.double(), expected).item()}

    def sha256(self) -> str:
        """Return the SHA-256 (hex) of all images and labels."""
        return self.image_set.sha256()
