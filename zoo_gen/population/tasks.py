"""The tasks that a population learns: their inputs, targets and metrics.

Images stay on the device as bytes and are gathered by index; only a batch is ever turned into numbers.
"""

from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from zoo_gen.image_data import Curves, Data, FittedImages, ImageData
from zoo_gen.population import metrics
from zoo_gen.population.augmentation import Augmentation
from zoo_gen.population.fitting import CurveFitting, ImageFitting
from zoo_gen.population.metrics import OutputsOf
from zoo_gen.population.random import noisy_labels


class Task(Protocol):
    """The inputs and targets of a population, and how its outputs are judged."""

    n_train: int
    names: tuple[str, ...]  # of the metrics of every part; the first is the loss
    n_classes: int | None  # None: targets are numbers
    scale: Tensor  # (2, channel): a pixel times the first plus the second is what models read

    def batch(self, images: Tensor, augmentation: Augmentation | None = None) -> tuple[Tensor, Tensor]:
        """Return inputs (image, model, *shape) and targets (model, image) of training images (model, image)."""

    def losses(self, outputs: Tensor, targets: Tensor, smoothing: Tensor | None = None) -> Tensor:
        """Return the loss of every image (model, image); `smoothing` is of labels (model, 1)."""

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """Return which images are classified rightly (model, image); None if there are no classes."""

    def of_loss(self, loss: Tensor) -> dict[str, Tensor]:
        """Return the metrics that follow from a mean squared error (model,), and that itself as loss."""

    def measure(self, part: str, outputs_of: OutputsOf, *, models: slice) -> dict[str, Tensor]:
        """Return the metrics of some models on a part, name -> (model, ...)."""

    def examples(self, part: str) -> tuple[Tensor, Tensor]:
        """Return the pixels (image, *shape) and targets (model or 1, image) of a part, or of "training": all of it."""


def make_task(data: Data, models: pa.Table, *, n_train: int, n_evaluated: int, dtype: torch.dtype, device: str) -> Task:
    """Return the task that the models of a table learn from data, in the table's order.

    Args:
        data: images, curves, or images that are fitted.
        models: a row a model, with its hyper-parameters as columns.
        n_train: how many of the training images, the first ones, the models see.
        n_evaluated: on how many of those, the first ones, they are measured.
        dtype: of inputs.
        device: where data lies.
    """

    def numbers(name: str) -> Tensor:
        return torch.tensor(models[name].to_pylist(), dtype=torch.float64, device=device)

    if isinstance(data, Curves):
        hyperparameters = {name: numbers(name) for name in data.hyperparameters}
        return CurveFitting(data, hyperparameters, dtype=dtype, device=device)
    if isinstance(data, FittedImages):
        return ImageFitting(data, models["image"].to_numpy(), dtype=dtype, device=device)
    if data.n_classes is None:
        return Regression(data, n_train=n_train, n_evaluated=n_evaluated, dtype=dtype, device=device)
    return Classification(
        data,
        n_train=n_train,
        n_evaluated=n_evaluated,
        seeds=torch.tensor(models["seed"].to_pylist(), device=device),
        label_noise=numbers("label_noise"),
        dtype=dtype,
        device=device,
    )


class Inputs:
    """Images or rows of numbers as they are kept, made into what models read a batch at a time.

    Args:
        data: the images.
        dtype: of inputs.
        device: where they lie.
    """

    def __init__(self, data: ImageData, *, dtype: torch.dtype, device: str) -> None:
        self._dtype = dtype
        self.scale = torch.from_numpy(np.stack([data.scale, data.offset])).to(device, dtype)  # (2, channel)

    def of(self, pixels: Tensor) -> Tensor:
        """Return inputs (image, channel, ...) of what is kept, of the same shape."""
        scale, offset = self.scale.view(2, -1, *[1] * (pixels.dim() - 2))
        return pixels.to(self._dtype, copy=True).mul_(scale).add_(offset)

    def batch(self, pixels: Tensor, images: Tensor, augmentation: Augmentation | None) -> Tensor:
        """Return inputs (image, model, channel, ...) of the images with these numbers (model, image)."""
        n_models, n_images = images.shape
        some = pixels.index_select(0, images.T.reshape(-1))
        if augmentation is not None:
            some = augmentation.of(some, images)
        return self.of(some).unflatten(0, (n_images, n_models))


