"""Training one shard: its models start together, step together and are measured together.

Inside, models that share an optimiser and an activation lie next to each other, so that each runs once over a slice;
what comes out is in the order of the table that went in.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional

from zoo_gen.architectures import Architecture, layers, parameter_layout
from zoo_gen.image_data import ImageData
from zoo_gen.population.initialization import initial_weights
from zoo_gen.population.layers import forward
from zoo_gen.population.metrics import Metrics, evaluate
from zoo_gen.population.optimizers import SGD, Adam, Optimizer
from zoo_gen.population.random import data_order


@dataclass(frozen=True)
class Trajectories:
    """What training a shard leaves: weights and metrics of every model at every checkpoint, on the host."""

    weights: np.ndarray  # (model, checkpoint, parameter)
    train_loss: np.ndarray  # (model, checkpoint)
    train_accuracy: np.ndarray  # (model, checkpoint)
    test_loss: np.ndarray  # (model, checkpoint)
    test_accuracy: np.ndarray  # (model, checkpoint)
    test_class_f1: np.ndarray  # (model, checkpoint, class)
    diverged: np.ndarray  # bool (model,)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that the store keeps, name -> (model, checkpoint, ...)."""
        return {name: array for name, array in vars(self).items() if name != "diverged"}


class Population:
    """Models of one architecture that share images and batch size, trained as one.

    Args:
        architecture: of every model.
        data: the images.
        models: a table with a row a model and the hyper-parameters as columns.
        batch_size: images a step; the last step of an epoch takes the rest.
        dtype: of weights and arithmetic.
        device: where they live.
        weights: initial weights (model, parameter); drawn from the models' seeds if not given.
    """

    def __init__(
        self,
        architecture: Architecture,
        data: ImageData,
        models: pa.Table,
        *,
        batch_size: int,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        weights: Tensor | None = None,
    ) -> None:
        columns = {name: models[name].to_pylist() for name in models.column_names}
        kinds = list(zip(columns["optimizer"], columns["activation"], strict=True))
        order = sorted(range(len(kinds)), key=kinds.__getitem__)  # stable: equal kinds keep their order
        self._places = torch.tensor(np.argsort(order), device=device)  # where each model of the table lies inside
        kinds = [kinds[model] for model in order]
        columns = {name: [values[model] for model in order] for name, values in columns.items()}
        self.seeds = np.array(columns["seed"], dtype=np.int64)
        self.batch_size = batch_size
        self._layers = layers(architecture)
        self._activations = [(kind[1], models) for kind, models in _runs(kinds)]
        self._train_images, self._train_labels = data.tensors("train", dtype=dtype, device=device)
        self._test_images, self._test_labels = data.tensors("test", dtype=dtype, device=device)
        self._n_classes = data.n_classes

        layout = parameter_layout(architecture)
        if weights is None:
            start = initial_weights(layout, self.seeds, columns["initialization"], dtype=dtype)
        else:
            start = weights[order].to(dtype)
        self._weights = start.to(device).contiguous()  # (model, parameter), in the inner order
        # Each parameter is a leaf of the gradient's graph and a view of the flat weights that the optimiser updates.
        self._parameters = {
            p.name: self._weights[:, p.start : p.stop].view(-1, *p.shape).detach().requires_grad_()
            for p in layout.parameters
        }

        def column(name: str, rows: slice) -> Tensor:
            return torch.tensor(columns[name][rows], dtype=dtype, device=device).unsqueeze(1)

        self._optimizers: list[tuple[slice, Optimizer]] = []
        for name, rows in _runs([kind[0] for kind in kinds]):
            like, rate, decay = self._weights[rows], column("learning_rate", rows), column("weight_decay", rows)
            optimizer: Optimizer
            if name == "adam":
                optimizer = Adam(like, learning_rate=rate, weight_decay=decay)
            else:
                optimizer = SGD(like, learning_rate=rate, momentum=column("momentum", rows), weight_decay=decay)
            self._optimizers.append((rows, optimizer))

    @property
    def weights(self) -> Tensor:
        """A copy of the weights now (model, parameter), in the order of the table."""
        return self._weights[self._places]

    def train_epoch(self, epoch: int) -> None:
        """Show every model all training images once, each in its own order for that epoch (from 1 on)."""
        for images in self.batches(epoch):
            self.step(images)

    def batches(self, epoch: int) -> Iterator[Tensor]:
        """Yield the numbers of the training images of each step of an epoch (model, image), in the inner order."""
        order = torch.from_numpy(data_order(self.seeds, epoch, len(self._train_labels)))
        yield from order.to(self._train_labels.device).split(self.batch_size, dim=1)

    def step(self, images: Tensor) -> None:
        """Take one step of every model on the training images with these numbers (model, image)."""
        inputs = self._train_images.index_select(0, images.flatten()).unflatten(0, images.shape)
        labels = self._train_labels[images]
        logits = forward(self._layers, self._parameters, self._activations, inputs)
        # The sum over models keeps their gradients apart; each model's loss is the mean over its own images.
        loss = functional.cross_entropy(logits, labels, reduction="sum") / images.shape[1]
        gradients = torch.autograd.grad(loss, list(self._parameters.values()))
        gradient = torch.cat([part.flatten(1) for part in gradients], dim=1)
        with torch.no_grad():
            for models, optimizer in self._optimizers:
                optimizer.step(self._weights[models], gradient[models])

    def evaluate(self) -> tuple[Metrics, Metrics]:
        """Measure every model in evaluation mode on all training and on all test images, in the order of the table."""
        train = evaluate(self._logits, self._train_images, self._train_labels, n_classes=self._n_classes)
        test = evaluate(self._logits, self._test_images, self._test_labels, n_classes=self._n_classes)
        return train.reordered(self._places), test.reordered(self._places)

    def _logits(self, images: Tensor) -> Tensor:
        shared = images.expand(len(self._weights), *images.shape)
        return forward(self._layers, self._parameters, self._activations, shared)


