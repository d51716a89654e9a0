"""What a training has reached: the checkpoints until now, and all that the population at work resumes from.

Random numbers are functions of a model's seed and the epoch, so that nothing of them has to be kept.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch

from zoo_gen.population.population import Population

_ARRAY, _STATE = "array/", "state/"  # before the names of what is written


class Saves(Protocol):
    """Where a training writes what it has reached, from which it resumes after an interruption."""

    def read(self) -> dict[str, np.ndarray]:
        """Return what was written last, name -> array; nothing if the training begins."""

    def is_due(self) -> bool:
        """Return whether it is time to write again."""

    def write(self, values: Mapping[str, np.ndarray]) -> None:
        """Write arrays in place of the last ones."""


class Reached:
    """The checkpoints of all models of a training, filled one population after the other.

    Args:
        n_models: of all populations.
        n_checkpoints: of each.
    """

    def __init__(self, n_models: int, n_checkpoints: int) -> None:
        self.arrays: dict[str, np.ndarray] = {}  # name -> float32 (model, checkpoint, ...)
        self.diverged = np.zeros(n_models, dtype=bool)
        self._shape = n_models, n_checkpoints
        self._population_of = np.full(n_models, -1)  # the number of each model's population, once it has begun
        self._interrupted: tuple[int, int, dict[str, torch.Tensor]] | None = None  # population, epoch, state

    def read(self, values: Mapping[str, np.ndarray], populations: Sequence[np.ndarray]) -> None:
        """Take what an interrupted training wrote, if its populations, each rows (model,), are the same now."""
        population_of = values["population_of"]
        number, epoch = int(population_of.max()), int(values["epoch"])
        begun = [np.flatnonzero(population_of == each) for each in range(number + 1)]
        if not all(np.array_equal(one, np.sort(other)) for one, other in zip(begun, populations, strict=False)):
            return
        self.arrays = {name.removeprefix(_ARRAY): array for name, array in values.items() if name.startswith(_ARRAY)}
        self.diverged, self._population_of = values["diverged"], population_of
        state = {name.removeprefix(_STATE): array for name, array in values.items() if name.startswith(_STATE)}
        self._interrupted = number, epoch, {name: torch.from_numpy(array) for name, array in state.items()}

    def is_complete(self, number: int) -> bool:
        """Return whether a population was complete before the interruption."""
        return self._interrupted is not None and number < self._interrupted[0]

    def begin(self, number: int, rows: np.ndarray, population: Population) -> int:
        """Let a population, of rows (model,), begin or resume; return its next epoch, 0 if it is untrained."""
        self._population_of[rows] = number
        if self._interrupted is None or self._interrupted[0] != number:
            return 0
        _, epoch, state = self._interrupted
        population.restore(state, epochs=epoch)
        return epoch + 1

    def keep(self, rows: np.ndarray, checkpoint: int, values: Mapping[str, np.ndarray]) -> None:
        """Keep the numbers of a population at a checkpoint, name -> (model, ...); NaN of models that have diverged."""
        finite = np.isfinite(values["weights"]).all(axis=1) & np.isfinite(values["train_loss"])
        self.diverged[rows] |= ~finite
        lost = rows[self.diverged[rows]]
        for name, numbers in values.items():
            array = self.arrays.get(name)
            if array is None:
                array = self.arrays[name] = np.empty((*self._shape, *numbers.shape[1:]), dtype=numbers.dtype)
            array[rows, checkpoint] = numbers
            array[lost, checkpoint] = np.nan

    def values(self, epoch: int, population: Population) -> dict[str, np.ndarray]:
        """Return all of it as arrays, after an epoch of the population that is at work."""
        state = {f"{_STATE}{name}": tensor.detach().cpu().numpy() for name, tensor in population.state().items()}
        arrays = {f"{_ARRAY}{name}": array for name, array in self.arrays.items()}
        progress = {"population_of": self._population_of, "epoch": np.array(epoch), "diverged": self.diverged}
        return progress | arrays | state
