"""The arrays of several zoos read as one: each value comes from the zoo that has it, and what none has is NaN."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from zoo_gen.architecture.layers import Layer
from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.architecture.network import Network
from zoo_gen.errors import ZooError
from zoo_gen.zoo.table import model_number
from zoo_gen.zoo.zoo import Zoo


class JointArrays:
    """The arrays of zoos.

    Args:
        zoos: the zoos.
        starts: int (zoo + 1,), the number of the first model of each, and how many there are.
        epochs: int32 (checkpoint,), of all of them.
    """

    def __init__(self, zoos: Sequence[Zoo], starts: np.ndarray, epochs: np.ndarray) -> None:
        self._zoos, self._starts, self._epochs = zoos, starts, epochs
        self.shape = (int(starts[-1]), len(epochs))  # (model, checkpoint)

    @cached_property
    def _kinds(self) -> tuple["_Kind", ...]:
        """All architectures, each once, in the order of the zoos."""
        distinct: list[_Kind] = []
        for zoo in self._zoos:
            for kind in _kinds_of(zoo).values():
                if not any(map(kind.is_like, distinct)):
                    distinct.append(kind)
        return tuple(distinct)

    def _number(self, kind: "_Kind") -> int:
        return next(number for number, other in enumerate(self._kinds) if kind.is_like(other))

    @property
    def layouts(self) -> tuple[ParameterLayout, ...]:
        """The layouts of all architectures, in the order of the zoos."""
        return tuple(kind.layout for kind in self._kinds)

    @property
    def layout(self) -> ParameterLayout | None:
        """Where each parameter lies in the weights; None where models differ in architecture."""
        return self.layouts[0] if len(self.layouts) == 1 else None

    def architectures(self, number: int) -> list[str]:
        """Return what names the architecture of each model of a zoo: the same word for the same one."""
        zoo = self._zoos[number]
        names = {name: str(self._number(kind)) for name, kind in _kinds_of(zoo).items()}
        architectures = zoo.models["architecture"].to_pylist() if zoo.ragged else [""] * len(zoo.models)
        return [names[name] for name in architectures]

    def layout_of(self, models: pa.Table) -> ParameterLayout:
        """Return the layout of the models in some rows of the table.

        Raises:
            ZooError: they differ in architecture.
        """
        if self.layout is not None:
            return self.layout
        names = models["architecture"].unique().to_pylist()
        if len(names) != 1:
            raise ZooError(f"these models have {len(names)} architectures; expected a view of models of one")
        return self.layouts[int(names[0])]

    def architecture_of(self, row: Mapping[str, Any]) -> Network | None:
        """Return the network of a model, by its row of the table; None where its layers are not known."""
        zoo, row_there = self._zoo_of(row)
        return zoo.arrays.architecture_of(row_there)

    def network_of(self, row: Mapping[str, Any]) -> Network:
        """Return the same; see `Arrays.network_of`.

        Raises:
            ZooError: its layers, or the activation that they need, are not known.
        """
        zoo, row_there = self._zoo_of(row)
        return zoo.arrays.network_of({**row_there, "activation": row.get("activation")})

    def _zoo_of(self, row: Mapping[str, Any]) -> tuple[Zoo, dict[str, Any]]:
        """Return a zoo that has models of the architecture of a row, and a row of its own table."""
        architecture = self._kinds[int(row.get("architecture", 0))]
        for zoo in self._zoos:
            for name, kind in _kinds_of(zoo).items():
                if kind.is_like(architecture):
                    return zoo, {"architecture": name} if zoo.ragged else {}
        raise AssertionError("every architecture is of one of the zoos")

    def weights(self, models: pa.Table, checkpoints: np.ndarray) -> np.ndarray:
        """Return the weights (model, checkpoint, parameter) of models of one architecture; see `Arrays.weights`."""
        shape = (self.layout_of(models).size,)
        ids = models["model_id"].to_numpy()
        return self._gathered(ids, checkpoints, shape, lambda zoo, numbers, epochs: zoo.view(numbers, epochs).weights)

    def read(self, name: str, models: np.ndarray, checkpoints: np.ndarray) -> np.ndarray:
        """Return values (model, checkpoint, ...) of some models and checkpoint positions, in the order given."""
        shape = (self.layouts[0].size,) if name == "weights" else self._zoos[0].metric(name).shape[2:]

        def values(zoo: Zoo, numbers: np.ndarray, epochs: list[int]) -> np.ndarray:
            view = zoo.view(numbers, epochs)
            return view.weights if name == "weights" else view.metric(name)

        return self._gathered(models, checkpoints, shape, values)

    def read_chunks(self, name: str, models: np.ndarray, checkpoints: np.ndarray) -> np.ndarray:
        """Return values (model, checkpoint, ...) of few models; both in rising order."""
        return self.read(name, models, checkpoints)

    def owner(self, model: int) -> tuple[Zoo, int]:
        """Return the zoo of a model, and its number there."""
        model = model_number(model, where="+".join(zoo.name for zoo in self._zoos))
        number = int(np.searchsorted(self._starts, model, side="right")) - 1
        if not 0 <= model < self.shape[0]:
            raise ZooError(f"model {model} does not exist; the zoos have 0 to {self.shape[0] - 1}")
        zoo = self._zoos[number]
        return zoo, int(zoo.column("model_id")[model - int(self._starts[number])].as_py())

    def _gathered(
        self,
        models: np.ndarray,
        checkpoints: np.ndarray,
        shape: tuple[int, ...],
        read: Callable[[Zoo, np.ndarray, list[int]], np.ndarray],
    ) -> np.ndarray:
        """Return values (model, checkpoint, ...), each read from the zoo that has it."""
        values = np.full((len(models), len(checkpoints), *shape), np.nan, dtype=np.float32)
        epochs = self._epochs[checkpoints]
        numbers = np.searchsorted(self._starts, models, side="right") - 1
        for number in np.unique(numbers).tolist():
            zoo = self._zoos[number]
            (rows,) = np.nonzero(numbers == number)
            (columns,) = np.nonzero(np.isin(epochs, zoo.epochs))
            if len(columns):
                models_there = zoo.column("model_id").to_numpy()[models[rows] - self._starts[number]]
                values[np.ix_(rows, columns)] = read(zoo, models_there, epochs[columns].tolist())
        return values


@dataclass(frozen=True)
class _Kind:
    """An architecture: where parameters lie, and what is computed with them, where that is known."""

    layout: ParameterLayout
    layers: tuple[Layer, ...] | None

    def is_like(self, other: "_Kind") -> bool:
        """Whether both are one architecture; of unknown layers the layout alone says it."""
        return self.layout == other.layout and (None in (self.layers, other.layers) or self.layers == other.layers)


def _kinds_of(zoo: Zoo) -> dict[str, _Kind]:
    """Return the architectures of a zoo by what its table calls them; "" where all models have one."""
    if not zoo.ragged:
        network = zoo.manifest.network
        return {"": _Kind(zoo.layout, None if network is None else network.layers)}
    return {
        name: _Kind(each.layout, None if each.network is None else each.network.layers)
        for name, each in zoo.architectures.items()
    }


@dataclass(frozen=True)
class JointArray:
    """One array of several zoos, read when it is indexed: models first, then checkpoints, then the rest."""

    name: str
    arrays: JointArrays
    inner: tuple[int, ...]  # the shape of one checkpoint's value

    @property
    def shape(self) -> tuple[int, ...]:
        """(model, checkpoint, ...)."""
        return (*self.arrays.shape, *self.inner)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        first, second, *rest = (*(index if isinstance(index, tuple) else (index,)), slice(None), slice(None))[
            : self.ndim
        ]
        models, checkpoints = (np.arange(n)[at] for n, at in zip(self.arrays.shape, (first, second), strict=True))
        values = self.arrays.read(self.name, np.atleast_1d(models), np.atleast_1d(checkpoints))
        of_first_two = tuple(0 if np.ndim(at) == 0 else slice(None) for at in (models, checkpoints))
        return values[(*of_first_two, *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)
