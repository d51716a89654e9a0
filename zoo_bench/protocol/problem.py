"""Problem: what a benchmark asks an encoder to learn, told to `fit`, so that what is learned is what is tested.

The training views that come with a problem hold exactly the checkpoints that are tested, and their `target` returns
the values of every target of the benchmark.
"""

from dataclasses import dataclass
from typing import Literal

Metric = Literal["r2", "kendall_tau", "mse", "accuracy"]
Loss = Literal["auto", "bce", "mse"]


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
    """

    target: str | None = "test_accuracy"
    is_number: bool = True
    checkpoints: Literal["all", "last"] = "last"
    metric: Metric = "kendall_tau"
    loss: Loss = "auto"
    targets: tuple[str, ...] = ("test_accuracy",)