def train(
    architecture: Architecture,
    data: ImageData,
    models: pa.Table,
    *,
    epochs: int,
    batch_size: int,
    checkpoint_epochs: Sequence[int],
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    weights: Tensor | None = None,
) -> Trajectories:
    """Train all models of the table together and keep weights and metrics at the given epochs (0 is before training).

    A model whose weights or training loss stop being finite is diverged: all it has is NaN from the first such
    checkpoint on, and the others go on unharmed. Arguments are those of `Population`.
    """
    population = Population(
        architecture, data, models, batch_size=batch_size, dtype=dtype, device=device, weights=weights
    )
    kept: list[dict[str, np.ndarray]] = []
    diverged = np.zeros(len(models), dtype=bool)
    for epoch in range(epochs + 1):
        if epoch > 0:
            population.train_epoch(epoch)
        if epoch in checkpoint_epochs:
            state = _state(population)
            diverged |= ~(np.isfinite(state["weights"]).all(axis=1) & np.isfinite(state["train_loss"]))
            for values in state.values():
                values[diverged] = np.nan
            kept.append(state)
    return Trajectories(diverged=diverged, **{name: np.stack([s[name] for s in kept], axis=1) for name in kept[0]})


@contextmanager
def single_threaded() -> Iterator[None]:
    """Use one thread of torch inside: a worker fills one core, and its sums do not depend on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _state(population: Population) -> dict[str, np.ndarray]:
    """Return what a checkpoint keeps, on the host."""
    train_metrics, test_metrics = population.evaluate()
    state = {
        "weights": population.weights,
        "train_loss": train_metrics.loss,
        "train_accuracy": train_metrics.accuracy,
        "test_loss": test_metrics.loss,
        "test_accuracy": test_metrics.accuracy,
        "test_class_f1": test_metrics.class_f1,
    }
    return {name: tensor.cpu().numpy() for name, tensor in state.items()}


def _runs(keys: Sequence) -> list[tuple]:
    """Return (key, slice) for each run of equal neighbours."""
    runs, start = [], 0
    for key, members in groupby(keys):
        stop = start + sum(1 for _ in members)
        runs.append((key, slice(start, stop)))
        start = stop
    return runs
