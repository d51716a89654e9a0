"""The tasks of networks that are fitted to one signal each: a curve, or an image.

Targets differ from model to model, so they are numbers on the device, (model, ...), and coordinates are shared.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from zoo_gen.image_data import Curves, FittedImages
from zoo_gen.population import metrics
from zoo_gen.population.augmentation import Augmentation
from zoo_gen.population.metrics import OutputsOf


class CurveFitting:
    """One curve a model: squared error.

    Args:
        data: the coordinates, and how high each curve is there.
        hyperparameters: name -> float64 (model,); they say which curve a model's is.
        dtype: of inputs and targets.
        device: where they lie.
    """

    names: tuple[str, ...] = ("loss",)

    def __init__(
        self,
        data: Curves,
        hyperparameters: Mapping[str, Tensor],
        *,
        dtype: torch.dtype,
        device: str,
    ) -> None:
        self.n_train = data.n_train
        self.n_classes: int | None = None
        self.scale = torch.tensor([[1.0], [0.0]], dtype=dtype, device=device)
        self._parts: dict[str, tuple[Tensor, Tensor]] = {}
        for part, coordinates in (("train", data.train_points), ("test", data.test_points)):
            points = torch.from_numpy(coordinates).to(device)
            heights = data.heights(points, hyperparameters)
            self._parts[part] = points.to(dtype).unsqueeze(1), heights.to(dtype)  # (point, 1), (model, point)

    def batch(self, images: Tensor, _: Augmentation | None = None) -> tuple[Tensor, Tensor]:
        """Return coordinates (point, model, 1) and heights (model, point) of training points (model, point)."""
        coordinates, heights = self._parts["train"]
        return coordinates[images.T], heights.gather(1, images)

    def losses(self, outputs: Tensor, targets: Tensor, _: Tensor | None = None) -> Tensor:
        """Return the squared error at every point (model, point)."""
        return metrics.squared_error(outputs, targets)

    def right(self, outputs: Tensor, targets: Tensor) -> None:
        """Return None: there are no classes."""

    def of_loss(self, loss: Tensor) -> dict[str, Tensor]:
        """Return the loss (model,)."""
        return {"loss": loss}

    def measure(self, part: str, outputs_of: OutputsOf, *, models: slice) -> dict[str, Tensor]:
        """Return the mean squared error of some models on a part, {"loss": (model,)}."""
        coordinates, heights = self._parts[part]

        def outputs(piece: slice) -> Tensor:
            return outputs_of(coordinates[piece])

        return metrics.regression(metrics.without_gradient(outputs, heights[models], len(coordinates)))

    def examples(self, part: str) -> tuple[Tensor, Tensor]:
        """Return the coordinates (point, 1) and heights (model, point) of a part."""
        return self._parts["train" if part == "training" else part]


class ImageFitting:
    """One image a model, whose grey levels or colours it gives at coordinates: squared error, PSNR.

    Args:
        data: the images.
        numbers: int64 (model,) of the image of each model.
        dtype: of inputs and targets.
        device: where they lie.
    """

    names: tuple[str, ...] = ("loss", "mse", "psnr")

    def __init__(self, data: FittedImages, numbers: np.ndarray, *, dtype: torch.dtype, device: str) -> None:
        self.n_train = data.n_train
        self.n_classes: int | None = None
        self.scale = torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=dtype, device=device)
        self._value_range = data.value_range
        self._coordinates = torch.from_numpy(data.coordinates).to(device, dtype)  # (pixel, 2)
        self._values = torch.from_numpy(data.values(numbers)).to(device, dtype)  # (model, channel, pixel)

    def batch(self, images: Tensor, _: Augmentation | None = None) -> tuple[Tensor, Tensor]:
        """Return coordinates (pixel, model, 2) and values (model, channel, pixel) of pixels (model, pixel)."""
        chosen = images.unsqueeze(1).expand(-1, self._values.shape[1], -1)
        return self._coordinates[images.T], self._values.gather(2, chosen)

    def losses(self, outputs: Tensor, targets: Tensor, _: Tensor | None = None) -> Tensor:
        """Return the squared error at every pixel (model, pixel), the mean over its channels."""
        return (outputs - targets).square().mean(dim=1)

    def right(self, outputs: Tensor, targets: Tensor) -> None:
        """Return None: there are no classes."""

    def of_loss(self, loss: Tensor) -> dict[str, Tensor]:
        """Return the metrics that follow from a mean squared error (model,)."""
        return {"loss": loss, "mse": loss, "psnr": metrics.psnr(loss, value_range=self._value_range)}

    def measure(self, part: str, outputs_of: OutputsOf, *, models: slice) -> dict[str, Tensor]:
        """Return the metrics of some models over all pixels, each (model,)."""
        outputs = metrics.without_gradient(
            lambda piece: outputs_of(self._coordinates[piece]), self._values[models], self.n_train
        )
        return self.of_loss(metrics.mean_squared_error(outputs))

    def examples(self, part: str) -> tuple[Tensor, Tensor]:
        """Return the coordinates (pixel, 2) and, of images in grey, the levels (model, pixel)."""
        return self._coordinates, self._values.squeeze(1)
