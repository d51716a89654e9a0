"""What optimisers, schedules and data orders of a population need on a GPU, whichever kernels train it."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.population.columns import STANDARD_LOSS, Members
from zoo_gen.population.optimizers import BETA1, BETA2
from zoo_gen.population.random import Purpose, data_order, stream_keys
from zoo_gen.population.schedules import distinct

OPTIMIZERS = {
    "sgd": 0,
    "momentum": 0,
    "adam": 1,
    "adamw": 2,
    "rmsprop": 3,
    "nesterov": 4,
}  # what stands for them in kernels
_OTHERS = ("label_smoothing", "clip_norm")  # that kernels do not know
_OF_IMAGES = ("crop_padding", "flip")  # that only the kernels of transformers know
_DRAW = 2**20  # of `augmentation.Augmentation`
_ORDERED_AT_ONCE = 2**24  # words that are sorted at once, for which torch takes some 40 bytes each


def unserved(values: Callable[[str], Iterable[object]], *, crops: bool) -> str | None:
    """Return the first hyper-parameter with a value that our kernels do not know, None if there is none.

    Args:
        values: gives the values of a hyper-parameter by its name; None stands for its default.
        crops: whether the kernels that read the images crop and mirror them.
    """
    if any(optimizer not in OPTIMIZERS for optimizer in values("optimizer")):
        return "optimizer"
    if any(loss not in (None, STANDARD_LOSS) for loss in values("loss")):
        return "loss"
    return next((name for name in (*_OTHERS, *(() if crops else _OF_IMAGES)) if any(values(name))), None)


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
        self._schedules, schedules = distinct(members.schedules)
        self.optimizers, self.schedules = codes(optimizers, device), codes(schedules, device)
        self.rates = members.learning_rate.clone()
        self.momenta, self.decays, self.l2 = members.momentum, members.weight_decay, members.l2
        self.first, self.second = torch.zeros_like(weights), torch.zeros_like(weights)  # moments (model, parameter)
        self.factors = torch.ones((2 + len(self._schedules), n_steps), device=device)
        self.is_kernel = torch.from_numpy(layout.is_kernel).to(device, torch.float32)

    def state(self) -> dict[str, Tensor]:
        """Return what steps change beside the weights: both moments, and which models are frozen."""
        return {"first": self.first, "second": self.second, "rates": self.rates}

    def begin(self, first: int) -> None:
        """Set the factors of an epoch whose first step has this number, from 0."""
        self.factors.copy_(torch.from_numpy(self._factors_from(first)))

    def _factors_from(self, first: int) -> np.ndarray:
        """Return what an optimiser multiplies by in each step of an epoch, float32 (2 + schedule, step).

        Adam's two bias corrections, then the factors of every schedule.
        """
        numbers = np.arange(first + 1, first + self._n_steps + 1, dtype=np.float64)
        steps = {"steps_per_epoch": self._n_steps, "n_epochs": self._n_epochs}
        factors = [
            [schedule.factor(first + step, **steps) for step in range(self._n_steps)] for schedule in self._schedules
        ]
        return np.array([1 - BETA1**numbers, np.sqrt(1 - BETA2**numbers), *factors]).astype(np.float32)


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


class Crops:
    """Where the training images of each model are cropped and whether they are mirrored, as `augmentation` draws it."""

    def __init__(self, members: Members) -> None:
        self._seeds = members.seeds
        self.keys = torch.zeros_like(members.seeds)  # of the epoch, int64 (model,)
        self.paddings = members.crop_padding.int()
        self.thresholds = (members.flip.double() * _DRAW + 0.5).floor().int()
        self.augments = bool(members.crop_padding.any()) or bool(members.flip.any())

    def begin(self, epoch: int) -> None:
        """Draw the crops and mirrorings of an epoch, counted from 1."""
        if self.augments:
            self.keys.copy_(stream_keys(self._seeds, Purpose.AUGMENTATION, epoch))


def codes(numbers: Sequence[int], device: torch.device) -> Tensor:
    """Return numbers as the kernels read them."""
    return torch.tensor(numbers, dtype=torch.int32, device=device)
