"""Sine: the points on which implicit representations of sine waves are fitted, one wave a model.

After the zoo of DWSNets (Navon et al., ICML 2023) that SNE regresses frequencies on (Andreis et al., NeurIPS 2024,
section 4.1). The wave itself is the model's: its amplitude and frequency are hyper-parameters.
"""

import hashlib
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from zoo_gen.files.schema import Count, Schema


class Sine(Schema):
    """`points` coordinates from -pi on, 2 pi / points apart; models are tested halfway between them."""

    source: Literal["sine"]
    points: Count = 2000
    image_shape: ClassVar[tuple[int]] = (1,)
    n_classes: ClassVar[int] = 1  # the one output, the height of the wave
    n_validation: ClassVar[int] = 0

    @property
    def n_train(self) -> int:
        """The number of points that models are fitted on."""
        return self.points

    @property
    def n_test(self) -> int:
        """The number of points that models are tested on."""
        return self.points


@dataclass(frozen=True, eq=False)
class Waves:
    """The coordinates of all waves of a zoo."""

    train_points: np.ndarray  # float64 (point,)
    test_points: np.ndarray  # float64 (point,)

    def sha256(self) -> str:
        """Return the SHA-256 (hex) of all coordinates."""
        return hashlib.sha256(self.train_points.tobytes() + self.test_points.tobytes()).hexdigest()


def load(source: Sine) -> Waves:
    """Return the coordinates."""
    step = 2 * np.pi / source.points
    train = -np.pi + step * np.arange(source.points)
    return Waves(train, train + step / 2)
