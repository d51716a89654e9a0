"""SGD with momentum and Adam for many models at once, with hyper-parameters of its own for each model.

Each computes what `torch.optim.SGD` and `torch.optim.Adam` compute for one model: weight decay is added to the
gradient (L2), Adam's moments are corrected for their bias, and epsilon stands outside the root.
"""

from typing import Protocol

import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # the defaults of torch.optim.Adam


class Optimizer(Protocol):
    """Updates weights in place from their gradient."""

    def step(self, weights: Tensor, gradient: Tensor) -> None:
        """Take one step; both are (model, parameter)."""


class SGD:
    """Stochastic gradient descent with momentum, no dampening."""

    def __init__(self, like: Tensor, *, learning_rate: Tensor, momentum: Tensor, weight_decay: Tensor) -> None:
        self.learning_rate = learning_rate  # (model, 1)
        self.momentum = momentum if bool(momentum.any()) else None  # (model, 1)
        self.weight_decay = weight_decay if bool(weight_decay.any()) else None  # (model, 1)
        self.velocity = torch.zeros_like(like)  # (model, parameter)

    def step(self, weights: Tensor, gradient: Tensor) -> None:
        """Take one step; both are (model, parameter)."""
        if self.weight_decay is not None:
            gradient = torch.addcmul(gradient, self.weight_decay, weights)
        if self.momentum is not None:
            gradient = self.velocity.mul_(self.momentum).add_(gradient)
        weights.addcmul_(self.learning_rate, gradient, value=-1)


class Adam:
    """Adam (Kingma and Ba, 2015)."""

    def __init__(self, like: Tensor, *, learning_rate: Tensor, weight_decay: Tensor) -> None:
        self.learning_rate = learning_rate  # (model, 1)
        self.weight_decay = weight_decay if bool(weight_decay.any()) else None  # (model, 1)
        self.mean = torch.zeros_like(like)  # (model, parameter)
        self.square = torch.zeros_like(like)  # (model, parameter)
        self.steps = 0

    def step(self, weights: Tensor, gradient: Tensor) -> None:
        """Take one step; both are (model, parameter)."""
        self.steps += 1
        if self.weight_decay is not None:
            gradient = torch.addcmul(gradient, self.weight_decay, weights)
        self.mean.lerp_(gradient, 1 - BETA1)
        self.square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        root = self.square.sqrt().div_((1 - BETA2**self.steps) ** 0.5).add_(EPSILON)
        rate = self.learning_rate / (1 - BETA1**self.steps)
        weights.addcdiv_(self.mean * rate, root, value=-1)
