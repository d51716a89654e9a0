"""Targets of supervised encoders: metrics, epochs and hyper-parameters of a view, a number a checkpoint."""

from typing import Literal

import numpy as np

from zoo_bench.protocol.views import TrainingView
from zoo_gen.errors import ZooError

Checkpoints = Literal["last", "all"]


def target_values(view: TrainingView, target: str) -> np.ndarray:
    """Return a target at every checkpoint of a view, float64 (model, checkpoint).

    Args:
        view: of a zoo.
        target: a metric of the zoo, "epoch", or a hyper-parameter that is a number.

    Raises:
        ZooError: the zoo has no such column, or it is no number.
    """
    shape = (len(view.models), len(view.checkpoints))
    if target == "epoch":
        values = np.broadcast_to(view.epochs, shape)
    elif target in (*view.zoo.metrics, "generalization_gap"):
        values = view.metric(target)
    else:
        values = np.broadcast_to(view.hyperparameter(target)[:, None], shape)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.number):
        raise ZooError(f"target {target!r}: is not one number a checkpoint; expected a metric, epoch or a number")
    return values.astype(np.float64)


def selected(values: np.ndarray, checkpoints: Checkpoints) -> np.ndarray:
    """Return the checkpoints that are learned from (model, checkpoint, ...)."""
    return values[:, -1:] if checkpoints == "last" else values
