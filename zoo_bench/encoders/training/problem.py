"""Supervised learning: its target and loss, and the map between logits and targets.

A logit says nothing without the mean and the deviation of the training targets, so an `Output` is saved with every
fitted encoder.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats
from torch import Tensor
from torch.nn import functional

from zoo_bench.encoders.training.targets import Checkpoints
from zoo_gen.errors import ZooError

LossName = Literal["auto", "bce", "mse"]


@dataclass(frozen=True)
class Problem:
    """What is learned from which checkpoints.

    Attributes:
        target: a metric of the zoo, "epoch", or a hyper-parameter that is a number.
        checkpoints: of each training model, the last one or all of them.
        loss: binary cross-entropy with soft targets, squared error of the standardised target, or "auto": the first
            where all training targets lie in 0 to 1.
    """

    target: str = "test_accuracy"
    checkpoints: Checkpoints = "last"
    loss: LossName = "auto"


DEFAULT_PROBLEM = Problem()


@dataclass(frozen=True)
class Output:
    """How logits and targets belong together."""

    loss: Literal["bce", "mse"]
    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(cls, name: str, problem: Problem, targets: np.ndarray) -> "Output":
        """Return the output for training targets (sample,).

        Raises:
            ZooError: a cross-entropy is asked for of targets that are no shares.
        """
        shares = bool(((targets >= 0) & (targets <= 1)).all())
        if problem.loss == "bce" and not shares:
            raise ZooError(
                f"{name}: loss 'bce' needs a target from 0 to 1, but {problem.target} reaches from {targets.min():g} "
                f"to {targets.max():g}; expected loss 'mse' or 'auto'"
            )
        if problem.loss == "bce" or (problem.loss == "auto" and shares):
            return cls("bce")
        return cls("mse", float(targets.mean()), float(targets.std()))

    def loss_of(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of logits and targets, both (network,)."""
        if self.loss == "bce":
            return functional.binary_cross_entropy_with_logits(logits, targets)
        return functional.mse_loss(logits, (targets - self.mean) / self.deviation)

    def values(self, logits: np.ndarray) -> np.ndarray:
        """Return predictions in the target's units (network,)."""
        if self.loss == "bce":
            return 1 / (1 + np.exp(-logits))
        return logits * self.deviation + self.mean

    def score(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """Return what the validation maximises: Kendall's tau-b of the ranks, or minus the mean squared error."""
        if self.loss == "bce":
            tau = float(stats.kendalltau(logits, targets).statistic)
            return tau if np.isfinite(tau) else -1.0
        return -float(np.mean((self.values(logits) - targets) ** 2))
