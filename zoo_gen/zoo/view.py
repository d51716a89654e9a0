"""ZooView: some models and checkpoints of a zoo, whose arrays are read on first use.

It may show, in place of the models' weights, others that compute the same function.
"""

# ruff: noqa: D102, as `Zoo` and `Arrays` say what each answer of a `Viewed` and a `Readable` means

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.architecture.network import Network
from zoo_gen.errors import ZooError, check_list, shown, unknown_name
from zoo_gen.zoo.equivalent import Equivalent
from zoo_gen.zoo.forward import ForwardPass

if TYPE_CHECKING:
    from torch import Tensor


class Viewed(Protocol):
    """What a view asks of its zoo; see `Zoo`, which says what each answer means."""

    name: str
    epochs: np.ndarray

    @property
    def metrics(self) -> tuple[str, ...]: ...
    @property
    def varying(self) -> tuple[str, ...]: ...
    @property
    def models(self) -> pa.Table: ...
    def metric(self, name: str) -> object: ...


def checkpoint(zoo: Viewed, epoch: int) -> int:
    """Return the position of an epoch among the checkpoints of a zoo, which must have it."""
    positions = np.flatnonzero(zoo.epochs == (epoch if isinstance(epoch, Real) else np.nan))  # which no epoch equals
    if not len(positions):
        first = ", ".join(map(str, zoo.epochs[:12])) + (", ..." if len(zoo.epochs) > 12 else "")
        raise ZooError(f"{zoo.name}: no checkpoint of epoch {shown(epoch)}; kept are {first}, last {zoo.epochs[-1]}")
    return int(positions[0])


def checkpoints(zoo: Viewed, epochs: Sequence[int] | None) -> np.ndarray:
    """Return the positions of epochs among the checkpoints of a zoo, of all if none are given: int64 (checkpoint,).

    Raises:
        ZooError: they are no list, there are none, or one was not kept.
    """
    if epochs is None:
        return np.arange(len(zoo.epochs))
    check_list("epochs", epochs, of="their numbers")
    positions = np.array([checkpoint(zoo, epoch) for epoch in epochs], dtype=np.int64)
    if not len(positions):
        raise ZooError(f"{zoo.name}: got no epochs; expected one or more")
    return positions


class Readable(Protocol):
    """The arrays of a zoo, or of several; see `Arrays`, which says what each answer means."""

    @property
    def layout(self) -> ParameterLayout | None: ...
    def layout_of(self, models: pa.Table) -> ParameterLayout: ...
    def weights(self, models: pa.Table, checkpoints: np.ndarray) -> np.ndarray: ...
    def read(self, name: str, models: np.ndarray, checkpoints: np.ndarray) -> np.ndarray: ...
    def read_chunks(self, name: str, models: np.ndarray, checkpoints: np.ndarray) -> np.ndarray: ...
    def architecture_of(self, row: Mapping[str, Any]) -> Network | None: ...
    def network_of(self, row: Mapping[str, Any]) -> Network: ...


@dataclass(frozen=True)
class ZooView:
    """Some models and checkpoints of a zoo. Arrays are read on first use and keep the order of `models`."""

    zoo: Viewed
    models: np.ndarray  # int64 (model,) model_ids
    rows: np.ndarray  # int64 (model,) their rows in the table
    checkpoints: np.ndarray  # int64 (checkpoint,) positions among the zoo's checkpoints
    arrays: Readable = field(repr=False)
    equivalent: Equivalent | None = None  # what is shown in place of the models' own weights

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
        stored = self.arrays.layout_of(self._models)
        if self.equivalent is None or not self.equivalent.splits:
            return stored
        return self.forward_pass.network.layout

    @cached_property
    def weights(self) -> np.ndarray:
        """The weights, float32 (model, checkpoint, parameter); NaN where a published model has no such checkpoint.

        Raises:
            ZooError: the models differ in architecture.
        """
        stored = self.arrays.weights(self._models, self.checkpoints)
        if self.equivalent is None:
            return _read_only(stored)
        layout = self.arrays.layout_of(self._models)
        forward = self._own_forward_pass if self._is_known else None
        return _read_only(self.equivalent.weights(stored, self.models, layout=layout, forward=forward))

    def tensor(self) -> "Tensor":
        """Return a copy of `weights` that may be written to, a torch tensor (model, checkpoint, parameter), float32.

        Raises:
            ZooError: the models differ in architecture.

        >>> import zoo_gen
        >>> zoo_gen.open_zoo("zoos/tiny").view([0, 1]).tensor().mul_(2).shape
        torch.Size([2, 5, 100])
        """
        import torch

        return torch.from_numpy(self.weights.copy())

    @property
    def forward_pass(self) -> ForwardPass:
        """What the models compute, one after the other.

        Raises:
            ZooError: the models differ in architecture, or how they compute is not known.
        """
        forward = self._own_forward_pass
        return (
            forward if self.equivalent is None else replace(forward, network=self.equivalent.network(forward.network))
        )

    @cached_property
    def _own_forward_pass(self) -> ForwardPass:
        table = self._models
        functions = table["activation"].to_pylist() if "activation" in table.column_names else [None] * len(table)
        if not functions:
            raise ZooError(f"{self.zoo.name}: a view of no models computes nothing; expected some")
        self.arrays.layout_of(table)  # of models of one architecture
        for function in dict.fromkeys(functions):
            network = self.arrays.network_of({**self._architecture, "activation": function})
        return ForwardPass.of(network, functions)

    @property
    def network(self) -> Network | None:
        """The architecture of the models; None where its layers are not known, or there are no models.

        Raises:
            ZooError: the models differ in architecture.
        """
        self.arrays.layout_of(self._models)
        network = self.arrays.architecture_of(self._architecture) if len(self.models) else None
        return network if network is None or self.equivalent is None else self.equivalent.network(network)

    @property
    def _is_known(self) -> bool:
        """Whether the models can be run."""
        try:
            return bool(self._own_forward_pass)
        except ZooError:
            return False

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
    def _architecture(self) -> dict[str, str]:
        """What the table says of the architecture of the first model."""
        names = [name for name in ("architecture",) if name in self._models.column_names]
        return {name: self._models[name][0].as_py() for name in names}

    @property
    def _models(self) -> pa.Table:
        return self.zoo.models.take(self.rows)


def _read_only(values: np.ndarray) -> np.ndarray:
    values.flags.writeable = False  # views are shared: one encoder that works in place would spoil the next one's
    return values
