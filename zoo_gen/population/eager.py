"""Eager: the steps of a population by torch's operations, and on a CPU convolutions in the form that a zoo records.

Without forms, only torch's own operations are used; that is the reference for every other implementation.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from zoo_gen.architecture.network import Network
from zoo_gen.architecture.stacking import Stacked
from zoo_gen.manifest.hyperparameters import is_own
from zoo_gen.population.augmentation import Augmentation
from zoo_gen.population.columns import Members, numeric, runs
from zoo_gen.population.cpu import lanes
from zoo_gen.population.cpu.convolutions import LANES
from zoo_gen.population.forward import forward
from zoo_gen.population.losses import Losses
from zoo_gen.population.metrics import pieces
from zoo_gen.population.optimizers import Optimizer, clipped, copy_into, make_optimizer
from zoo_gen.population.own_functions import OwnOptimizer
from zoo_gen.population.random import data_order, kept_by_dropout
from zoo_gen.population.schedules import distinct
from zoo_gen.population.tasks import Task

_IMAGES_IN_LANES = 64  # of a step at once, which bounds its memory; even, so that dropout's pairs stay together
_IMAGES_OF_ONE = 256  # whose values between layers a core's cache holds, when one model is evaluated


class Eager:
    """Arguments and methods as `population.Arithmetic`."""

    def __init__(
        self,
        network: Network,
        members: Members,
        task: Task,
        weights: Tensor,
        *,
        steps: Sequence[int],
        n_epochs: int,
        forms: Mapping[str, str],
    ) -> None:
        self.weights = weights
        self._forms = forms
        self._network, self._task = network, task
        self._sizes, self._n_epochs = steps, n_epochs
        # Each parameter is a leaf of the gradient's graph and a view of the flat weights that the optimiser updates.
        self._parameters = {
            p.name: weights[:, p.start : p.stop].view(-1, *p.shape).detach().requires_grad_()
            for p in network.layout.parameters
        }
        self._stacked = None
        if network.own_module is not None:
            self._stacked = Stacked(network.own_module, dtype=weights.dtype, device=weights.device)
        # Running statistics, name -> (model, *shape). Each lies on its own: of a view into all of them, vmap would
        # change a copy.
        self._buffers = _initial_buffers(network, len(weights), like=weights)
        self._seeds = members.seeds
        self._activations = runs(members.activations)
        self._schedules, schedules = distinct(members.schedules)
        self._schedule_of = torch.tensor(schedules, device=weights.device)
        self._learning_rate = members.learning_rate.unsqueeze(1).clone()
        self._optimizers = [(rows, self._optimizer(name, members, rows)) for name, rows in runs(members.optimizers)]
        smoothing = members.label_smoothing
        self._losses = Losses(task, members.losses, smoothing=smoothing, functions=members.functions)
        self._clip_norm = members.clip_norm.unsqueeze(1) if bool(members.clip_norm.any()) else None
        self._augmentation = None
        if bool(members.crop_padding.any()) or bool(members.flip.any()):
            padding = members.crop_padding.long()
            self._augmentation = Augmentation(self._seeds, padding=padding, flip=members.flip)
        l2 = members.l2.unsqueeze(1) * torch.from_numpy(network.layout.is_kernel).to(weights.device)
        self._l2_gradient = 2 * l2 if bool(l2.any()) else None  # (model, parameter): of l2 * the sum of squared kernels
        self._dropout_rates = members.dropout
        self._has_dropout = bool(self._dropout_rates.any())

    @property
    def buffers(self) -> Tensor | None:
        """The running statistics now (model, buffer), in the order of the network; None where there are none."""
        if not self._buffers:
            return None
        return torch.cat([values.flatten(1) for values in self._buffers.values()], dim=1)

    def train_epoch(self, epoch: int) -> tuple[Tensor, Tensor | None]:
        """Show every model all training images once; return mean loss and accuracy (model,) as it went."""
        loss = torch.zeros_like(self._learning_rate[:, 0])
        right, has_classes = torch.zeros_like(loss), False
        if self._augmentation is not None:
            self._augmentation.begin(epoch)
        for number, images in enumerate(self._batches(epoch)):
            losses, correct = self._step(images, (epoch - 1) * len(self._sizes) + number)
            loss += losses.sum(dim=1)
            if correct is not None:
                right, has_classes = right + correct.sum(dim=1), True
        seen = sum(self._sizes)
        return loss / seen, right / seen if has_classes else None

    def state(self) -> dict[str, Tensor]:
        """Return what training changes; all else follows from the number of the epoch."""
        optimizers = {
            f"optimizer{number}/{name}": values
            for number, (_, optimizer) in enumerate(self._optimizers)
            for name, values in optimizer.state().items()
        }
        return self._own_state() | optimizers

    def _own_state(self) -> dict[str, Tensor]:
        buffers = {f"buffers/{name}": values for name, values in self._buffers.items()}
        return {"weights": self.weights, "learning_rate": self._learning_rate, **buffers}

    def restore(self, state: Mapping[str, Tensor], *, epochs: int) -> None:
        """Go on from the state after so many epochs.

        Raises:
            ValueError: it is of another training.
        """
        left = dict(state)
        copy_into(self._own_state(), {name: left.pop(name) for name in self._own_state() if name in left})
        for number, (_, optimizer) in enumerate(self._optimizers):
            prefix = f"optimizer{number}/"
            values = {name.removeprefix(prefix): left.pop(name) for name in list(left) if name.startswith(prefix)}
            optimizer.restore(values, steps=epochs * len(self._sizes))

    def freeze(self, models: Tensor) -> None:
        """Let some models, bool (model,), keep their weights from now on."""
        self._learning_rate.mul_(~models.unsqueeze(1))

    def evaluate(self, part: str) -> dict[str, Tensor]:
        """Measure every model in evaluation mode on a part of the data; name -> (model, ...)."""
        n_models = len(self.weights)
        # One model at a time is as fast for convolutions on a CPU, and computes what its plain module computes.
        alone = self.weights.device.type == "cpu" and self._network.has_convolution
        groups = [slice(model, model + 1) for model in range(n_models)] if alone else [slice(0, n_models)]
        measured = [self._task.measure(part, self._outputs_of(models, alone=alone), models=models) for models in groups]
        return {name: torch.cat([metrics[name] for metrics in measured]) for name in measured[0]}

    def _batches(self, epoch: int) -> Iterator[Tensor]:
        """Yield the numbers of the training images of each step of an epoch (model, image)."""
        order = data_order(self._seeds, epoch, self._task.n_train)
        yield from order[:, : sum(self._sizes)].split(list(self._sizes), dim=1)

    def _step(self, images: Tensor, number: int) -> tuple[Tensor, Tensor | None]:
        """Take one step of every model on training images (model, image); `number` counts steps from 0.

        Returns:
            The loss of every image (model, image) before the step, and whether it was classified rightly.
        """
        first, *others = self._pieces(images.shape[1])
        gradient, losses, right = self._backward(images[:, first], number, first, of=images.shape[1])
        for piece in others:
            more, further, correct = self._backward(images[:, piece], number, piece, of=images.shape[1])
            gradient, losses = gradient + more, torch.cat([losses, further], dim=1)
            right = None if right is None or correct is None else torch.cat([right, correct], dim=1)
        with torch.no_grad():
            if self._l2_gradient is not None:
                gradient = torch.addcmul(gradient, self._l2_gradient, self.weights)
            if self._clip_norm is not None:
                gradient = clipped(gradient, self._clip_norm)
            rate = self._rate(number)
            for rows, optimizer in self._optimizers:
                optimizer.step(self.weights[rows], gradient[rows], rate[rows])
        return losses, right

    def _pieces(self, count: int) -> list[slice]:
        """Cut a step's images into what is computed at once; batch normalisation and own losses need all of them."""
        whole = self._buffers or self._losses.has_own
        most = _IMAGES_IN_LANES if LANES in self._forms.values() and not whole else count
        return [slice(start, min(start + most, count)) for start in range(0, count, most)]

    def _backward(self, images: Tensor, number: int, piece: slice, *, of: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return what a piece of a step's images (model, image) adds to the gradient (model, parameter).

        Beside it the loss of each image (model, image), and whether it was classified rightly.
        """
        inputs, targets = self._task.batch(images, self._augmentation)
        if self._stacked is not None:
            drop = partial(_dropped, step=number)
            outputs = self._stacked.train(self._parameters, self._buffers, inputs, self._seeds, drop)
        else:
            dropout = self._dropout(number, piece, of=of)
            outputs = forward(
                *(self._network.layers, self._parameters, self._activations, inputs),
                forms=self._forms,
                dropout=dropout,
                buffers=self._buffers,
                training=True,
                as_plain=False,
            )
        losses = self._losses.of(outputs, targets)
        # The sum over models keeps their gradients apart; each model's loss is the mean over its own images.
        gradients = torch.autograd.grad(losses.sum() / of, list(self._parameters.values()))
        gradient = torch.cat([part.reshape(len(part), -1) for part in gradients], dim=1)
        with torch.no_grad():
            return gradient, losses.detach(), self._task.right(outputs, targets)

    def _outputs_of(self, models: slice, *, alone: bool) -> Callable[[Tensor], Tensor]:
        parameters, buffers = (
            {name: values[models] for name, values in each.items()} for each in (self._parameters, self._buffers)
        )
        count = models.stop - models.start
        activations = self._activations
        if count == 1:
            activations = [(name, slice(0, 1)) for name, rows in activations if rows.start <= models.start < rows.stop]

        def outputs_of(inputs: Tensor) -> Tensor:
            if self._stacked is not None:
                return self._stacked.evaluate(parameters, buffers, inputs)
            shared = inputs.unsqueeze(1).expand(len(inputs), count, *inputs.shape[1:])
            return forward(self._network.layers, parameters, activations, shared, buffers=buffers, as_plain=alone)

        def outputs(inputs: Tensor) -> Tensor:
            if not alone:
                return outputs_of(inputs)
            return torch.cat([outputs_of(inputs[piece]) for piece in pieces(len(inputs), _IMAGES_OF_ONE)], dim=2)

        return outputs

    def _rate(self, number: int) -> Tensor:
        """Return the learning rates of a step (model, 1)."""
        steps = {"steps_per_epoch": len(self._sizes), "n_epochs": self._n_epochs}
        factors = [schedule.factor(number, **steps) for schedule in self._schedules]
        if len(factors) == 1:
            return self._learning_rate * factors[0]
        each = torch.tensor(factors, dtype=self._learning_rate.dtype, device=self._learning_rate.device)
        return self._learning_rate * each[self._schedule_of].unsqueeze(1)

    def _optimizer(self, name: str, members: Members, rows: slice) -> Optimizer:
        """Return the optimiser of neighbouring models."""
        weights = self.weights[rows]
        if is_own(name):
            table = members.table.slice(rows.start, rows.stop - rows.start)
            return OwnOptimizer(
                name,
                members.functions[name],
                layout=self._network.layout,
                weights=weights,
                hyperparameters=numeric(table, dtype=weights.dtype, device=weights.device),
            )
        momentum, decay = members.momentum.unsqueeze(1), members.weight_decay.unsqueeze(1)
        return make_optimizer(name, weights, momentum=momentum[rows], weight_decay=decay[rows])

    def _dropout(self, number: int, piece: slice, *, of: int) -> Callable[[Tensor], Tensor] | None:
        """Return what the dropout layers of a step do to a piece of its images, one call after the other."""
        if not self._has_dropout:
            return None
        seeds, rates, n_images = self._seeds, self._dropout_rates, piece.stop - piece.start
        start = 0

        def dropout(hidden: Tensor) -> Tensor:  # (model, image, ...), or as lanes
            nonlocal start
            in_lanes = hidden.dim() == 6
            count = (hidden[0, ..., 0] if in_lanes else hidden[0]).numel()
            first = start + count // n_images * piece.start
            start += -(-(count // n_images * of) // 2) * 2
            if in_lanes:
                return lanes.drop(hidden, seeds, rates, number, start=first)
            mask = kept_by_dropout(seeds, rates, number, count, start=first).view(hidden.shape)
            return hidden * (mask * (1 / (1 - rates)).view(-1, *[1] * (hidden.dim() - 1)))

        return dropout


def _initial_buffers(network: Network, n_models: int, *, like: Tensor) -> dict[str, Tensor]:
    """Return the running statistics of untrained models, name -> (model, *shape)."""
    if network.own_module is not None and network.own_module.buffers:
        values = dict(network.own_module.build().named_buffers())
    else:
        values = {b.name: torch.full(b.shape, float(b.role == "running_var")) for b in network.buffer_layout.parameters}
    return {
        buffer.name: values[buffer.name].to(like).repeat(n_models, *[1] * len(buffer.shape))
        for buffer in network.buffer_layout.parameters
    }


def _dropped(values: Tensor, rate: float, seed: Tensor, start: int, *, step: int) -> Tensor:
    """Return the values (image, ...) of one model after dropout in a step, counted on from `start`."""
    rates = torch.full((1,), rate, dtype=torch.float64, device=seed.device)
    mask = kept_by_dropout(seed.view(1), rates, step, values.numel(), start=start)
    return values * (mask.view(values.shape).to(values.dtype) * (1 / (1 - rate)))
