"""Population: models that start together, step together and are measured together, as one stacked computation.

Inside, models that share an optimiser, an activation or a schedule lie next to each other, so that each runs once over
a slice; what comes out is in the order of the table that went in.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from zoo_gen.layers import Convolution, Layer
from zoo_gen.layout import ParameterLayout
from zoo_gen.population.forward import forward
from zoo_gen.population.initialization import initial_weights
from zoo_gen.population.optimizers import make_optimizer
from zoo_gen.population.random import data_order, kept_by_dropout
from zoo_gen.population.schedules import factor
from zoo_gen.population.tasks import Task

# What neighbours should have in common, the costliest difference first.
KINDS = ("optimizer", "activation", "schedule")


@dataclass(frozen=True)
class Regime:
    """How all models of a zoo are trained, whatever their hyper-parameters."""

    epochs: int  # how often each model sees its training images
    n_evaluated: int | None = None  # training images that the models are measured on, the first ones; None: all
    drop_last: bool = False  # whether the last batch of an epoch is left out where it is short
    stop_loss: float | None = None  # a model whose mean loss over an epoch is this or less keeps its weights
    dtype: torch.dtype = torch.float32  # of weights and arithmetic
    device: str = "cpu"


class Population:
    """Models of one architecture and batch size that learn one task.

    Args:
        layers: of every model.
        layout: of their weights.
        models: a table with a row a model and the hyper-parameters as columns.
        regime: what is the same for all of them.
        make_task: gives the task for the models of a table, in that table's order.
        weights: initial weights (model, parameter); drawn from the models' seeds if not given.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        layout: ParameterLayout,
        models: pa.Table,
        regime: Regime,
        *,
        make_task: Callable[[pa.Table], Task],
        weights: Tensor | None = None,
    ) -> None:
        dtype, device = regime.dtype, regime.device
        kinds = list(zip(*(_column(models, name) for name in KINDS), strict=True))
        order = sorted(range(len(kinds)), key=lambda model: tuple(map(str, kinds[model])))
        self._places = torch.tensor(order, device=device).argsort()  # where each model of the table lies inside
        models = models.take(order)
        columns: dict[str, list[Any]] = {name: _column(models, name) for name in KINDS}

        def numbers(name: str, *, default: float = 0.0) -> Tensor:
            found = _column(models, name)
            return torch.tensor([default if value is None else value for value in found], dtype=dtype, device=device)

        self.task = make_task(models)
        (self.batch_size,) = set(_column(models, "batch_size"))
        self.seeds = torch.tensor(_column(models, "seed"), device=device)
        self._layers = layers
        self._regime = regime
        if weights is None:
            weights = initial_weights(
                layout,
                self.seeds.cpu(),
                _column(models, "initialization"),
                deviations=numbers("initialization_deviation", default=1.0).cpu(),
                scales=numbers("initialization_scale", default=1.0).cpu(),
                biases=numbers("initial_bias").cpu(),
                dtype=dtype,
            )
        else:
            weights = weights[order].to(dtype)
        self._weights = weights.to(device).contiguous()  # (model, parameter), in the inner order
        # Each parameter is a leaf of the gradient's graph and a view of the flat weights that the optimiser updates.
        self._parameters = {
            p.name: self._weights[:, p.start : p.stop].view(-1, *p.shape).detach().requires_grad_()
            for p in layout.parameters
        }
        self._activations = _runs(columns["activation"])
        self._schedules = _runs(columns["schedule"])
        self._learning_rate = numbers("learning_rate").unsqueeze(1)
        momentum, decay = numbers("momentum").unsqueeze(1), numbers("weight_decay").unsqueeze(1)
        self._optimizers = [
            (rows, make_optimizer(name, self._weights[rows], momentum=momentum[rows], weight_decay=decay[rows]))
            for name, rows in _runs(columns["optimizer"])
        ]
        is_kernel = torch.cat([torch.full((p.size,), p.role == "weight") for p in layout.parameters])
        l2 = numbers("l2").unsqueeze(1) * is_kernel.to(device)
        self._l2_gradient = 2 * l2 if bool(l2.any()) else None  # (model, parameter): of l2 * the sum of squared kernels
        self._dropout_rates = numbers("dropout")
        self._has_dropout = bool(self._dropout_rates.any())
        self._epoch_loss = torch.full((len(models),), torch.nan, dtype=dtype, device=device)
        self._epoch_accuracy = torch.full_like(self._epoch_loss, torch.nan)

    @property
    def weights(self) -> Tensor:
        """A copy of the weights now (model, parameter), in the order of the table."""
        return self._weights[self._places]

    @property
    def steps_per_epoch(self) -> int:
        """The number of steps that show every training image once."""
        whole, rest = divmod(self.task.n_train, self.batch_size)
        return whole + (rest > 0 and not (self._regime.drop_last and whole > 0))

    def running(self) -> dict[str, Tensor]:
        """Return loss and accuracy (model,) over the last epoch as it went: in training mode, before each step.

        They are in the order of the table, and NaN before the first epoch. There is no accuracy without classes.
        """
        found = {"running_loss": self._epoch_loss[self._places]}
        if "accuracy" in self.task.names:
            found["running_accuracy"] = self._epoch_accuracy[self._places]
        return found

    def train_epoch(self, epoch: int) -> None:
        """Show every model all training images once, each in its own order for that epoch (from 1 on)."""
        loss, right, seen = torch.zeros_like(self._epoch_loss), torch.zeros_like(self._epoch_loss), 0
        for number, images in enumerate(self.batches(epoch)):
            losses, correct = self.step(images, (epoch - 1) * self.steps_per_epoch + number)
            loss += losses.sum(dim=1)
            seen += images.shape[1]
            if correct is not None:
                right += correct.sum(dim=1)
        self._epoch_loss, self._epoch_accuracy = loss / seen, right / seen
        if self._regime.stop_loss is not None:
            self._learning_rate.mul_((self._epoch_loss > self._regime.stop_loss).unsqueeze(1))

    def batches(self, epoch: int) -> Iterator[Tensor]:
        """Yield the numbers of the training images of each step of an epoch (model, image), in the inner order."""
        order = data_order(self.seeds, epoch, self.task.n_train)
        yield from order.split(self.batch_size, dim=1)[: self.steps_per_epoch]

    def step(self, images: Tensor, number: int) -> tuple[Tensor, Tensor | None]:
        """Take one step of every model on training images (model, image); `number` counts steps from 0.

        Returns:
            The loss of every image (model, image) before the step, and whether it was classified rightly.
        """
        inputs, targets = self.task.batch(images)
        outputs = forward(self._layers, self._parameters, self._activations, inputs, dropout=self._dropout(number))
        losses = self.task.losses(outputs, targets)
        # The sum over models keeps their gradients apart; each model's loss is the mean over its own images.
        gradients = torch.autograd.grad(losses.sum() / images.shape[1], list(self._parameters.values()))
        gradient = torch.cat([part.flatten(1) for part in gradients], dim=1)
        with torch.no_grad():
            if self._l2_gradient is not None:
                gradient = torch.addcmul(gradient, self._l2_gradient, self._weights)
            rate = self._rate(number)
            for rows, optimizer in self._optimizers:
                optimizer.step(self._weights[rows], gradient[rows], rate[rows])
            return losses.detach(), self.task.right(outputs, targets)

    def evaluate(self, part: str) -> dict[str, Tensor]:
        """Measure every model in evaluation mode on a part of the data; (model, ...) in the order of the table."""
        n_models = len(self._weights)
        # One model at a time is as fast for convolutions on a CPU, and computes what its plain module computes.
        alone = self._weights.device.type == "cpu" and any(isinstance(layer, Convolution) for layer in self._layers)
        groups = [slice(model, model + 1) for model in range(n_models)] if alone else [slice(0, n_models)]
        found = [self.task.measure(part, self._outputs_of(models), models=models) for models in groups]
        return {name: torch.cat([metrics[name] for metrics in found])[self._places] for name in found[0]}

    def _outputs_of(self, models: slice) -> Callable[[Tensor], Tensor]:
        parameters = {name: values[models] for name, values in self._parameters.items()}
        count = models.stop - models.start
        activations = self._activations
        if count == 1:
            activations = [(name, slice(0, 1)) for name, rows in activations if rows.start <= models.start < rows.stop]

        def outputs(inputs: Tensor) -> Tensor:
            shared = inputs.unsqueeze(1).expand(len(inputs), count, *inputs.shape[1:])
            return forward(self._layers, parameters, activations, shared)

        return outputs

    def _rate(self, number: int) -> Tensor:
        """Return the learning rates of a step (model, 1)."""
        n_steps = self._regime.epochs * self.steps_per_epoch
        if len(self._schedules) == 1:
            return self._learning_rate * factor(self._schedules[0][0], number, n_steps)
        return torch.cat([self._learning_rate[rows] * factor(name, number, n_steps) for name, rows in self._schedules])

    def _dropout(self, number: int) -> Callable[[Tensor], Tensor] | None:
        """Return what the dropout layers of a step do, in the order in which they are called."""
        if not self._has_dropout:
            return None
        start = 0

        def dropout(hidden: Tensor) -> Tensor:  # (model, image, ...)
            nonlocal start
            count = hidden[0].numel()
            kept = kept_by_dropout(self.seeds, self._dropout_rates, number, count, start=start).view(hidden.shape)
            start += -(-count // 4) * 4
            scale = (1 / (1 - self._dropout_rates)).view(-1, *[1] * (hidden.dim() - 1))
            return hidden * (kept * scale)

        return dropout


def _column(models: pa.Table, name: str) -> list[Any]:
    """Return a column; None for each model where the zoo has no such hyper-parameter."""
    return models[name].to_pylist() if name in models.column_names else [None] * len(models)


def _runs(keys: Sequence[Any]) -> list[tuple[Any, slice]]:
    """Return (key, slice) for each run of equal neighbours."""
    runs, start = [], 0
    for key, members in groupby(keys):
        stop = start + sum(1 for _ in members)
        runs.append((key, slice(start, stop)))
        start = stop
    return runs
