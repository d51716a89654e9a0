"""Population: models that start together, step together and are measured together, as one stacked computation.

An `Arithmetic` computes: torch's own operations, or our kernels on a GPU. Results are in the order of the table of
models.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa
import torch
from torch import Tensor

from zoo_gen.architecture.network import Network
from zoo_gen.architecture.own_module import resolve_as_of
from zoo_gen.errors import ZooError
from zoo_gen.population.columns import column, members, numbers
from zoo_gen.population.eager import Eager
from zoo_gen.population.gpu import served
from zoo_gen.population.gpu.updates import unserved
from zoo_gen.population.initialization import initial_weights
from zoo_gen.population.tasks import Task


@dataclass(frozen=True)
class TrainingSettings:
    """How all models of a zoo are trained, whatever their hyper-parameters."""

    epochs: int  # how often each model sees its training images
    n_evaluated: int | None = None  # training images that the models are measured on, the first ones; None: all
    drop_last: bool = False  # whether the last batch of an epoch is left out where it is short
    stop_loss: float | None = None  # a model whose mean loss over an epoch is this or less keeps its weights
    dtype: torch.dtype = torch.float32  # of weights and arithmetic
    device: str = "cpu"
    kernels: str | None = None  # the precision of products in our own kernels; None: torch's own operations
    forms: Mapping[str, str] = field(default_factory=dict)  # of convolutions on a CPU, name -> form; see `forms`
    # The user's own losses, optimisers and schedules: reference -> SHA-256 of its source.
    functions: Mapping[str, str] = field(default_factory=dict)


class Arithmetic(Protocol):
    """Computes the steps of a population, in the inner order of its models."""

    weights: Tensor  # (model, parameter), now

    def train_epoch(self, epoch: int) -> tuple[Tensor, Tensor | None]:
        """Show every model all training images once, each in its own order for that epoch (from 1 on).

        Returns:
            Mean loss and, if there are classes, accuracy (model,) as it went: in training mode, before each step.
        """

    def freeze(self, models: Tensor) -> None:
        """Let some models, bool (model,), keep their weights from now on."""

    def evaluate(self, part: str) -> dict[str, Tensor]:
        """Measure every model in evaluation mode on a part of the data; name -> (model, ...)."""

    def state(self) -> dict[str, Tensor]:
        """Return what training changes, name -> tensor; all else follows from the number of the epoch."""

    def restore(self, state: Mapping[str, Tensor], *, epochs: int) -> None:
        """Go on from the state after so many epochs.

        Raises:
            ValueError: it is of another training.
        """


class Population:
    """Models of one architecture and batch size that learn one task.

    Args:
        network: of every model.
        models: a table with a row a model and the hyper-parameters as columns.
        settings: what is the same for all of them.
        make_task: gives the task for the models of a table, in that table's order.
        weights: initial weights (model, parameter); drawn from the models' seeds if not given.
    """

    def __init__(
        self,
        network: Network,
        models: pa.Table,
        settings: TrainingSettings,
        *,
        make_task: Callable[[pa.Table], Task],
        weights: Tensor | None = None,
    ) -> None:
        dtype, device = settings.dtype, settings.device
        functions = {each: resolve_as_of(each, sha256, what="function") for each, sha256 in settings.functions.items()}
        inner, order = members(models, functions=functions, dtype=dtype, device=device)
        self._places = inner.places
        self.task = make_task(inner.table)
        (self.batch_size,) = set(column(models, "batch_size"))
        if weights is None:
            weights = initial_weights(
                network.layout,
                inner.seeds.cpu(),
                column(inner.table, "initialization"),
                deviations=numbers(inner.table, "initialization_deviation", default=1.0, dtype=dtype),
                scales=numbers(inner.table, "initialization_scale", default=1.0, dtype=dtype),
                biases=numbers(inner.table, "initial_bias", dtype=dtype),
                network=network,
                dtype=dtype,
            )
        else:
            weights = weights[order].to(dtype)
        weights = weights.to(device).contiguous()
        whole, rest = divmod(self.task.n_train, self.batch_size)
        steps = [self.batch_size] * whole
        if rest and not (settings.drop_last and whole):
            steps.append(rest)
        self._arithmetic: Arithmetic
        if settings.kernels is None:
            self._arithmetic = Eager(
                network, inner, self.task, weights, steps=steps, n_epochs=settings.epochs, forms=settings.forms
            )
        elif (
            name := unserved(
                lambda name: column(models, name), crops=served.reads_crops(network.layers, network.input_shape)
            )
        ) is not None:
            raise ZooError(f"{name}: our kernels do not know it; expected torch's own operations, kernels=None")
        else:
            from zoo_gen.population.gpu.resident.choice import resident

            arguments, precision, n_epochs = (network, inner, self.task, weights), settings.kernels, settings.epochs
            arithmetic: Arithmetic | None = resident(
                *arguments, batch_size=self.batch_size, steps=steps, n_epochs=n_epochs, precision=precision
            )
            if arithmetic is None:
                from zoo_gen.population.gpu.device import Device  # needs Triton

                arithmetic = Device(*arguments, steps=steps, n_epochs=n_epochs, precision=precision)
            self._arithmetic = arithmetic
        self.steps_per_epoch = len(steps)
        self._stop_loss = settings.stop_loss
        self._loss = torch.full((len(models),), torch.nan, dtype=dtype, device=device)
        self._accuracy = torch.full_like(self._loss, torch.nan)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def weights(self) -> Tensor:
        """A copy of the weights now (model, parameter), in the order of the table."""
        return self._arithmetic.weights[self._places]

    @property
    def buffers(self) -> Tensor | None:
        """A copy of the running statistics now (model, buffer), in the order of the table; None without any."""
        buffers = self._arithmetic.buffers if isinstance(self._arithmetic, Eager) else None
        return None if buffers is None else buffers[self._places]

    def running(self) -> dict[str, Tensor]:
        """Return loss and accuracy (model,) over the last epoch as it went: in training mode, before each step.

        They are in the order of the table, and NaN before the first epoch. There is no accuracy without classes.
        """
        metrics = {"running_loss": self._loss[self._places]}
        if "accuracy" in self.task.names:
            metrics["running_accuracy"] = self._accuracy[self._places]
        return metrics

    def train_epoch(self, epoch: int) -> None:
        """Show every model all training images once, each in its own order for that epoch (from 1 on)."""
        self._loss, accuracy = self._arithmetic.train_epoch(epoch)
        if accuracy is not None:
            self._accuracy = accuracy
        if self._stop_loss is not None:
            self._arithmetic.freeze(self._loss <= self._stop_loss)

    def state(self) -> dict[str, Tensor]:
        """Return what the epochs until now have changed, name -> tensor: weights, and all that an optimiser keeps."""
        return self._arithmetic.state()

    def restore(self, state: Mapping[str, Tensor], *, epochs: int) -> None:
        """Go on from the state of these models after so many epochs, to the same bits.

        Loss and accuracy of the last epoch are not part of it.

        Raises:
            ValueError: it is of another training.
        """
        self._arithmetic.restore({name: values.to(self._loss.device) for name, values in state.items()}, epochs=epochs)

    def evaluate(self, part: str) -> dict[str, Tensor]:
        """Measure every model in evaluation mode on a part of the data; (model, ...) in the order of the table."""
        return {name: values[self._places] for name, values in self._arithmetic.evaluate(part).items()}
