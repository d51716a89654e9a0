"""Parts of a zoo as views: models of one architecture that keep the same checkpoints stand together in one view.

A published model may keep only some of its zoo's checkpoints; it takes part with those that it has.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from zoo_gen.zoo import AnyZoo, ZooView


@dataclass(frozen=True)
class Test:
    """The test part of a zoo, under a condition such as "unseen epochs" (empty where there is none)."""

    zoo: AnyZoo
    views: tuple[ZooView, ...]  # one an architecture and set of checkpoints, as `views_of` returns them
    condition: str = ""


def usable_models(zoo: AnyZoo) -> np.ndarray:
    """Return the model_ids (model,) of the models that have a checkpoint and did not diverge."""
    models, status = zoo.models["model_id"].to_numpy(), zoo.models["status"].to_numpy(zero_copy_only=False)
    usable = status != "diverged"
    if "checkpoints" in zoo.models.column_names:
        usable &= np.array([bool(positions) for positions in zoo.models["checkpoints"].to_pylist()], dtype=bool)
    return models[usable]


def views_of(zoo: AnyZoo, models: np.ndarray, *, checkpoints: Literal["all", "last"] = "all") -> tuple[ZooView, ...]:
    """Return models as views, one an architecture and set of checkpoints, in the order in which these first appear.

    Args:
        zoo: whose models.
        models: int64 (model,) model_ids; each keeps at least one checkpoint.
        checkpoints: all that a model keeps, or only its own last.
    """
    rows = zoo.view(models).rows
    table = zoo.models.take(rows)
    every = list(range(len(zoo.epochs)))
    present = table["checkpoints"].to_pylist() if "checkpoints" in table.column_names else [every] * len(models)
    architectures = table["architecture"].to_pylist() if zoo.ragged else [""] * len(models)
    members: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for model, architecture, positions in zip(models.tolist(), architectures, present, strict=True):
        chosen = tuple(positions if checkpoints == "all" else positions[-1:])
        members.setdefault((architecture, chosen), []).append(model)
    return tuple(zoo.view(group, zoo.epochs[list(positions)].tolist()) for (_, positions), group in members.items())


def among(view: ZooView, models: np.ndarray) -> ZooView:
    """Return those models of a view that are among `models`."""
    stay = np.isin(view.models, models)
    return replace(view, models=view.models[stay], rows=view.rows[stay])


def models_of(views: Sequence[ZooView]) -> np.ndarray:
    """Return the model_ids (model,) of views, view after view."""
    return np.concatenate([view.models for view in views]) if views else np.zeros(0, dtype=np.int64)


def checkpoints_of(views: Sequence[ZooView]) -> np.ndarray:
    """Return the positions (checkpoint,) of the checkpoints that any of the views has, rising."""
    return np.unique(np.concatenate([view.checkpoints for view in views]))


def rows_of(views: Sequence[ZooView]) -> tuple[np.ndarray, np.ndarray]:
    """Return the model_id and the epoch of every row (row,): view after view, in each of them models outermost."""
    models = [np.repeat(view.models, len(view.checkpoints)) for view in views]
    epochs = [np.tile(view.epochs.astype(np.int64), len(view.models)) for view in views]
    return np.concatenate(models), np.concatenate(epochs)
