"""Sine: the points on which implicit representations of sine waves are fitted, one wave a model.

After the zoo of DWSNets (Navon et al., ICML 2023) that SNE regresses frequencies on (Andreis et al., NeurIPS 2024,
section 4.1). The wave itself is the model's: its amplitude and frequency are hyper-parameters.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from zoo_gen.files.schema import Count
from zoo_gen.image_data.curves import Curves
from zoo_gen.image_data.source import OF_WAVES, CurveSource

if TYPE_CHECKING:
    from torch import Tensor


class Sine(CurveSource):
    """`points` coordinates from -pi on, 2 pi / points apart; models are tested halfway between them."""

    source: Literal["sine"]
    points: Count = 2000
    hyperparameters: ClassVar[tuple[str, ...]] = OF_WAVES

    @property
    def n_train(self) -> int:
        """The number of points that models are fitted on."""
        return self.points

    @property
    def n_test(self) -> int:
        """The number of points that models are tested on."""
        return self.points

    def stand_in(self, *, n_images: int) -> Curves:
        """Return the points themselves, which cost nothing, however many are asked for."""
        return load(self)


def load(source: Sine) -> Curves:
    """Return the coordinates and the waves."""
    step = 2 * np.pi / source.points
    train = -np.pi + step * np.arange(source.points)
    return Curves(train, train + step / 2, Sine.hyperparameters, _waves)


def _waves(points: "Tensor", hyperparameters: "Mapping[str, Tensor]") -> "Tensor":
    """Return amplitude * sin(frequency * x): points (point,), hyper-parameters (...), result (..., point)."""
    amplitude, frequency = (hyperparameters[name].unsqueeze(-1) for name in Sine.hyperparameters)
    return amplitude * (frequency * points).sin()
