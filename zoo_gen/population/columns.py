"""Members: the hyper-parameters of a population's models as columns, in the order in which the models are computed.

Models that share an optimiser, an activation or a schedule lie next to each other, so that torch runs each once over a
slice; `places` leads back to the order of the table of models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from zoo_gen.architecture.own_module import Factory
from zoo_gen.manifest.hyperparameters import HYPERPARAMETERS, is_own
from zoo_gen.population.schedules import Schedule

# What neighbours should have in common, the costliest difference first.
KINDS = ("optimizer", "activation", "schedule", "loss")
STANDARD_LOSS = "standard"


@dataclass(frozen=True)
class Members:
    """Numbers are (model,) on the device."""

    table: pa.Table  # the models in the inner order
    places: Tensor  # int64 (model,): where each model of the original table lies inside
    seeds: Tensor  # int64
    optimizers: list[str]
    activations: list[Any]
    schedules: list[Schedule]
    losses: list[str]
    functions: Mapping[str, Factory]  # the user's own, by reference
    learning_rate: Tensor
    momentum: Tensor
    weight_decay: Tensor
    l2: Tensor
    dropout: Tensor
    label_smoothing: Tensor
    clip_norm: Tensor  # the largest norm of a gradient; 0: any
    crop_padding: Tensor
    flip: Tensor


def members(
    models: pa.Table, *, functions: Mapping[str, Factory], dtype: torch.dtype, device: str
) -> tuple[Members, list[int]]:
    """Return the models of a table in their inner order, and the row of each in the table."""
    kinds = list(zip(*(column(models, name) for name in KINDS), strict=True))
    order = sorted(range(len(kinds)), key=lambda model: tuple(map(str, kinds[model])))
    table = models.take(order)
    columns = Members(
        table=table,
        places=torch.tensor(order, device=device).argsort(),
        seeds=torch.tensor(column(table, "seed"), device=device),
        optimizers=column(table, "optimizer"),
        activations=column(table, "activation"),
        schedules=_schedules(table, functions),
        losses=[name or STANDARD_LOSS for name in column(table, "loss")],
        functions=functions,
        **{
            name: numbers(table, name, dtype=dtype, device=device)
            for name in (
                *("learning_rate", "momentum", "weight_decay", "l2", "dropout"),
                *("label_smoothing", "clip_norm", "crop_padding", "flip"),
            )
        },
    )
    return columns, order


def numbers(models: pa.Table, name: str, *, default: float = 0.0, dtype: torch.dtype, device: str = "cpu") -> Tensor:
    """Return a column of numbers (model,)."""
    values = [default if value is None else value for value in column(models, name)]
    return torch.tensor(values, dtype=dtype, device=device)


def _schedules(models: pa.Table, functions: Mapping[str, Factory]) -> list[Schedule]:
    """Return the schedule of each model."""
    names = ("schedule", "warm_up_epochs", "decay_every", "milestones", "decay_factor")
    schedules = []
    for name, warm_up, every, milestones, factor in zip(*(column(models, each) for each in names), strict=True):
        epochs = tuple(map(int, milestones.split(", "))) if name == "milestones" else ()
        schedules.append(
            Schedule(
                name,
                warm_up_epochs=warm_up or 0.0,
                decay_every=every if name == "step" else None,
                milestones=epochs,
                decay_factor=factor if name in ("step", "milestones") else 1.0,
                own_function=functions[name] if is_own(name) else None,
            )
        )
    return schedules


def numeric(
    models: pa.Table, *, dtype: torch.dtype = torch.float64, device: str | torch.device = "cpu"
) -> dict[str, Tensor]:
    """Return the hyper-parameters that are numbers and change how a model learns, name -> (model,)."""
    names = [
        name
        for name, parameter in HYPERPARAMETERS.items()
        if name in models.column_names and parameter.kind != "name" and name not in ("seed", "image")
    ]
    return {name: numbers(models, name, dtype=dtype, device=str(device)) for name in names}


def column(models: pa.Table, name: str) -> list[Any]:
    """Return a column; None for each model where the zoo has no such hyper-parameter."""
    return models[name].to_pylist() if name in models.column_names else [None] * len(models)


def runs(keys: Sequence[Any]) -> list[tuple[Any, slice]]:
    """Return (key, slice) for each run of equal neighbours."""
    slices, start = [], 0
    for key, same in groupby(keys):
        stop = start + sum(1 for _ in same)
        slices.append((key, slice(start, stop)))
        start = stop
    return slices
