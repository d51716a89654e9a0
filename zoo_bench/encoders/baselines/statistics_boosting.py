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
from zoo_bench.encoders.training.targets import DEFAULT_PROBLEM, Labels, can_learn, selecting
from zoo_bench.protocol.problem import Problem
from zoo_bench.protocol.views import SelectionViews, TrainingView, Weighted
from zoo_gen.errors import ZooError

LEARNING_RATE, DEPTH, LEAVES, BINS, L2, FEATURE_SHARE, LEAST_SAMPLES = 0.0231, 12, 6209, 127, 25.0, 0.894, 3
MOST_TREES, PATIENCE, SCORED_EVERY = 2000, 500, 5


class StatisticsBoosting:
    """Statistics of each tensor, and boosted trees on them that predict a target."""

    def __init__(self, *, most_trees: int = MOST_TREES) -> None:
        self._most_trees = most_trees
        self._model: Any = None
        self._n_trees = 0
        self._features = 0
        self._fitted: dict[str, Any] = {}

    @property
    def config(self) -> dict[str, Any]:
        """The settings as plain data, and once fitted the target that `predict` predicts and the number of trees."""
        settings = {
            "most_trees": self._most_trees,
            "patience": PATIENCE,
            "scored_every": SCORED_EVERY,
            "learning_rate": LEARNING_RATE,
            "max_depth": DEPTH,
            "max_leaf_nodes": LEAVES,
            "max_bins": BINS,
            "l2_regularization": L2,
            "max_features": FEATURE_SHARE,
            "min_samples_leaf": LEAST_SAMPLES,
        }
        return {**settings, "fitted": self._fitted} if self._fitted else settings

    def can_learn(self, problem: Problem) -> bool:
        """Say whether `fit` can learn a problem: one with a target, a number or a name."""
        return can_learn(problem)

    def fit(
        self,
        train: Sequence[TrainingView],
        validation: SelectionViews,
        *,
        problem: Problem = DEFAULT_PROBLEM,
        seed: int,
    ) -> Self:
        """Grow trees while the validation score rises.

        Rows of the views without a value of the problem's target are left out; `config` says how many.

        Raises:
            ZooError: the views differ in layout, or weights or target are not what can be learned from.
        """
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        check_views("statistics_boosting", train, validation)
        check_one_layout("statistics_boosting", [*train, *validation])
        labels, problem = Labels.of("statistics_boosting", problem, train), selecting(problem, validation)
        rows = np.concatenate([self.encode(view)[mask] for view, mask in zip(train, labels.present, strict=True)])
        targets = labels.values
        check_target("statistics_boosting", problem.target, targets)
        validation_rows = np.concatenate([self.encode(view) for view in validation])
        self._features = rows.shape[1]
        self._model = (HistGradientBoostingRegressor if problem.is_number else HistGradientBoostingClassifier)(
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
        best, grown, self._n_trees = -np.inf, 0, 0
        while grown < self._most_trees and grown - self._n_trees < PATIENCE:
            self._model.set_params(max_iter=min(grown + PATIENCE, self._most_trees)).fit(rows, targets)
            staged = islice(self._model.staged_predict(validation_rows), grown, None)
            for number, predicted in enumerate(staged, start=grown + 1):
                if number % SCORED_EVERY == 0 or number == self._most_trees:
                    score = problem.validation_score(predicted)
                    if score > best:
                        best, self._n_trees = score, number
            grown = self._model.n_iter_
        left_out = {"train": labels.left_out, "validation": problem.selection.left_out if problem.selection else 0}
        self._fitted = {"target": problem.target, "trees": self._n_trees, "left_out": left_out}
        return self

    def encode(self, view: Weighted) -> np.ndarray:
        """Return the statistics, float32 (model x checkpoint, 7 x tensors)."""
        statistics = view_statistics(view)
        return statistics.reshape(-1, statistics.shape[2])

    def predict(self, view: Weighted) -> np.ndarray:
        """Return the predicted target (model x checkpoint,): float64, or names.

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
