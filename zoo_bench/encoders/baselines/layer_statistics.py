"""The baselines for mixed architectures: statistics of the last layer, and statistics of all layers pooled over depth.

Both have the same length for every architecture: fourteen numbers a layer (seven of its weight, seven of its bias, or
zeros without one). Unterthiner et al. (2020) used the last layer's for residual networks.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from zoo_bench.encoders.baselines.tensor_statistics import PER_TENSOR, tensor_statistics
from zoo_bench.protocol.views import SelectionViews, TrainingView, Weighted
from zoo_gen.architecture.layout import Parameter

POOLS = ("mean", "max", "first", "last")


class LastLayerStatistics:
    """Seven statistics each of the last layer's weight and bias."""

    @property
    def config(self) -> dict[str, Any]:
        """The settings as plain data: there are none."""
        return {}

    def fit(self, train: Sequence[TrainingView], validation: SelectionViews, *, seed: int) -> Self:
        """Learn nothing."""
        return self

    def encode(self, view: Weighted) -> np.ndarray:
        """Return the statistics, float32 (model x checkpoint, 14)."""
        statistics = _layer(view, view.layout.layers[-1])
        return statistics.reshape(-1, statistics.shape[2])


class PooledLayerStatistics:
    """Mean, maximum, first and last over the layers of each layer's fourteen statistics."""

    @property
    def config(self) -> dict[str, Any]:
        """The settings as plain data."""
        return {"pools": list(POOLS)}

    def fit(self, train: Sequence[TrainingView], validation: SelectionViews, *, seed: int) -> Self:
        """Learn nothing."""
        return self

    def encode(self, view: Weighted) -> np.ndarray:
        """Return the pooled statistics, float32 (model x checkpoint, 56)."""
        layers = np.stack([_layer(view, name) for name in view.layout.layers])
        pooled = np.concatenate([layers.mean(axis=0), layers.max(axis=0), layers[0], layers[-1]], axis=2)
        return pooled.reshape(-1, pooled.shape[2])


def _layer(view: Weighted, name: str) -> np.ndarray:
    """Return the statistics of a layer, float32 (model, checkpoint, 14): those of its weights, then of its biases.

    Weights of several tensors, as of a recurrent layer, are taken together; running statistics are neither.
    """
    statistics = np.zeros((*view.weights.shape[:2], 2, PER_TENSOR), dtype=np.float32)
    of_layer = [each for each in view.layout.parameters if each.layer == name and not each.role.startswith("running_")]
    for column, is_bias in enumerate((False, True)):
        parameters = [parameter for parameter in of_layer if parameter.role.startswith("bias") == is_bias]
        if parameters:
            values = np.concatenate([view.weights[..., each.start : each.stop] for each in parameters], axis=2)
            whole = Parameter(name, parameters[0].role, values.shape[2:], 0)
            statistics[:, :, column] = tensor_statistics(values, [whole])
    return statistics.reshape(*view.weights.shape[:2], 2 * PER_TENSOR)
