"""Views of zoos for encoders: labelled ones to fit on, and weights alone to encode and predict from.

Neither leads back to the zoo, where an encoder could read the labels of the test models. The position of a row would
tell its epoch, so the order of rows to encode is drawn from the operating system's entropy each time.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import numpy as np

from zoo_bench.protocol.targets import target_values
from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.errors import ZooError, unknown_name
from zoo_gen.zoo import ZooView


class Weighted(Protocol):
    """Anything with weights and their layout."""

    @property
    def weights(self) -> np.ndarray:
        """The weights, float32 (model, checkpoint, parameter)."""

    @property
    def layout(self) -> ParameterLayout:
        """Where each parameter lies in the weights."""


@dataclass(frozen=True)
class ZooFacts:
    """Name and metrics of the zoo of a training view."""

    name: str
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class TrainingView:
    """Models of the training or validation part, with their labels; all arrays are read-only.

    Labels are those of its own checkpoints. Of the table of models it has the hyper-parameters and `model_id` alone:
    everything else there follows from training to the last epoch, which may be one that is not to be seen.
    """

    zoo: ZooFacts
    models: np.ndarray  # int64 (model,) model_ids
    checkpoints: np.ndarray  # int64 (checkpoint,) positions among the zoo's checkpoints
    epochs: np.ndarray  # int32 (checkpoint,)
    layout: ParameterLayout
    weights: np.ndarray  # float32 (model, checkpoint, parameter)
    _metrics: Mapping[str, np.ndarray] = field(repr=False)
    _hyperparameters: Mapping[str, np.ndarray] = field(repr=False)

    @classmethod
    def of(cls, view: ZooView) -> Self:
        """Read everything that an encoder may learn from; nothing of other models stays reachable."""
        metrics = {name: view.metric(name) for name in view.zoo.metrics}
        columns = {name: view.hyperparameter(name) for name in ("model_id", *view.zoo.varying)}
        return cls(
            zoo=ZooFacts(view.zoo.name, tuple(metrics)),
            models=view.models.copy(),
            checkpoints=view.checkpoints.copy(),
            epochs=view.epochs.copy(),
            layout=view.layout,
            weights=view.weights,
            _metrics=metrics,
            _hyperparameters=columns,
        )

    def target(self, name: str) -> np.ndarray:
        """Return a target of a benchmark (model, checkpoint): float64, NaN where the label is missing; or str.

        Raises:
            ZooError: the zoo has no such target.
        """
        return target_values(self, name)

    def metric(self, name: str) -> np.ndarray:
        """Return a metric, float32 (model, checkpoint), or (model, checkpoint, class) for test_class_f1.

        Raises:
            ZooError: the zoo has no metric of that name.
        """
        if name == "generalization_gap":
            return self.metric("train_accuracy") - self.metric("test_accuracy")
        if name not in self._metrics:
            raise ZooError(f"{self.zoo.name}: {unknown_name('metric', name, self._metrics)}")
        return self._metrics[name]

    def hyperparameter(self, name: str) -> np.ndarray:
        """Return a hyper-parameter of each model (model,).

        Raises:
            ZooError: the table has no such column.
        """
        if name not in self._hyperparameters:
            raise ZooError(unknown_name("column", name, self._hyperparameters))
        return self._hyperparameters[name]


@dataclass(frozen=True)
class WeightsView:
    """Weights to encode, a row a checkpoint in no order that means anything: neither model nor epoch can be told."""

    weights: np.ndarray  # float32 (row, 1, parameter), read-only
    layout: ParameterLayout


@dataclass(frozen=True)
class HiddenRows:
    """Shuffled weights of one architecture, of which the encoder is given `view` alone, and where each row belongs."""

    view: WeightsView
    order: np.ndarray  # int64 (row,): row i of the view is row order[i] of the whole, models outermost

    @classmethod
    def of(cls, view: ZooView) -> list[Self]:
        """Return the rows of all checkpoints of a view, an entry an architecture, in an order that is new each time."""
        count = len(view.checkpoints)
        hidden = []
        for part, models in architectures(view):
            rows = part.weights.reshape(-1, 1, part.layout.size)
            numbers = (models[:, None] * count + np.arange(count)).reshape(-1)
            order = random_order(len(rows))
            hidden.append(cls(WeightsView(_read_only(rows[order]), part.layout), numbers[order]))
        return hidden


def training_views(view: ZooView) -> list[TrainingView]:
    """Return what an encoder may learn from in a view, one TrainingView an architecture."""
    return [TrainingView.of(part) for part, _ in architectures(view)]


def architectures(view: ZooView) -> list[tuple[ZooView, np.ndarray]]:
    """Return the parts of a view that have one architecture each, and the places of their models in it (model,)."""
    if "architecture" not in view.zoo.models.column_names:
        return [(view, np.arange(len(view.models)))]
    names = view.hyperparameter("architecture")
    every = [np.flatnonzero(names == name) for name in dict.fromkeys(names.tolist())]
    if len(every) == 1:
        return [(view, every[0])]
    return [(replace(view, models=view.models[places], rows=view.rows[places]), places) for places in every]


def in_order(hidden: Sequence[HiddenRows], outputs: Sequence[np.ndarray]) -> np.ndarray:
    """Return an encoder's outputs for hidden rows, (row, ...) each, as one array: models outermost."""
    shape = (sum(map(len, outputs)), *outputs[0].shape[1:])
    ordered = np.empty(shape, np.result_type(*outputs))
    for rows, values in zip(hidden, outputs, strict=True):
        ordered[rows.order] = values
    return ordered


def random_order(count: int) -> np.ndarray:
    """Return a permutation (count,) that no process can draw again: from the operating system's entropy."""
    return np.random.default_rng(secrets.randbits(128)).permutation(count)


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
