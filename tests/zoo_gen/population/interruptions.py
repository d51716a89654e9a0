"""Trainings that are interrupted after every epoch, each to go on from what the one before wrote."""

import numpy as np
import pytest

from zoo_gen.population.train import train


class _InterruptedError(Exception):
    """Stands for a kill."""


class _OneEpoch:
    """Saves that end a training with the first epoch that it writes, but for the last one."""

    def __init__(self, last: int) -> None:
        self.values: dict[str, np.ndarray] = {}
        self.last, self.interrupted = last, 0

    def read(self) -> dict[str, np.ndarray]:
        return self.values

    def is_due(self) -> bool:
        return True

    def write(self, values) -> None:
        self.values = {name: array.copy() for name, array in values.items()}
        if values["epoch"] < self.last:
            self.interrupted += 1
            raise _InterruptedError


def check_interruptions(architecture, data, table, settings) -> None:
    """Compare an undisturbed training with one that is interrupted after every epoch, array by array."""
    epochs = {"checkpoint_epochs": list(range(settings.epochs + 1))}
    whole, saves = train(architecture, data, table, settings, **epochs), _OneEpoch(settings.epochs)
    for _ in range(settings.epochs):  # the untrained models are written too
        with pytest.raises(_InterruptedError):
            train(architecture, data, table, settings, saves=saves, **epochs)
    actual = train(architecture, data, table, settings, saves=saves, **epochs)
    assert saves.interrupted == settings.epochs
    np.testing.assert_array_equal(actual.diverged, whole.diverged)
    for name, values in whole.arrays.items():
        np.testing.assert_array_equal(actual.arrays[name], values, err_msg=name)
