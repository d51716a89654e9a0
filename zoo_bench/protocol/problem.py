"""Problem: what a benchmark asks an encoder to learn, told to `fit`, so that what is learned is what is tested.

The training views that come with a problem hold exactly the checkpoints that are tested, and their `target` returns
the values of every target of the benchmark.
"""

from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from zoo_gen.errors import ZooError

Metric = Literal["r2", "kendall_tau", "mse", "accuracy"]
Loss = Literal["auto", "bce", "mse"]


class Selecting(Protocol):
    """What scores predictions of the validation models."""

    left_out: int  # validation rows without a value of the target

    def score(self, predicted: np.ndarray, *, rows: np.ndarray | None = None) -> float:
        """Return the score of predictions of the validation rows, or of some, or the best score of this fit so far."""


@dataclass(frozen=True)
class Problem:
    """What is learned from the training views, and what will rank it.

    Attributes:
        target: what `predict` has to predict. An encoder that predicts nothing is fitted once for all targets, to None.
        is_number: whether the target is a number (regression) or a name (classification).
        checkpoints: which of every model train, select and test: all of them or the last.
        metric: what ranks predictions of the target.
        loss: binary cross-entropy with soft targets, squared error of the standardised target, or "auto": the first
            where all training targets lie in 0 to 1 and spread by 0.05 (standard deviation) or more.
        targets: all targets of the benchmark on the source zoo.
        selection: what scores predictions of the validation models; there in `fit`, where there is a target.
    """

    target: str | None = "test_accuracy"
    is_number: bool = True
    checkpoints: Literal["all", "last"] = "last"
    metric: Metric = "kendall_tau"
    loss: Loss = "auto"
    targets: tuple[str, ...] = ("test_accuracy",)
    selection: Selecting | None = field(default=None, repr=False, compare=False)

    def validation_score(self, predicted: np.ndarray, *, rows: np.ndarray | None = None) -> float:
        """Return how well predictions of the validation models score, or the best of this fit so far if that is higher.

        Args:
            predicted: of the rows of the validation views (row,), view after view; numbers in the target's units, or
                names.
            rows: the numbers of the rows that are predicted, where that is not all; the same ones throughout a fit.

        Raises:
            ZooError: there is no target, or the predictions do not fit the rows.
        """
        if self.selection is None:
            raise ZooError("a problem without a target has no scores of predictions; expected one with a target")
        return self.selection.score(predicted, rows=rows)
