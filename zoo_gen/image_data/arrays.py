"""ImageData: the images and labels of a zoo in memory.

The digest covers bytes and labels alone: how bytes become inputs is said by the manifest, which has its own digest.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import torch

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True, eq=False)
class ImageData:
    """Training, validation and test images with their labels; `scale[c] * pixel + offset[c]` is a model's input."""

    train_images: np.ndarray  # uint8 (image, channel, height, width)
    train_labels: np.ndarray  # int64 (image,)
    validation_images: np.ndarray  # uint8 (image, channel, height, width), possibly of no image
    validation_labels: np.ndarray  # int64 (image,)
    test_images: np.ndarray  # uint8 (image, channel, height, width)
    test_labels: np.ndarray  # int64 (image,)
    n_classes: int
    scale: np.ndarray  # float64 (channel,)
    offset: np.ndarray  # float64 (channel,)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of what a network reads: channel, height, width."""
        return self.train_images.shape[1:]

    @property
    def n_outputs(self) -> int:
        """What a network gives: a logit a class."""
        return self.n_classes

    @property
    def n_train(self) -> int:
        """The number of training images."""
        return len(self.train_labels)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts on which models are measured."""
        return ("train", "validation", "test") if len(self.validation_labels) else ("train", "test")

    def part(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """Return the images (image, channel, height, width) as uint8 and the labels (image,) as int64 of one part."""
        parts = {
            "train": (self.train_images, self.train_labels),
            "validation": (self.validation_images, self.validation_labels),
            "test": (self.test_images, self.test_labels),
        }
        return parts[part]

    def tensors(
        self, part: Part, *, dtype: "torch.dtype | None" = None, device: "str | torch.device" = "cpu"
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Return the model inputs (image, channel, height, width), float32 if no `dtype`, and the labels (image,)."""
        import torch

        images, labels = self.part(part)
        inputs = torch.from_numpy(images).to(device, dtype or torch.float32)
        scale, offset = (torch.from_numpy(values).view(-1, 1, 1).to(inputs) for values in (self.scale, self.offset))
        return inputs.mul_(scale).add_(offset), torch.tensor(labels, device=device)

    def measure(self, module: "torch.nn.Module", hyperparameters: Mapping[str, Any]) -> dict[str, float]:
        """Return the test metrics of one model as a plain module, by name; its hyper-parameters change nothing."""
        import torch

        images, labels = self.tensors("test")
        logits = module(images)
        right = (logits.argmax(dim=1) == labels).float().mean().item()
        return {"test_loss": torch.nn.functional.cross_entropy(logits, labels).item(), "test_accuracy": right}

    def sha256(self) -> str:
        """Return the SHA-256 (hex) of all images and labels."""
        arrays = [self.train_images, self.train_labels, self.test_images, self.test_labels]
        if len(self.validation_labels):
            arrays += [self.validation_images, self.validation_labels]
        found = hashlib.sha256()
        for array in arrays:
            found.update(str(array.shape).encode() + array.tobytes())
        return found.hexdigest()
