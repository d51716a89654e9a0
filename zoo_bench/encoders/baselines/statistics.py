"""The baselines without learning or with a linear map: raw weights (W), their statistics (s(W)) and PCA."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from zoo_bench.encoders.rows import in_canonical_blocks
from zoo_bench.protocol.views import SelectionViews, TrainingView, Weighted
from zoo_gen.errors import ZooError

PERCENTILES = (1, 25, 50, 75, 99)
BLOCK = 256  # rows whose components are computed together


class Weights:
    """W: the flat weight vector itself, biases included (Schürholt et al., NeurIPS 2021, baseline W)."""

    @property
    def config(self) -> dict[str, Any]:
        """The settings as plain data: there are none."""
        return {}

    def fit(self, train: Sequence[TrainingView], validation: SelectionViews, *, seed: int) -> Self:
        """Learn nothing."""
        return self

    def encode(self, view: Weighted) -> np.ndarray:
        """Return the weights, float32 (model x checkpoint, parameter)."""
        return _rows(view)


class WeightStatistics:
    """s(W): mean, population variance and percentiles 1, 25, 50, 75, 99 of each layer's weights.

    After Unterthiner et al. (2020) and the baseline s(W) of Schürholt et al. (NeurIPS 2021), which leaves biases out.
    With `biases`, each bias vector adds the same seven numbers behind its layer's.
    """

    def __init__(self, *, biases: bool) -> None:
        self.biases = biases

    @property
    def config(self) -> dict[str, Any]:
        """The settings as plain data."""
        return {"biases": self.biases, "percentiles": list(PERCENTILES)}

    def fit(self, train: Sequence[TrainingView], validation: SelectionViews, *, seed: int) -> Self:
        """Learn nothing."""
        return self

    def encode(self, view: Weighted) -> np.ndarray:
        """Return the statistics, float64 (model x checkpoint, 7 x tensors)."""
        weights = _rows(view)
        features = []
        for parameter in view.layout.parameters:
            if parameter.role.startswith("weight") or self.biases:
                values = weights[:, parameter.start : parameter.stop].astype(np.float64)
                percentiles = np.percentile(values, PERCENTILES, axis=1).T
                features.append(np.column_stack([values.mean(axis=1), values.var(axis=1), percentiles]))
        return np.concatenate(features, axis=1)


class PCA:
    """Principal components of the flat weights, fitted on the training views (PCA_l of Schürholt et al., 2021)."""

    def __init__(self, *, dimension: int = 50) -> None:
        self.dimension = dimension

    @property
    def config(self) -> dict[str, Any]:
        """The settings as plain data."""
        return {"dimension": self.dimension}

    def fit(self, train: Sequence[TrainingView], validation: SelectionViews, *, seed: int) -> Self:
        """Find the components.

        Raises:
            ZooError: the views differ in the number of parameters.
        """
        from sklearn import decomposition

        sizes = {view.layout.size for view in train}
        if len(sizes) > 1:
            raise ZooError(f"pca: needs weights of one length, got {sorted(sizes)}; expected zoos of one architecture")
        rows = np.concatenate([_rows(view) for view in train])
        dimension = min(self.dimension, *rows.shape)
        self._components = decomposition.PCA(dimension, random_state=seed).fit(rows)
        return self

    def encode(self, view: Weighted) -> np.ndarray:
        """Return the components, float32 (model x checkpoint, dimension)."""
        return in_canonical_blocks(_rows(view), self._components.transform, size=BLOCK)


def _rows(view: Weighted) -> np.ndarray:
    """Return the weights of a view as rows, float32 (model x checkpoint, parameter)."""
    return view.weights.reshape(-1, view.layout.size)
