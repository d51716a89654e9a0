"""A supervised encoder of one's own: ridge regression on the sorted weights of each layer, tuned, saved and loaded.

zoo-bench run --mock --encoder ridge:Ridge
zoo-bench tune ridge:Ridge quickstart --trials 8
zoo-bench run quickstart --encoder 'ridge:Ridge[penalty=10.0]' --seeds 0,1,2
zoo-bench encode zoos/tetris_seed --encoder ridge:Ridge --save saved --out e.npz
"""

import numpy as np


class Ridge:
    """Quantiles of each layer's numbers; a linear map of them that predicts a target."""

    ranges = {"penalty": "1e-2..1e3 log", "quantiles": "5,11,21"}  # what `zoo-bench tune` searches

    def __init__(self, *, penalty: float = 1.0, quantiles: int = 11):
        self.penalty, self.quantiles = penalty, quantiles

    @property
    def config(self):
        """All that changes what it does, as plain data."""
        return {"penalty": self.penalty, "quantiles": self.quantiles}

    def can_learn(self, problem):
        """Say which targets it takes: numbers. It is fitted once for each of them."""
        return problem.is_number

    def fit(self, train, validation, *, problem, seed):
        """Learn `problem.target` from the training views; labels are (model, checkpoint), NaN where one is missing."""
        features = np.concatenate([self.encode(view) for view in train])
        self.mean, self.deviation = features.mean(axis=0), features.std(axis=0) + 1e-12
        if problem.target is not None:
            labels = np.concatenate([view.target(problem.target).reshape(-1) for view in train])
            known = np.isfinite(labels)
            rows = self._inputs(features[known])
            weights = rows.T @ rows + self.penalty * np.eye(rows.shape[1])
            self.weights = np.linalg.solve(weights, rows.T @ labels[known])
        return self

    def encode(self, view):
        """Return an embedding a row of `view.weights` (row, 1, parameter), of these weights alone."""
        rows = view.weights.reshape(-1, view.layout.size)
        at = np.linspace(0, 1, self.quantiles)
        layers = [np.quantile(part.reshape(len(rows), -1), at, axis=1).T for part in view.layout.split(rows).values()]
        return np.concatenate(layers, axis=1)

    def predict(self, view):
        """Return the target of each row (row,), as far as it can be known from its weights."""
        return self._inputs(self.encode(view)) @ self.weights

    def save(self, folder):
        """Write what `fit` learned; `zoo-bench encode --save` and `--push` call it."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "ridge.npz", mean=self.mean, deviation=self.deviation, weights=self.weights)

    def load(self, folder):
        """Read it again, into an encoder that is not fitted; `zoo-bench encode --load` calls it."""
        with np.load(folder / "ridge.npz") as arrays:
            self.mean, self.deviation, self.weights = (arrays[name] for name in ("mean", "deviation", "weights"))
        return self

    def _inputs(self, features):
        return np.column_stack([np.ones(len(features)), (features - self.mean) / self.deviation])
