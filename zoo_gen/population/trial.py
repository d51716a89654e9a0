"""A trial of our kernels on a GPU before a training: torch's own operations train what its compiler refuses.

Only compiling tells whether a compiler takes a kernel, so some models of the table train for two steps, which compile
and capture all that the training will launch; they are thrown away.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from subprocess import SubprocessError

import numpy as np
import pyarrow as pa
import torch

from zoo_gen.errors import ZooError, one_line
from zoo_gen.machine.warning import warn_once
from zoo_gen.population.columns import column, numbers
from zoo_gen.population.population import Population, TrainingSettings

_OF_THE_GPU = (torch.OutOfMemoryError, getattr(torch, "AcceleratorError", torch.OutOfMemoryError))  # from torch 2.8 on

_logger = logging.getLogger(__name__)


def settings_that_run(
    settings: TrainingSettings, tried: Iterable[np.ndarray], *, population_of: Callable[[np.ndarray], Population]
) -> TrainingSettings:
    """Return the settings, without our kernels if they cannot be compiled or launched, which is said in a line.

    Args:
        settings: with our kernels.
        tried: of each population to try, its rows of the table of models; see `rows_to_try`.
        population_of: gives the population of some rows, on images for two steps.

    Raises:
        ZooError: the kernels fail, and their precision is one that torch's operations do not have here.
    """
    from triton import TritonError

    try:
        for rows in tried:
            population = population_of(rows)
            population.train_epoch(1)
            losses = population.evaluate("train")["loss"]
            losses.cpu()  # waits for all that was launched
    except _OF_THE_GPU:
        raise  # torch's operations would meet it, too
    except (TritonError, SubprocessError, OSError, RuntimeError) as error:
        reason = f"our kernels cannot run on {settings.device}, {one_line(error)}"
        if settings.kernels != "float32":
            raise ZooError(
                f"training.precision {settings.kernels!r}: {reason}; expected 'float32', which torch has without them"
            ) from error
        warn_once(_logger, f"{reason}; torch's own operations are used, which are slower")
        return replace(settings, kernels=None)
    return settings


def rows_to_try(models: pa.Table) -> list[np.ndarray]:
    """Return rows (model,) of each batch size whose population compiles what that of all models of this size does.

    They have every activation that occurs, and dropout, crops and mirrors if any model has them.
    """
    activations, batch_sizes = np.array(column(models, "activation")), np.array(column(models, "batch_size"))
    tried = []
    for batch_size in np.unique(batch_sizes):
        (rows,) = np.nonzero(batch_sizes == batch_size)
        some = [rows[activations[rows] == name][0] for name in set(activations[rows])]
        some += [
            rows[int(numbers(models, name, dtype=torch.float64)[rows].argmax())]
            for name in ("dropout", "crop_padding", "flip")
        ]
        tried.append(np.unique(some))
    return tried
