"""Losses and optimisers of the user's own, written for one model and stacked by torch.func for many.

Everything is tried out on random numbers before anything is trained: what is stacked must compute what each computes
alone.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.architecture.own_module import Factory
from zoo_gen.errors import ZooError, one_line
from zoo_gen.population.schedules import own_factor

Tree = Any  # tensors in dictionaries, lists and tuples
# What vmap cannot stack it refuses in many ways.
_REFUSALS = (RuntimeError, NotImplementedError, ValueError, TypeError, IndexError, AttributeError, KeyError)
_TOLERANCE = 1e-9  # of a stacked number in float64, relative to 1 + the number
_TRIES = 1000  # points of a training at which a schedule is tried


class OwnLoss:
    """A loss of many models: function(outputs, targets) -> number, of one model and all images of its step.

    Outputs are (image, class) and targets whole numbers (image,); where a number is predicted, both are (image,), and
    of a network that is fitted to an image, both are (channel, pixel).
    """

    def __init__(self, reference: str, function: Factory) -> None:
        self._where, self._function = f"loss {reference!r}", function

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss (model,) of outputs (model, output, image) and targets (model, image).

        Raises:
            ZooError: it cannot be stacked, or gives something else than a number a model.
        """
        losses: Tensor = _stacked(self._where, self.alone, as_seen(outputs, targets), targets)
        return losses

    def alone(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss () of one model."""
        loss = self._function(outputs, targets)
        if not isinstance(loss, Tensor) or loss.dim() or not loss.is_floating_point():
            description = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            description = f"a tensor of {loss.dtype}" if isinstance(loss, Tensor) and not loss.dim() else description
            raise ZooError(f"{self._where}: gives {description}; expected one number, a scalar tensor such as a mean")
        return loss


class OwnOptimizer:
    """An optimiser of many models, of the user's own: `init` and `update` of one model, as an object or a pair.

    `init(parameters)` gives its state. `update(gradients, state, parameters, hyperparameters, step)` gives new
    parameters and a new state; nothing is changed in place. Parameters and gradients are dictionaries by name, a state
    is tensors in dictionaries, lists and tuples, hyperparameters are scalars by name, and `step` counts from 1.

    Args:
        reference: of the class or function.
        factory: the class, or a function that returns an object or a pair of functions.
        layout: of the parameters.
        weights: of the models (model, parameter).
        hyperparameters: name -> (model,); `learning_rate` is set in each step.
    """

    def __init__(
        self,
        reference: str,
        factory: Factory,
        *,
        layout: ParameterLayout,
        weights: Tensor,
        hyperparameters: Mapping[str, Tensor],
    ) -> None:
        self._where = f"optimizer {reference!r}"
        init, self._update = _pair(self._where, factory)
        self._layout, self._hyperparameters = layout, dict(hyperparameters)
        self._steps = 0
        self._state: Tree = _stacked(self._where, init, self._named(weights))

    def step(self, weights: Tensor, gradient: Tensor, learning_rate: Tensor) -> None:
        """Take one step; weights and gradient are (model, parameter), the learning rate is (model, 1).

        Where the learning rate is 0, a model keeps its weights.

        Raises:
            ZooError: it cannot be stacked, or gives something else than parameters and a state.
        """
        self._steps += 1
        hyperparameters = self._hyperparameters | {"learning_rate": learning_rate.squeeze(1)}
        arguments = self._named(gradient), self._state, self._named(weights), hyperparameters
        changed, self._state = _stacked(self._where, partial(self.alone, step=self._steps), *arguments)
        flat = torch.cat([values.reshape(len(values), -1) for values in changed], dim=1)
        weights.copy_(torch.where(learning_rate > 0, flat, weights))

    def state(self) -> dict[str, Tensor]:
        """Return the tensors of its state in their order, number -> (model, ...)."""
        return {str(number): tensor for number, tensor in enumerate(tree_flatten(self._state)[0])}

    def restore(self, state: Mapping[str, Tensor], *, steps: int) -> None:
        """Go on from the state after so many steps.

        Raises:
            ValueError: its state has another structure than at the beginning, so that nobody knows what is what.
        """
        before, structure = tree_flatten(self._state)
        if [each.shape for each in before] != [each.shape for each in state.values()]:
            raise ValueError("a state of another structure than the first one")
        self._state, self._steps = tree_unflatten(list(state.values()), structure), steps

    def alone(
        self, gradients: Tree, state: Tree, parameters: Tree, hyperparameters: Tree, *, step: int
    ) -> tuple[list[Tensor], Tree]:
        """Return new parameters in their order, and the new state of one model."""
        result = self._update(gradients, state, parameters, hyperparameters, step)
        expected = "expected new parameters by name, and a state"
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Mapping):
            raise ZooError(f"{self._where}: its update gives {type(result).__name__}; {expected}")
        for name, values in parameters.items():
            changed = result[0].get(name)
            if not isinstance(changed, Tensor) or changed.shape != values.shape or changed.dtype != values.dtype:
                got = f"{list(changed.shape)} of {changed.dtype}" if isinstance(changed, Tensor) else changed
                raise ZooError(
                    f"{self._where}: its update gives {got} as {name}; expected {list(values.shape)} of {values.dtype}"
                )
        return [result[0][name] for name in parameters], result[1]

    def _named(self, values: Tensor) -> dict[str, Tensor]:
        """Return flat values (model, parameter) by parameter, name -> (model, *shape)."""
        return {p.name: values[:, p.start : p.stop].reshape(-1, *p.shape) for p in self._layout.parameters}


def as_seen(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return outputs (model, output, image) as a loss of the user's own sees them.

    They are (model, image, class); where a number is predicted (model, image), and as targets are where these have
    channels.
    """
    if targets.dim() == 3:
        return outputs
    return outputs.squeeze(1) if targets.is_floating_point() else outputs.transpose(1, 2)


def check_loss(reference: str, function: Factory, *, n_outputs: int, task: str) -> None:
    """Try a loss on random outputs of two models, with its gradient, and on targets of a task.

    Raises:
        ZooError: it fails, gives no number, has no gradient, or is another one when stacked.
    """
    loss, random = OwnLoss(reference, function), torch.Generator().manual_seed(0)
    outputs = torch.randn((2, n_outputs, 5), generator=random, dtype=torch.float64).requires_grad_()
    targets = torch.randint(n_outputs, (2, 5), generator=random)
    if task != "classification":
        shape = (2, n_outputs, 5) if task == "regression of images" else (2, 5)
        targets = torch.randn(shape, generator=random, dtype=torch.float64)
    where = f"loss {reference!r}"
    shapes = f"outputs {list(as_seen(outputs, targets).shape[1:])} and targets {list(targets.shape[1:])}"
    try:
        alone = torch.stack([loss.alone(*each) for each in zip(as_seen(outputs, targets), targets, strict=True)])
        (expected,) = torch.autograd.grad(alone.sum(), [outputs])
    except ZooError:
        raise
    # What a function of the user's raises is its own affair.
    except Exception as error:
        raise ZooError(f"{where}: fails on {shapes} ({one_line(error)}); expected a number with a gradient") from None
    together = loss(outputs, targets)
    (gradient,) = torch.autograd.grad(together.sum(), [outputs])
    _compare(where, [together, gradient], [alone, expected])


def check_optimizer(
    reference: str, factory: Factory, *, layout: ParameterLayout, hyperparameters: Mapping[str, Tensor]
) -> None:
    """Try an optimiser on random gradients of two models for three steps, with hyper-parameters, float64 (1,).

    Raises:
        ZooError: it fails, gives something else than parameters and a state, or other ones when stacked.
    """
    random = torch.Generator().manual_seed(0)
    weights = torch.randn((2, layout.size), generator=random, dtype=torch.float64)
    numbers = {name: value.repeat(2) for name, value in hyperparameters.items()}
    scalars = {name: value[0] for name, value in hyperparameters.items()}
    where = f"optimizer {reference!r}"
    init, _ = _pair(where, factory)

    def tried(what: str, function: Factory, *arguments: Any, **more: Any) -> Any:
        try:
            return function(*arguments, **more)
        except ZooError:
            raise
        # What a function of the user's raises is its own affair.
        except Exception as error:
            raise ZooError(f"{where}: its {what} fails ({one_line(error)})") from None

    def named(values: Tensor) -> dict[str, Tensor]:
        return {p.name: values[p.start : p.stop].view(p.shape) for p in layout.parameters}

    alone = list(weights.clone())
    states = [tried("init", init, named(each)) for each in alone]
    stacked = OwnOptimizer(reference, factory, layout=layout, weights=weights, hyperparameters=numbers)
    for step in (1, 2, 3):
        gradient = torch.randn(weights.shape, generator=random, dtype=torch.float64)
        for model, each in enumerate(alone):
            arguments = named(gradient[model]), states[model], named(each), scalars
            changed, states[model] = tried("update", stacked.alone, *arguments, step=step)
            alone[model] = torch.cat([values.flatten() for values in changed])
        stacked.step(weights, gradient, numbers["learning_rate"].unsqueeze(1))
    _compare(where, [weights], [torch.stack(alone)])


def check_schedule(reference: str, function: Factory, *, n_epochs: int) -> None:
    """Try a schedule at points of a training.

    Raises:
        ZooError: it gives no number of 0 or more.
    """
    for point in range(_TRIES):
        own_factor(function, reference, n_epochs * point / _TRIES, n_epochs)


def _stacked(where: str, function: Factory, *arguments: Any) -> Any:
    try:
        return vmap(function)(*arguments)
    except torch.OutOfMemoryError:
        raise
    except _REFUSALS as error:
        raise ZooError(f"{where}: cannot be stacked by torch.func ({one_line(error)})") from None


def _pair(where: str, factory: Factory) -> tuple[Factory, Factory]:
    """Return the functions `init` and `update` of an optimiser."""
    try:
        optimizer = factory()
    # What a constructor raises is its own affair.
    except Exception as error:
        raise ZooError(f"{where}: cannot be made without arguments ({one_line(error)})") from None
    pair = (
        optimizer
        if isinstance(optimizer, tuple)
        else (getattr(optimizer, "init", None), getattr(optimizer, "update", None))
    )
    if len(pair) != 2 or not all(map(callable, pair)):
        raise ZooError(f"{where}: gives {type(optimizer).__name__}; expected an object with init and update, or both")
    return pair


def _compare(where: str, together: list[Tensor], alone: list[Tensor]) -> None:
    for one, other in zip(together, alone, strict=True):
        if not torch.allclose(one, other, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True):
            raise ZooError(f"{where}: of stacked models is another than of each alone; expected the same")
