"""The baseline `statistics_boosting`: gradient-boosted trees on seven statistics of each tensor.

After Unterthiner et al. (2020), whose LightGBM on these is the strongest simple predictor of accuracy across zoos; here
with scikit-learn's histogram trees and their settings for CIFAR-10, and the number of trees chosen on the validation
models, not on the test models as their notebook does. Trees have no embedding: `encode` gives the statistics.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any, Self

import numpy as np

from zoo_bench.encoders.baselines.tensor_statistics import PER_TENSOR, view_statistics
from zoo_bench.encoders.training.checks import check_one_layout, check_target, check_views
from zoo_bench.encoders.training.targets import Checkpoints, selected, target_values
from zoo_bench.protocol.views import TrainingView, Weighted
from zoo_gen.errors import ZooError

LEARNING_RATE, DEPTH, LEAVES, BINS, L2, FEATURE_SHARE, LEAST_SAMPLES = 0.0231, 12, 6209, 127, 25.0, 0.894, 3
MOST_TREES, PATIENCE = 2000, 500


class StatisticsBoosting:
    """Statistics of each tensor, and boosted trees on them that predict a target."""

    def __init__(
        self, *, target: str = "test_accuracy", checkpoints: Checkpoints = "last", most_trees: int = MOST_TREES
    ) -> None:
        self._target, self._checkpoints, self._most_trees = target, checkpoints, most_trees
        self._model: Any = None
        self._n_trees = 0
        self._features = 0

    @property
    def config(self) -> dict[str, Any]:
        """The settings as plain data; `target` is what `predict` predicts."""
        return {
            "target": self._target,
            "checkpoints": self._checkpoints,
            "most_trees": self._most_trees,
            "patience": PATIENCE,
            "learning_rate": LEARNING_RATE,
            "max_depth": DEPTH,
            "max_leaf_nodes": LEAVES,
            "max_bins": BINS,
            "l2_regularization": L2,
            "max_features": FEATURE_SHARE,
            "min_samples_leaf": LEAST_SAMPLES,
        }

    def fit(self, train: Sequence[TrainingView], validation: Sequence[TrainingView], *, seed: int) -> Self:
        """Grow trees while the squared error of the validation models falls.

        Raises:
            ZooError: the views differ in layout, or weights or target are not what can be learned from.
        """
        from sklearn.ensemble import HistGradientBoostingRegressor

        check_views("statistics_boosting", train, validation)
        check_one_layout("statistics_boosting", [*train, *validation])
        rows, targets = self._read(train)
        check_target("statistics_boosting", self._target, targets)
        validation_rows, validation_targets = self._read(validation)
        if not np.isfinite(validation_targets).all():
            raise ZooError(f"statistics_boosting: {self._target} is missing for some validation models")
        self._features = rows.shape[1]
        self._model = HistGradientBoostingRegressor(
            learning_rate=LEARNING_RATE,
            max_depth=DEPTH,
            max_leaf_nodes=LEAVES,
            max_bins=BINS,
            l2_regularization=L2,
            max_features=FEATURE_SHARE,
            min_samples_leaf=LEAST_SAMPLES,
            early_stopping=False,
            warm_start=True,
            random_state=seed,
        )
        lowest, grown = np.inf, 0
        while grown < self._most_trees and grown - self._n_trees < PATIENCE:
            self._model.set_params(max_iter=min(grown + PATIENCE, self._most_trees)).fit(rows, targets)
            staged = islice(self._model.staged_predict(validation_rows), grown, None)
            for number, predicted in enumerate(staged, start=grown + 1):
                error = float(((predicted - validation_targets) ** 2).mean())
                if error < lowest:
                    lowest, self._n_trees = error, number
            grown = self._model.n_iter_
        return self

    def encode(self, view: Weighted) -> np.ndarray:
        """Return the statistics, float32 (model x checkpoint, 7 x tensors)."""
        statistics = view_statistics(view)
        return statistics.reshape(-1, statistics.shape[2])

    def predict(self, view: Weighted) -> np.ndarray:
        """Return the predicted target, float64 (model x checkpoint,).

        Raises:
            ZooError: nothing was fitted, or the view has another number of tensors.
        """
        rows = self.encode(view)
        if self._model is None:
            raise ZooError("statistics_boosting: was not fitted; expected fit first")
        if rows.shape[1] != self._features:
            raise ZooError(
                f"statistics_boosting: was fitted to {self._features // PER_TENSOR} tensors, got "
                f"{rows.shape[1] // PER_TENSOR}; expected the same architecture, or pooled_layer_statistics"
            )
        return next(islice(self._model.staged_predict(rows), self._n_trees - 1, None))

    def _read(self, views: Sequence[TrainingView]) -> tuple[np.ndarray, np.ndarray]:
        """Return statistics (row, feature) and targets (row,) of what is learned from."""
        statistics = [selected(view_statistics(view), self._checkpoints) for view in views]
        targets = [selected(target_values(view, self._target), self._checkpoints) for view in views]
        rows = np.concatenate([array.reshape(-1, array.shape[2]) for array in statistics])
        return rows, np.concatenate([array.reshape(-1) for array in targets])
