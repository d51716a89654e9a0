"""What optimisers, schedules and data orders of a population need on a GPU, whichever kernels train it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.population.columns import Members
from zoo_gen.population.optimizers import BETA1, BETA2
from zoo_gen.population.random import data_order
from zoo_gen.population.schedules import factor

OPTIMIZERS = {"sgd": 0, "momentum": 0, "adam": 1, "adamw": 2, "rmsprop": 3}  # what stands for them in kernels
SCHEDULES = {"constant": 0, "one_cycle": 1, "warmup_cosine": 4}  # rows of the table of factors
_ROWS = 5  # with Adam's two bias corrections between
_ORDERED_AT_ONCE = 2**24  # words that are sorted at once, for which torch takes some 40 bytes each


class Updates:
    """Numbers of each model and step that an update of the weights is computed from; `rates` may be set to zero.

    Args:
        members: the models and their hyper-parameters.
        layout: of their parameters.
        weights: (model, parameter), on the device.
        n_steps: of an epoch.
        n_epochs: of the whole training.
    """

    def __init__(
        self, members: Members, layout: ParameterLayout, weights: Tensor, *, n_steps: int, n_epochs: int
    ) -> None:
        device = weights.device
        self._n_steps, self._n_epochs = n_steps, n_epochs
        optimizers = [OPTIMIZERS[name] for name in members.optimizers]
        schedules = [SCHEDULES[name] for name in members.schedules]
        self._has_schedule = any(schedules)
        self.optimizers, self.schedules = codes(optimizers, device), codes(schedules, device)
        self.rates = members.learning_rate.clone()
        self.momenta, self.decays, self.l2 = members.momentum, members.weight_decay, members.l2
        self.first, self.second = torch.zeros_like(weights), torch.zeros_like(weights)  # moments (model, parameter)
        self.factors = torch.ones((_ROWS, n_steps), device=device)
        self.is_kernel = torch.from_numpy(layout.is_kernel).to(device, torch.float32)

    def begin(self, first: int) -> None:
        """Set the factors of an epoch whose first step has this number, from 0."""
        self.factors.copy_(torch.from_numpy(self._factors_from(first)))

    def _factors_from(self, first: int) -> np.ndarray:
        """Return what an optimiser multiplies by in each step of an epoch, float32 (row, step).

        The factors of a schedule are in its row of SCHEDULES, Adam's two bias corrections in rows 2 and 3.
        """
        table = np.ones((_ROWS, self._n_steps))
        numbers = np.arange(first + 1, first + self._n_steps + 1, dtype=np.float64)
        if self._has_schedule:
            total = self._n_epochs * self._n_steps
            for schedule, row in SCHEDULES.items():
                table[row] = [factor(schedule, first + step, total) for step in range(self._n_steps)]
        table[2], table[3] = 1 - BETA1**numbers, np.sqrt(1 - BETA2**numbers)
        return table.astype(np.float32)


class Orders:
    """The order in which each model reads the training images; models of one seed share one, which is kept once."""

    def __init__(self, seeds: Tensor, n_train: int) -> None:
        self._seeds, rows = seeds.unique(return_inverse=True)
        self.rows = rows.int()  # (model,): which order is a model's
        self.images = torch.zeros((len(self._seeds), n_train), dtype=torch.int32, device=seeds.device)

    def begin(self, epoch: int) -> None:
        """Draw the orders of an epoch."""
        n_train = self.images.shape[1]
        at_once = max(1, _ORDERED_AT_ONCE // n_train)
        for start in range(0, len(self._seeds), at_once):
            some = slice(start, start + at_once)
            self.images[some] = data_order(self._seeds[some], epoch, n_train).int()


def codes(numbers: Sequence[int], device: torch.device) -> Tensor:
    """Return numbers as the kernels read them."""
    return torch.tensor(numbers, dtype=torch.int32, device=device)
