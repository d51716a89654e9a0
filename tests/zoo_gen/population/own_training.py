"""Losses, optimisers and schedules as a user writes them: some that can be stacked, and some that cannot."""

import math
import random

import torch
from torch import Tensor
from torch.nn import functional


def focal(outputs: Tensor, targets: Tensor) -> Tensor:
    """Lin et al., "Focal loss for dense object detection" (2017), with gamma 2."""
    losses = functional.cross_entropy(outputs, targets, reduction="none")
    return ((1 - torch.exp(-losses)) ** 2 * losses).mean()


def huber(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.huber_loss(outputs, targets, delta=0.7)


class Lion:
    """Chen et al., "Symbolic discovery of optimization algorithms" (2023)."""

    def init(self, parameters):
        return {name: torch.zeros_like(values) for name, values in parameters.items()}

    def update(self, gradients, state, parameters, hyperparameters, step):
        rate, decay = hyperparameters["learning_rate"], hyperparameters["weight_decay"]
        new, means = {}, {}
        for name, gradient in gradients.items():
            direction = torch.sign(0.9 * state[name] + 0.1 * gradient)
            new[name] = parameters[name] - rate * (direction + decay * parameters[name])
            means[name] = 0.99 * state[name] + 0.01 * gradient
        return new, means


def adam():
    """The pair of functions of Adam, its state in tuples."""

    def init(parameters):
        return [(torch.zeros_like(values), torch.zeros_like(values)) for values in parameters.values()]

    def update(gradients, state, parameters, hyperparameters, step):
        new, moments = {}, []
        for (name, gradient), (old_mean, old_square) in zip(gradients.items(), state, strict=True):
            mean, square = 0.9 * old_mean + 0.1 * gradient, 0.999 * old_square + 0.001 * gradient**2
            root = (square / (1 - 0.999**step)).sqrt() + 1e-8
            new[name] = parameters[name] - hyperparameters["learning_rate"] * mean / (1 - 0.9**step) / root
            moments.append((mean, square))
        return new, moments

    return init, update


def stateless():
    """Gradient descent whose step is no longer than the momentum says, a state of no tensors."""

    def update(gradients, state, parameters, hyperparameters, step):
        most = hyperparameters["momentum"]
        return {
            name: parameters[name] - hyperparameters["learning_rate"] * torch.clamp(gradient, -most, most)
            for name, gradient in gradients.items()
        }, state

    return lambda parameters: {}, update


def drifting():
    """Parameters that shrink whatever the learning rate is; the state counts steps in a tensor."""

    def update(gradients, state, parameters, hyperparameters, step):
        return {name: values * 0.9 for name, values in parameters.items()}, state + 1

    return lambda parameters: torch.zeros(()), update


def polynomial(epoch: float, n_epochs: int) -> float:
    return (1 - epoch / n_epochs) ** 2


def saw(epoch: float, n_epochs: int) -> float:
    return 1.0 if math.floor(epoch) % 2 == 0 else 0.5


def a_loss_an_image(outputs, targets):
    return functional.cross_entropy(outputs, targets, reduction="none")


def a_number(outputs, targets):
    return float(outputs.detach().sum())


def whole(outputs, targets):
    return targets.sum()


def without_gradient(outputs, targets):
    return (outputs.argmax(dim=1) == targets).double().mean()


def decides_by_value(outputs, targets):
    loss = functional.cross_entropy(outputs, targets)
    return loss if loss > 1 else loss * 2


def random_loss(outputs, targets):
    return functional.cross_entropy(outputs + torch.randn_like(outputs), targets)


def failing(outputs, targets):
    raise ValueError("no such thing")


def another_each_time(outputs, targets):
    return functional.cross_entropy(outputs, targets) * random.random()


class WithoutUpdate:
    def init(self, parameters):
        return {}


class WithArguments:
    def __init__(self, rate):
        self.rate = rate


def forgets_the_state():
    return lambda parameters: {}, lambda gradients, state, parameters, hyperparameters, step: parameters


def other_shapes():
    def update(gradients, state, parameters, hyperparameters, step):
        return {name: values.flatten() for name, values in parameters.items()}, state

    return lambda parameters: {}, update


def state_of_numbers():
    return lambda parameters: {"count": 0}, lambda gradients, state, parameters, *_: (parameters, state)


def slips():
    return lambda parameters: {}, lambda gradients, state, parameters, *_: (parameters["weigth"], state)


def negative(epoch, n_epochs):
    return 0.5 - epoch


def text(epoch, n_epochs):
    return "fast"
