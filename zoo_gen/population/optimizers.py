"""The optimisers of `torch.optim` for many models at once, with hyper-parameters of its own for each model.

Each computes what its namesake in torch computes for one model. `weight_decay` is added to the gradient, except in
AdamW, which shrinks the weights instead.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # the defaults of torch.optim.Adam and AdamW
SMOOTHING = 0.99  # the default of torch.optim.RMSprop


class Optimizer(Protocol):
    """Updates weights in place from their gradient."""

    def step(self, weights: Tensor, gradient: Tensor, learning_rate: Tensor) -> None:
        """Take one step; weights and gradient are (model, parameter), the learning rate is (model, 1)."""

    def state(self) -> dict[str, Tensor]:
        """Return what steps change beside the weights, name -> (model, ...)."""

    def restore(self, state: Mapping[str, Tensor], *, steps: int) -> None:
        """Go on from the state after so many steps.

        Raises:
            ValueError: it is of another optimiser.
        """


class SGD:
    """Stochastic gradient descent with momentum, no dampening; `nesterov` looks ahead (Sutskever et al., 2013)."""

    def __init__(self, like: Tensor, *, momentum: Tensor, weight_decay: Tensor, nesterov: bool = False) -> None:
        self.nesterov = nesterov
        self.momentum = momentum if bool(momentum.any()) else None  # (model, 1)
        self.weight_decay = weight_decay if bool(weight_decay.any()) else None  # (model, 1)
        self.velocity = torch.zeros_like(like)  # (model, parameter)

    def step(self, weights: Tensor, gradient: Tensor, learning_rate: Tensor) -> None:
        """Take one step; weights and gradient are (model, parameter), the learning rate is (model, 1)."""
        gradient = _decayed(gradient, weights, self.weight_decay)
        if self.momentum is not None:
            velocity = self.velocity.mul_(self.momentum).add_(gradient)
            gradient = torch.addcmul(gradient, self.momentum, velocity) if self.nesterov else velocity
        weights.addcmul_(learning_rate, gradient, value=-1)

    def state(self) -> dict[str, Tensor]:
        """Return the velocity."""
        return {"velocity": self.velocity}

    def restore(self, state: Mapping[str, Tensor], *, steps: int) -> None:
        """Go on from a velocity."""
        copy_into(self.state(), state)


class Adam:
    """Adam (Kingma and Ba, 2015); `decoupled` makes it AdamW (Loshchilov and Hutter, 2019)."""

    def __init__(self, like: Tensor, *, weight_decay: Tensor, decoupled: bool = False) -> None:
        self.weight_decay = weight_decay if bool(weight_decay.any()) else None  # (model, 1)
        self.decoupled = decoupled
        self.mean = torch.zeros_like(like)  # (model, parameter)
        self.square = torch.zeros_like(like)  # (model, parameter)
        self.steps = 0

    def step(self, weights: Tensor, gradient: Tensor, learning_rate: Tensor) -> None:
        """Take one step; weights and gradient are (model, parameter), the learning rate is (model, 1)."""
        self.steps += 1
        if not self.decoupled:
            gradient = _decayed(gradient, weights, self.weight_decay)
        elif self.weight_decay is not None:
            weights.mul_(1 - learning_rate * self.weight_decay)
        self.mean.lerp_(gradient, 1 - BETA1)
        self.square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        root = self.square.sqrt().div_((1 - BETA2**self.steps) ** 0.5).add_(EPSILON)
        rate = learning_rate / (1 - BETA1**self.steps)
        weights.addcdiv_(self.mean * rate, root, value=-1)

    def state(self) -> dict[str, Tensor]:
        """Return the two moments."""
        return {"mean": self.mean, "square": self.square}

    def restore(self, state: Mapping[str, Tensor], *, steps: int) -> None:
        """Go on from the moments after so many steps."""
        copy_into(self.state(), state)
        self.steps = steps


class RMSprop:
    """RMSprop (Tieleman and Hinton, 2012), not centred, without momentum."""

    def __init__(self, like: Tensor, *, weight_decay: Tensor) -> None:
        self.weight_decay = weight_decay if bool(weight_decay.any()) else None  # (model, 1)
        self.square = torch.zeros_like(like)  # (model, parameter)

    def step(self, weights: Tensor, gradient: Tensor, learning_rate: Tensor) -> None:
        """Take one step; weights and gradient are (model, parameter), the learning rate is (model, 1)."""
        gradient = _decayed(gradient, weights, self.weight_decay)
        self.square.mul_(SMOOTHING).addcmul_(gradient, gradient, value=1 - SMOOTHING)
        weights.addcdiv_(gradient * learning_rate, self.square.sqrt().add_(EPSILON), value=-1)

    def state(self) -> dict[str, Tensor]:
        """Return the mean of squares."""
        return {"square": self.square}

    def restore(self, state: Mapping[str, Tensor], *, steps: int) -> None:
        """Go on from a mean of squares."""
        copy_into(self.state(), state)


def make_optimizer(name: str, like: Tensor, *, momentum: Tensor, weight_decay: Tensor) -> Optimizer:
    """Return the optimiser of a name for neighbouring models.

    Args:
        name: one of `hyperparameters.Optimizer`; "sgd" and "momentum" differ only in the momentum their models have.
        like: their weights (model, parameter).
        momentum: (model, 1).
        weight_decay: (model, 1).
    """
    if name == "rmsprop":
        return RMSprop(like, weight_decay=weight_decay)
    if name in ("adam", "adamw"):
        return Adam(like, weight_decay=weight_decay, decoupled=name == "adamw")
    return SGD(like, momentum=momentum, weight_decay=weight_decay, nesterov=name == "nesterov")


def copy_into(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy values into tensors of the same names.

    Raises:
        ValueError: names, shapes or types differ.
    """
    for kind in ("shape", "dtype"):
        if {name: getattr(each, kind) for name, each in tensors.items()} != {
            name: getattr(each, kind) for name, each in values.items()
        }:
            raise ValueError(f"a state of other tensors; expected {', '.join(tensors)}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(values[name])


def clipped(gradient: Tensor, norms: Tensor) -> Tensor:
    """Return gradients (model, parameter), those of a larger norm than (model, 1) shortened to it; 0: as they are.

    As torch.nn.utils.clip_grad_norm_ of one model (Pascanu et al., 2013).
    """
    factors = norms / (gradient.square().sum(dim=1, keepdim=True).sqrt() + 1e-6)
    return gradient * torch.where(norms > 0, factors.clamp(max=1.0), 1.0)


def _decayed(gradient: Tensor, weights: Tensor, weight_decay: Tensor | None) -> Tensor:
    return gradient if weight_decay is None else torch.addcmul(gradient, weight_decay, weights)