class Classification:
    """Images with labels: cross-entropy, accuracy, F1 of each class.

    Args:
        data: the images.
        n_train: how many of the training images, the first ones, the models see.
        n_evaluated: on how many of those, the first ones, they are measured.
        seeds: int64 (model,), for the labels' noise.
        label_noise: (model,) share of training labels that are another class's; metrics use the same labels.
        dtype: of inputs.
        device: where images and labels lie.
    """

    names: tuple[str, ...] = ("loss", "accuracy", "class_f1")

    def __init__(
        self,
        data: ImageData,
        *,
        n_train: int,
        n_evaluated: int,
        seeds: Tensor,
        label_noise: Tensor,
        dtype: torch.dtype,
        device: str,
    ) -> None:
        self.n_train = n_train
        assert data.n_classes is not None
        self.n_classes: int | None = data.n_classes
        self._inputs = Inputs(data, dtype=dtype, device=device)
        self.scale = self._inputs.scale
        train_labels = torch.from_numpy(data.train_labels[:n_train]).to(device).unsqueeze(0)  # (model or 1, image)
        if bool(label_noise.any()):
            train_labels = noisy_labels(seeds, label_noise, train_labels[0], n_classes=data.n_classes)
        images = torch.from_numpy(data.train_images[:n_train]).to(device)
        self._parts: dict[str, tuple[Tensor, Tensor]] = {
            "training": (images, train_labels),
            "train": (images[:n_evaluated], train_labels[:, :n_evaluated]),
            "validation": _on(device, data.validation_images, data.validation_labels),
            "test": _on(device, data.test_images, data.test_labels),
        }

    def batch(self, images: Tensor, augmentation: Augmentation | None = None) -> tuple[Tensor, Tensor]:
        """Return inputs (image, model, channel, height, width) and labels (model, image) of training images."""
        pixels, labels = self._parts["training"]
        return self._inputs.batch(pixels, images, augmentation), labels.expand(len(images), -1).gather(1, images)

    def losses(self, outputs: Tensor, targets: Tensor, smoothing: Tensor | None = None) -> Tensor:
        """Return the cross-entropy of every image (model, image); `smoothing` is of labels (model, 1)."""
        losses = metrics.cross_entropy(outputs, targets)
        return losses if smoothing is None else metrics.smoothed(losses, outputs, smoothing)

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return which images are classified rightly (model, image)."""
        return metrics.predicted(outputs) == targets

    def of_loss(self, loss: Tensor) -> dict[str, Tensor]:
        """Return the loss (model,)."""
        return {"loss": loss}

    def measure(self, part: str, outputs_of: OutputsOf, *, models: slice) -> dict[str, Tensor]:
        """Return the metrics of some models on a part: loss and accuracy (model,), class_f1 (model, class)."""
        images, labels = self._parts[part]
        correct = labels[models] if len(labels) > 1 else labels

        def outputs(piece: slice) -> Tensor:
            return outputs_of(self._inputs.of(images[piece]))

        assert self.n_classes is not None
        return metrics.classification(metrics.without_gradient(outputs, correct, len(images)), n_classes=self.n_classes)

    def examples(self, part: str) -> tuple[Tensor, Tensor]:
        """Return the bytes (image, channel, height, width) and labels (model or 1, image) of a part."""
        return self._parts[part]


class Regression:
    """Images or rows, each with a number to predict: squared error, absolute error, R2.

    Args:
        data: the images.
        n_train: how many of the training images, the first ones, the models see.
        n_evaluated: on how many of those, the first ones, they are measured.
        dtype: of inputs and targets.
        device: where they lie.
    """

    names: tuple[str, ...] = ("loss", "mse", "mae", "r2")

    def __init__(self, data: ImageData, *, n_train: int, n_evaluated: int, dtype: torch.dtype, device: str) -> None:
        self.n_train = n_train
        self.n_classes: int | None = None
        self._inputs = Inputs(data, dtype=dtype, device=device)
        self.scale = self._inputs.scale
        counts = {"training": n_train, "train": n_evaluated}
        self._parts: dict[str, tuple[Tensor, Tensor]] = {}
        for part in ("training", *data.parts):
            images, numbers = data.part("train" if part == "training" else part)  # type: ignore[arg-type]
            count = counts.get(part, len(images))
            self._parts[part] = (
                torch.from_numpy(images[:count]).to(device),
                torch.from_numpy(numbers[:count]).to(device, dtype).unsqueeze(0),  # (1, image)
            )

    def batch(self, images: Tensor, augmentation: Augmentation | None = None) -> tuple[Tensor, Tensor]:
        """Return inputs (image, model, *shape) and numbers (model, image) of training images (model, image)."""
        pixels, numbers = self._parts["training"]
        return self._inputs.batch(pixels, images, augmentation), numbers.expand(len(images), -1).gather(1, images)

    def losses(self, outputs: Tensor, targets: Tensor, _: Tensor | None = None) -> Tensor:
        """Return the squared error of every image (model, image)."""
        return metrics.squared_error(outputs, targets)

    def right(self, outputs: Tensor, targets: Tensor) -> None:
        """Return None: there are no classes."""

    def of_loss(self, loss: Tensor) -> dict[str, Tensor]:
        """Return the loss (model,)."""
        return {"loss": loss}

    def measure(self, part: str, outputs_of: OutputsOf, *, models: slice) -> dict[str, Tensor]:
        """Return the metrics of some models on a part, each (model,)."""
        images, numbers = self._parts[part]

        def outputs(piece: slice) -> Tensor:
            return outputs_of(self._inputs.of(images[piece]))

        return metrics.errors(
            metrics.without_gradient(outputs, numbers, len(images)), variance=numbers.double().var(correction=0)
        )

    def examples(self, part: str) -> tuple[Tensor, Tensor]:
        """Return images (image, *shape) and numbers (1, image) of a part."""
        return self._parts[part]


def _on(device: str, images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device).unsqueeze(0)
