"""Views of zoos for encoders: labelled ones to fit on, and weights alone to encode and predict from.

Neither leads back to the zoo, where an encoder could read the labels of the test models. The position of a row would
tell its epoch, so the order of rows to encode is drawn from the operating system's entropy each time.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np

from zoo_bench.protocol.targets import target_values
from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.errors import ZooError, unknown_name
from zoo_gen.zoo import JointZoo, Zoo, ZooView


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
    """Name and metrics of the zoo of a training view, the images it was trained on, and which columns vary in it."""

    name: str
    metrics: tuple[str, ...]
    data: str = ""  # the words by which its manifest names the images, such as "torchvision FashionMNIST"
    varying: tuple[str, ...] = ()


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
            zoo=ZooFacts(view.zoo.name, tuple(metrics), _data_words(view), tuple(view.zoo.varying)),
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
    """Shuffled weights, of which the encoder is given `view` alone, and the order to sort its output by."""

    view: WeightsView
    order: np.ndarray  # int64 (row,): row i of the view is row order[i], models outermost

    @classmethod
    def of(cls, view: ZooView) -> Self:
        """Return the rows of all checkpoints of a view of a zoo, in an order that is a new one at every call."""
        rows = view.weights.reshape(-1, 1, view.layout.size)
        order = random_order(len(rows))
        shuffled = rows[order]
        shuffled.flags.writeable = False
        return cls(WeightsView(shuffled, view.layout), order)

    def in_order(self, found: np.ndarray) -> np.ndarray:
        """Return an encoder's output for the rows (row, ...), sorted: models outermost."""
        ordered = np.empty_like(found)
        ordered[self.order] = found
        return ordered


def random_order(count: int) -> np.ndarray:
    """Return a permutation (count,) that no process can draw again: from the operating system's entropy."""
    return np.random.default_rng(secrets.randbits(128)).permutation(count)


def _data_words(view: ZooView) -> str:
    """Return the words by which a zoo's manifest names its images; none where a published zoo does not say."""
    sources = view.zoo.sources if isinstance(view.zoo, Zoo | JointZoo) else ()
    words = [value for source in sources for value in source.model_dump().values() if isinstance(value, str)]
    return " ".join(dict.fromkeys(words))
