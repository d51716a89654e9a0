"""Views of zoos for encoders: labelled ones to fit on, and weights alone to encode and predict from.

Neither leads back to the zoo, where an encoder could read the labels of the test models. The position of a row would
tell its epoch, so the order of rows to encode is drawn from the operating system's entropy each time. Both show their
rows also as tensors, symmetries and graphs, and run them; docs/views.md says what an encoder is told by that.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from zoo_bench.protocol.computing import Computing
from zoo_bench.protocol.targets import target_values
from zoo_gen.architecture.graphs import Graphs
from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.architecture.symmetry_group import SymmetryGroup
from zoo_gen.errors import ZooError, unknown_name
from zoo_gen.zoo import JointZoo, Zoo, ZooView

if TYPE_CHECKING:
    from torch import Tensor


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


class Networks(Protocol):
    """Rows of networks of one architecture, and how an encoder may look at them; what both views have in common."""

    weights: np.ndarray  # float32 (..., parameter)
    layout: ParameterLayout
    computing: Computing

    def tensors(self) -> dict[str, dict[str, np.ndarray]]:
        """Return the rows' tensors by layer and role, such as `["linear1"]["weight"]` (row, output, input).

        They are views of the flat weights; a row is a model at a checkpoint, models outermost.
        """
        return tensors_of(self)

    @property
    def symmetries(self) -> SymmetryGroup:
        """The changes of each row's weights after which it computes the same; see docs/views.md."""
        return self.computing.symmetries(self.layout, len(flat(self)))

    def graphs(self) -> Graphs:
        """Return the rows as graphs: nodes and edges that all share, and features of each.

        Raises:
            ZooError: the layers are not known, or have no form as a graph.
        """
        return self.computing.graphs(flat(self))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input of the rows' networks: (channel, height, width) or (feature,).

        Raises:
            ZooError: the rows cannot be run.
        """
        return self.computing.forward_pass.network.input_shape

    def forward(self, inputs: "Tensor", *, rows: np.ndarray | slice | None = None) -> "Tensor":
        """Return what every row's network computes, (row, input, output), differentiable in the inputs.

        Args:
            inputs: (input, *input_shape) for all rows, or (row, input, *input_shape).
            rows: which rows; all, if none are given.

        Raises:
            ZooError: the rows cannot be run, which a zoo of unknown layers or a benchmark that asks for the activation
                function says; or the inputs have another shape.
        """
        return self.computing.run(flat(self), inputs, rows)


@dataclass(frozen=True)
class TrainingView(Networks):
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
    computing: Computing = field(repr=False)
    _metrics: Mapping[str, np.ndarray] = field(repr=False)
    _hyperparameters: Mapping[str, np.ndarray] = field(repr=False)

    @classmethod
    def of(cls, view: ZooView, *, hide_activation: bool = False) -> Self:
        """Read everything that an encoder may learn from; nothing of other models stays reachable.

        Args:
            view: of a zoo.
            hide_activation: whether the activation function is what is asked for, so that rows cannot be run.
        """
        metrics = {name: view.metric(name) for name in view.zoo.metrics}
        columns = {name: view.hyperparameter(name) for name in ("model_id", *view.zoo.varying)}
        return cls(
            zoo=ZooFacts(view.zoo.name, tuple(metrics), _data_words(view), tuple(view.zoo.varying)),
            models=view.models.copy(),
            checkpoints=view.checkpoints.copy(),
            epochs=view.epochs.copy(),
            layout=view.layout,
            weights=view.weights,
            computing=Computing.of(view, hide_activation=hide_activation),
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
class WeightsView(Networks):
    """Weights to encode, a row a checkpoint in no order that means anything: neither model nor epoch can be told."""

    weights: np.ndarray  # float32 (row, 1, parameter), read-only
    layout: ParameterLayout
    computing: Computing = field(default=Computing(), repr=False)

    def part(self, rows: np.ndarray | slice) -> "WeightsView":
        """Return some of the rows, in the order given."""
        return WeightsView(self.weights[rows], self.layout, self.computing.part(rows))


@dataclass(frozen=True)
class HiddenRows:
    """Shuffled weights, of which the encoder is given `view` alone, and the order to sort its output by."""

    view: WeightsView
    order: np.ndarray  # int64 (row,): row i of the view is row order[i], models outermost

    @classmethod
    def of(cls, view: ZooView, *, hide_activation: bool = False) -> Self:
        """Return the rows of all checkpoints of a view of a zoo, in an order that is a new one at every call."""
        rows = view.weights.reshape(-1, 1, view.layout.size)
        order = random_order(len(rows))
        shuffled = rows[order]
        shuffled.flags.writeable = False
        computing = Computing.of(view, hide_activation=hide_activation).part(order)
        return cls(WeightsView(shuffled, view.layout, computing), order)

    def in_order(self, encoded: np.ndarray) -> np.ndarray:
        """Return an encoder's output for the rows (row, ...), sorted: models outermost."""
        ordered = np.empty_like(encoded)
        ordered[self.order] = encoded
        return ordered


def flat(view: Weighted) -> np.ndarray:
    """Return a view's weights (row, parameter), a row a model at a checkpoint, models outermost."""
    return view.weights.reshape(-1, view.weights.shape[2])


def tensors_of(view: Weighted) -> dict[str, dict[str, np.ndarray]]:
    """Return a view's tensors by layer and role, (row, *shape), which share its memory."""
    tensors: dict[str, dict[str, np.ndarray]] = {layer: {} for layer in view.layout.layers}
    arrays = view.layout.split(flat(view))
    for parameter in view.layout.parameters:
        tensors[parameter.layer][parameter.role] = arrays[parameter.name]
    return tensors


def random_order(count: int) -> np.ndarray:
    """Return a permutation (count,) that no process can draw again: from the operating system's entropy."""
    return np.random.default_rng(secrets.randbits(128)).permutation(count)


def _data_words(view: ZooView) -> str:
    """Return the words by which a zoo's manifest names its images; none where a published zoo does not say."""
    sources = view.zoo.sources if isinstance(view.zoo, Zoo | JointZoo) else ()
    words = [value for source in sources for value in source.model_dump().values() if isinstance(value, str)]
    return " ".join(dict.fromkeys(words))
