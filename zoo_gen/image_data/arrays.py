"""ImageData: the images of a zoo in memory, or rows of numbers, with labels or with numbers to predict.

The digest covers images and labels alone: how bytes become inputs is said by the manifest, which has its own digest.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

if TYPE_CHECKING:
    import torch

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True, eq=False)
class ImageData:
    """Training, validation and test images with their labels; `scale[c] * pixel + offset[c]` is a model's input.

    A channel is the first axis of an image; of rows of numbers each column is one. Without classes, labels are the
    numbers to predict.
    """

    train_images: np.ndarray  # uint8 (image, channel, height, width); float32 of any shape that is not bytes
    train_labels: np.ndarray  # int64 (image,), or float64 of numbers to predict
    validation_images: np.ndarray  # as train_images, possibly of no image
    validation_labels: np.ndarray  # as train_labels
    test_images: np.ndarray  # as train_images
    test_labels: np.ndarray  # as train_labels
    n_classes: int | None  # None: labels are numbers to predict
    scale: np.ndarray  # float64 (channel,)
    offset: np.ndarray  # float64 (channel,)

    @classmethod
    def of(
        cls,
        parts: Sequence[tuple[np.ndarray, np.ndarray]],
        *,
        n_classes: int | None,
        scale: np.ndarray,
        offset: np.ndarray,
    ) -> Self:
        """Return them from the images and labels of training, validation and test, in this order."""
        train, validation, test = parts
        return cls(*train, *validation, *test, n_classes, scale, offset)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of what a network reads: channel, height, width, or the number of columns."""
        return self.train_images.shape[1:]

    @property
    def n_outputs(self) -> int:
        """What a network gives: a logit a class, or one number."""
        return self.n_classes or 1

    @property
    def n_train(self) -> int:
        """The number of training images."""
        return len(self.train_labels)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts on which models are measured."""
        return ("train", "validation", "test") if len(self.validation_labels) else ("train", "test")

    def part(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """Return the images (image, channel, height, width) and the labels (image,) of one part, as they are kept."""
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
        inputs = torch.from_numpy(images).to(device, dtype or torch.float32, copy=True)
        scale, offset = (
            torch.from_numpy(values).view(-1, *[1] * (inputs.dim() - 2)).to(inputs)
            for values in (self.scale, self.offset)
        )
        return inputs.mul_(scale).add_(offset), torch.tensor(labels, device=device)

    def measure(self, module: "torch.nn.Module", hyperparameters: Mapping[str, Any]) -> dict[str, float]:
        """Return the test metrics of one model as a plain module, by name; its hyper-parameters change nothing."""
        import torch

        images, labels = self.tensors("test")
        logits = module(images)
        if self.n_classes is None:
            return _errors(logits.reshape(-1).double(), labels)
        right = (logits.argmax(dim=1) == labels).float().mean().item()
        return {"test_loss": torch.nn.functional.cross_entropy(logits, labels).item(), "test_accuracy": right}

    def sha256(self) -> str:
        """Return the SHA-256 (hex) of all images and labels."""
        arrays = [self.train_images, self.train_labels, self.test_images, self.test_labels]
        if len(self.validation_labels):
            arrays += [self.validation_images, self.validation_labels]
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(str(array.shape).encode() + array.tobytes())
        return digest.hexdigest()


def _errors(outputs: "torch.Tensor", targets: "torch.Tensor") -> dict[str, float]:
    """Return the test metrics of predicted numbers (image,), by name."""
    differences = outputs - targets
    mse = differences.square().mean().item()
    r2 = 1 - mse / targets.var(correction=0).item()
    return {"test_loss": mse, "test_mse": mse, "test_mae": differences.abs().mean().item(), "test_r2": r2}
