"""An encoder of one's own, outside the package: the norm of each layer's weights, on the scale of the training models.

zoo-bench run --mock --encoder layer_norms:LayerNorms               # does it conform? seconds
zoo-bench run quickstart --encoder layer_norms:LayerNorms --seeds 0,1,2
"""

import numpy as np


class LayerNorms:
    """Norms of layers, as logarithms, standardised on the training models."""

    config = {"power": 2}  # whatever changes what it does; part of its digest

    def fit(self, train, validation, *, seed):
        """Learn the mean and the deviation of each norm; `train` and `validation` are lists of views, one a layout."""
        norms = np.concatenate([self._norms(view) for view in train])
        self.mean, self.deviation = norms.mean(axis=0), norms.std(axis=0) + 1e-12
        return self

    def encode(self, view):
        """Return a row (dimension,) a row of `view.weights` (row, 1, parameter), in their order."""
        return (self._norms(view) - self.mean) / self.deviation

    def _norms(self, view):
        rows = view.weights.reshape(-1, view.layout.size)
        parts = view.layout.split(rows)  # name of the parameter -> array (row, ...)
        norms = [
            np.linalg.norm(part.reshape(len(rows), -1), ord=self.config["power"], axis=1) for part in parts.values()
        ]
        return np.log(np.stack(norms, axis=1) + 1e-12)
