"""ZooView: some models and checkpoints of a zoo, whose arrays are read on first use."""

# ruff: noqa: D102, as `Arrays` says what each answer of a `Readable` means

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa

from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.errors import ZooError, unknown_name


class Viewed(Protocol):
    """What a view asks of its zoo."""

    name: str
    epochs: np.ndarray

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of what was measured."""

    @property
    def varying(self) -> tuple[str, ...]:
        """The hyper-parameters that vary."""

    @property
    def models(self) -> pa.Table:
        """The table of models."""

    def metric(self, name: str) -> object:
        """Return a metric, or say that there is none of that name."""


class Readable(Protocol):
    """The arrays of a zoo, or of several; see `Arrays`, which says what each answer means."""

    @property
    def layout(self) -> ParameterLayout | None: ...
    def layout_of(self, models: pa.Table) -> ParameterLayout: ...
    def weights(self, models: pa.Table, checkpoints: np.ndarray) -> np.ndarray: ...
    def read(self, name: str, models: np.ndarray, checkpoints: np.ndarray) -> np.ndarray: ...
    def read_chunks(self, name: str, models: np.ndarray, checkpoints: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class ZooView:
    """Some models and checkpoints of a zoo. Arrays are read on first use and keep the order of `models`."""

    zoo: Viewed
    models: np.ndarray  # int64 (model,) model_ids
    rows: np.ndarray  # int64 (model,) their rows in the table
    checkpoints: np.ndarray  # int64 (checkpoint,) positions among the zoo's checkpoints
    arrays: Readable = field(repr=False)

    @property
    def epochs(self) -> np.ndarray:
        """The epoch of each checkpoint, int32 (checkpoint,)."""
        return self.zoo.epochs[self.checkpoints]

    @property
    def layout(self) -> ParameterLayout:
        """Where each parameter lies in the weights.

        Raises:
            ZooError: the models differ in architecture.
        """
        return self.arrays.layout_of(self._models)

    @cached_property
    def weights(self) -> np.ndarray:
        """The weights, float32 (model, checkpoint, parameter); NaN where a published model has no such checkpoint.

        Raises:
            ZooError: the models differ in architecture.
        """
        return _read_only(self.arrays.weights(self._models, self.checkpoints))

    def metric(self, name: str) -> np.ndarray:
        """Return a metric, float32 (model, checkpoint), or (model, checkpoint, class) for test_class_f1.

        `generalization_gap` is train_accuracy - test_accuracy.

        Raises:
            ZooError: the zoo has no metric of that name.
        """
        if name == "generalization_gap":
            return self.metric("train_accuracy") - self.metric("test_accuracy")
        self.zoo.metric(name)
        return _read_only(self.arrays.read(name, self.models, self.checkpoints))

    def hyperparameter(self, name: str) -> np.ndarray:
        """Return a hyper-parameter of each model (model,).

        Raises:
            ZooError: the table has no such column.
        """
        if name not in self.zoo.models.column_names:
            raise ZooError(unknown_name("column", name, self.zoo.models.column_names))
        return self.zoo.models[name].to_numpy(zero_copy_only=False)[self.rows]

    @property
    def _models(self) -> pa.Table:
        return self.zoo.models.take(self.rows)


def _read_only(values: np.ndarray) -> np.ndarray:
    values.flags.writeable = False  # views are shared: one encoder that works in place would spoil the next one's
    return values
