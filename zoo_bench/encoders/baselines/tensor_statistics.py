"""The seven statistics of each tensor that learners read: mean, variance and quantiles 0, 1/4, 1/2, 3/4, 1.

They are those of the published StatNN (NFN's code): another choice than the percentiles of `weight_statistics`, so the
two stand apart. The variance is unbiased; of a single number, where it is undefined, it is 0.
"""

from collections.abc import Sequence

import numpy as np

from zoo_bench.protocol.views import Weighted
from zoo_gen.architecture.layout import Parameter

PER_TENSOR = 7
QUARTILES = (0.25, 0.5, 0.75)
ROWS_AT_ONCE = 4096


def tensor_statistics(weights: np.ndarray, parameters: Sequence[Parameter]) -> np.ndarray:
    """Return the statistics of some parameters, float32 (..., PER_TENSOR x parameters), parameter by parameter.

    Args:
        weights: flat weights (..., number).
        parameters: which parts of them.
    """
    rows = weights.reshape(-1, weights.shape[-1])
    statistics = np.empty((len(rows), len(parameters), PER_TENSOR), dtype=np.float32)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        for column, parameter in enumerate(parameters):
            values = np.sort(rows[part, parameter.start : parameter.stop], axis=1).astype(np.float64)
            statistics[part, column, 0] = values.mean(axis=1)
            statistics[part, column, 1] = values.var(axis=1, ddof=1) if parameter.size > 1 else 0.0
            statistics[part, column, 2], statistics[part, column, 6] = values[:, 0], values[:, -1]
            for number, quantile in enumerate(QUARTILES, start=3):
                position = quantile * (parameter.size - 1)  # linear between neighbours, as numpy and torch do
                low = int(position)
                high = min(low + 1, parameter.size - 1)
                statistics[part, column, number] = values[:, low] + (position - low) * (
                    values[:, high] - values[:, low]
                )
    return statistics.reshape(*weights.shape[:-1], len(parameters) * PER_TENSOR)


def view_statistics(view: Weighted) -> np.ndarray:
    """Return the statistics of all tensors of a view, float32 (model, checkpoint, PER_TENSOR x parameters)."""
    return tensor_statistics(view.weights, view.layout.parameters)
