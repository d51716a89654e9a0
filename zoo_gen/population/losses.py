"""Losses: what the training of each model makes small, the task's own loss or a function of the user's own."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from zoo_gen.architecture.own_module import Factory
from zoo_gen.population.columns import STANDARD_LOSS, runs
from zoo_gen.population.own_functions import OwnLoss
from zoo_gen.population.tasks import Task


class Losses:
    """The loss of every image for models that may each have another one.

    Args:
        task: of the models.
        names: of their losses (model,): STANDARD_LOSS is the task's, others are references to the user's own.
        smoothing: of labels (model,), for the task's loss.
        functions: the user's own, by reference.
    """

    def __init__(
        self, task: Task, names: Sequence[str], *, smoothing: Tensor, functions: Mapping[str, Factory]
    ) -> None:
        self._task = task
        self._smoothing = smoothing.unsqueeze(1) if bool(smoothing.any()) else None  # (model, 1)
        self._runs = [
            (None if name == STANDARD_LOSS else OwnLoss(name, functions[name]), rows) for name, rows in runs(names)
        ]

    @property
    def has_own(self) -> bool:
        """Whether a loss is of all images of a step together, which cannot be cut then."""
        return any(function is not None for function, _ in self._runs)

    def of(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return losses (model, image) of outputs (model, output, image) and targets (model, ..., image).

        A function of the user's own gives one number for all images of a model, which stands at each of them.
        """
        parts = []
        for function, rows in self._runs:
            if function is None:
                smoothing = None if self._smoothing is None else self._smoothing[rows]
                parts.append(self._task.losses(outputs[rows], targets[rows], smoothing))
            else:
                parts.append(function(outputs[rows], targets[rows]).unsqueeze(1).expand(-1, targets.shape[-1]))
        return parts[0] if len(parts) == 1 else torch.cat(parts)
