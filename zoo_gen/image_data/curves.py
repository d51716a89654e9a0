"""Curves: the coordinates on which one curve a model is fitted and tested, and the heights of the curves there."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    import torch

# heights(points (point,), hyper-parameters name -> (...)) -> (..., point); all float64
Heights = Callable[["torch.Tensor", Mapping[str, "torch.Tensor"]], "torch.Tensor"]


@dataclass(frozen=True, eq=False)
class Curves:
    """The coordinates of all curves of a zoo; hyper-parameters of a model say which curve is its own."""

    train_points: np.ndarray  # float64 (point,)
    test_points: np.ndarray  # float64 (point,)
    hyperparameters: tuple[str, ...]  # of a curve
    heights: Heights

    input_shape: ClassVar[tuple[int, ...]] = (1,)  # of what a network reads: one coordinate
    n_outputs: ClassVar[int] = 1  # of a network: one height
    parts: ClassVar[tuple[str, ...]] = ("train", "test")  # on which models are measured

    @property
    def n_train(self) -> int:
        """The number of points that models are fitted on."""
        return len(self.train_points)

    def measure(self, module: "torch.nn.Module", hyperparameters: Mapping[str, Any]) -> dict[str, float]:
        """Return the test metrics of one model as a plain module, by name."""
        import torch

        points = torch.from_numpy(self.test_points)
        of_model = {name: torch.tensor(hyperparameters[name], dtype=torch.float64) for name in self.hyperparameters}
        outputs = module(points.float().unsqueeze(1)).squeeze(1)
        loss = torch.nn.functional.mse_loss(outputs, self.heights(points, of_model).float())
        return {"test_loss": loss.item()}

    def sha256(self) -> str:
        """Return the SHA-256 (hex) of all coordinates."""
        return hashlib.sha256(self.train_points.tobytes() + self.test_points.tobytes()).hexdigest()
