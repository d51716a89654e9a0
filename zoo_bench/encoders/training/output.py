"""Output: the map between the logits of a supervised network and its target, with the loss that belongs to it.

Each name has a logit. A number has one, which is read from the mean of the training targets on, and in their deviation,
so a network that says 0 predicts the mean. Both numbers are saved with every fitted encoder.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy import special
from torch import Tensor
from torch.nn import functional

from zoo_bench.protocol.problem import Problem
from zoo_gen.errors import ZooError

NARROWEST_SPREAD = 0.05  # of shares that "auto" learns by cross-entropy; its gradients vanish where all are alike
NARROWEST_SHARE = 1e-3  # means of shares closer to 0 or 1 than this are taken as this far from it


@dataclass(frozen=True)
class Output:
    """How logits and targets belong together.

    Attributes:
        loss: binary cross-entropy with soft targets, or squared error of the standardised target; of names the
            cross-entropy.
        mean: of the training targets, where they are numbers.
        deviation: of the training targets; 1 for a cross-entropy.
        names: that the training targets have, sorted; none where they are numbers.
    """

    loss: Literal["bce", "mse", "ce"]
    mean: float = 0.5
    deviation: float = 1.0
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, problem: Problem, targets: np.ndarray) -> "Output":
        """Return the output for training targets (sample,).

        Raises:
            ZooError: a cross-entropy is asked for of targets that are no shares.
        """
        if not problem.is_number:
            return cls("ce", names=tuple(np.unique(targets).tolist()))
        shares = bool(((targets >= 0) & (targets <= 1)).all())
        if problem.loss == "bce" and not shares:
            raise ZooError(
                f"{name}: loss 'bce' needs a target from 0 to 1, but {problem.target} reaches from {targets.min():g} "
                f"to {targets.max():g}; expected loss 'mse' or 'auto'"
            )
        wide = bool(targets.std() >= NARROWEST_SPREAD)
        if problem.loss == "bce" or (problem.loss == "auto" and shares and wide):
            return cls("bce", float(targets.mean()))
        return cls("mse", float(targets.mean()), float(targets.std()))

    @property
    def n_logits(self) -> int:
        """How many logits a network has."""
        return len(self.names) or 1

    @property
    def facts(self) -> dict[str, Any]:
        """What a module is built from beside settings and facts of the zoo, as plain data; nothing for a number."""
        return {"outputs": self.n_logits} if self.names else {}

    def encoded(self, targets: np.ndarray) -> Tensor:
        """Return targets (network,) as `loss_of` reads them: float32, or int64 the positions of names."""
        if self.loss == "ce":
            return torch.from_numpy(np.searchsorted(self.names, targets))
        return torch.from_numpy(targets.astype(np.float32))

    @property
    def _offset(self) -> float:
        """The logit of the mean share."""
        return float(special.logit(np.clip(self.mean, NARROWEST_SHARE, 1 - NARROWEST_SHARE)))

    def loss_of(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of logits (network,) or (network, name), and targets (network,) as of `encoded`."""
        if self.loss == "ce":
            return functional.cross_entropy(logits, targets)
        if self.loss == "bce":
            return functional.binary_cross_entropy_with_logits(logits + self._offset, targets)
        return functional.mse_loss(logits, (targets - self.mean) / self.deviation)

    def values(self, logits: np.ndarray) -> np.ndarray:
        """Return predictions in the target's units, or names (network,), of logits (network,) or (network, name)."""
        if self.loss == "ce":
            return np.array(self.names)[logits.argmax(axis=1)]
        logits = logits.reshape(-1)
        if self.loss == "bce":
            return special.expit(logits + self._offset)
        return logits * self.deviation + self.mean
