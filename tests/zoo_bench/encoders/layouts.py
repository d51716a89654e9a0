"""Views of random weights with layouts of networks that no zoo here has."""

from dataclasses import dataclass, field

import numpy as np

from tests.zoo_bench.layouts import layout_of
from zoo_gen.architecture.layout import ParameterLayout

CNN = layout_of((8, 1, 3, 3), (6, 8, 3, 3), (10, 6))
DEEP_CNN = layout_of((4, 3, 5, 5), (5, 4, 3, 3), (7, 20), (10, 7))
INR = layout_of((8, 1), (8, 8), (1, 8))
PLAIN = layout_of((5, 16), (4, 5), bias=False)


@dataclass
class FakeZoo:
    name: str = "fake"
    metrics: tuple[str, ...] = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "test_class_f1")


@dataclass
class FakeView:
    """What an encoder may ask of a view, with weights and targets given."""

    layout: ParameterLayout
    weights: np.ndarray
    targets: dict = field(default_factory=dict)
    zoo: FakeZoo = field(default_factory=FakeZoo)

    @property
    def models(self):
        return np.arange(len(self.weights))

    @property
    def checkpoints(self):
        return np.arange(self.weights.shape[1])

    epochs = checkpoints

    def metric(self, name):
        return self.targets[name]

    def hyperparameter(self, name):
        return self.targets[name]

    def target(self, name):
        values = self.targets[name]
        return np.broadcast_to(values if values.ndim == 2 else values[:, None], self.weights.shape[:2])


def random_view(layout, *, models=12, checkpoints=1, seed=0, target="test_accuracy"):
    """Return a view whose target is a smooth function of the weights."""
    random = np.random.RandomState(seed)
    scales = random.uniform(0.05, 0.5, (models, checkpoints, 1))
    weights = (random.standard_normal((models, checkpoints, layout.size)) * scales).astype(np.float32)
    return FakeView(layout, weights, {target: 1 / (1 + np.exp(4 - 16 * scales[:, :, 0]))})
