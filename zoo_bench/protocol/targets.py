"""Targets: what is predicted of a checkpoint, as numbers (regression) or names (classification).

Views of zoos and the labelled views that encoders get answer the same questions, so one function reads a target from
either. A label that is missing is NaN; whoever fits or scores leaves its row out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow.types

from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.problem import Problem
from zoo_gen.errors import ZooError, unknown_name
from zoo_gen.zoo import AnyZoo

CLASS_F1, LOG10 = "test_class_f1", "log10_"
# Hyper-parameters: seeds and numbers of images say nothing of a model, and a view tells its architecture.
UNASKED = ("seed", "image", "architecture")
# Metrics that are computed from others. The running gap is that of Schürholt et al. (NeurIPS 2021, public code): the
# accuracy on the training images while an epoch went on, less the test accuracy after it.
GAPS = {"generalization_gap": "train_accuracy", "running_gap": "running_accuracy"}


class Measured(Protocol):
    """A zoo, or what is told of it."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of what was measured at every checkpoint."""


class Labelled(Protocol):
    """A view that labels can be read from."""

    @property
    def zoo(self) -> Measured:
        """The zoo whose models it shows."""

    @property
    def models(self) -> np.ndarray:
        """The model_ids (model,)."""

    @property
    def checkpoints(self) -> np.ndarray:
        """The positions of the checkpoints (checkpoint,)."""

    @property
    def epochs(self) -> np.ndarray:
        """The epoch of each checkpoint (checkpoint,)."""

    def metric(self, name: str) -> np.ndarray:
        """Return a metric (model, checkpoint, ...)."""

    def hyperparameter(self, name: str) -> np.ndarray:
        """Return a hyper-parameter of each model (model,)."""


@dataclass(frozen=True)
class Target:
    """Something to predict: a number (regression) or a name (classification)."""

    name: str
    is_number: bool = True

    def values(self, view: Labelled) -> np.ndarray:
        """Return its value at every checkpoint of a view, (model x checkpoint,), models outermost."""
        return target_values(view, self.name).reshape(-1)

    def of_rows(self, views: Sequence[Labelled]) -> np.ndarray:
        """Return its value at every row of views (row,), view after view."""
        return np.concatenate([self.values(view) for view in views])


def target_values(view: Labelled, name: str) -> np.ndarray:
    """Return a target at every checkpoint of a view (model, checkpoint): float64, or str.

    A number that is missing is NaN, a name that is missing is empty.

    Raises:
        ZooError: the zoo has neither a metric nor a hyper-parameter of that name.
    """
    shape = (len(view.models), len(view.checkpoints))
    if name == "epoch":
        values = np.broadcast_to(view.epochs, shape)
    elif name in GAPS:
        values = _gap(view, name)
    elif name.startswith(f"{CLASS_F1}_"):
        values = view.metric(CLASS_F1)[:, :, int(name.removeprefix(f"{CLASS_F1}_"))]
    elif name.startswith(LOG10):
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.log10(view.hyperparameter(name.removeprefix(LOG10)).astype(np.float64))
        values = np.broadcast_to(np.where(np.isfinite(values), values, np.nan)[:, None], shape)
    elif name in view.zoo.metrics:
        values = view.metric(name)
    else:
        values = np.broadcast_to(view.hyperparameter(name)[:, None], shape)
    if values.dtype.kind in "biuf":
        return values.astype(np.float64)
    return np.where(values == None, "", values).astype(str)  # noqa: E711 elementwise: a name that is missing is empty


def targets(benchmark: BenchmarkManifest, zoo: AnyZoo) -> list[Target]:
    """Return the targets of a benchmark on one zoo: classes and hyper-parameters written out.

    Raises:
        ZooError: there are none, or the zoo does not have one.
    """
    chosen: list[Target] = []
    for name in benchmark.targets:
        if name == CLASS_F1:
            chosen += [Target(f"{CLASS_F1}_{number}") for number in range(zoo.n_classes)]
        elif name == "hyperparameters":
            for column in zoo.varying:
                if column not in UNASKED and len(zoo.models[column].unique()) > 1:
                    chosen.append(target_named(zoo, column))
        else:
            chosen.append(target_named(zoo, name))
    if not chosen:
        raise ZooError(f"{zoo.path}: has none of the targets of {benchmark.name}; only the seed varies in it")
    return list(dict.fromkeys(chosen))


def problems(benchmark: BenchmarkManifest, zoo: AnyZoo) -> list[Problem]:
    """Return what a benchmark asks of encoders that are fitted to a zoo, a problem a target."""
    chosen = targets(benchmark, zoo)
    return [
        Problem(
            target=target.name,
            is_number=target.is_number,
            checkpoints=benchmark.checkpoints,
            metric=benchmark.rank_by if target.is_number else "accuracy",
            loss=benchmark.loss,
            targets=tuple(target.name for target in chosen),
        )
        for target in chosen
    ]


def target_named(zoo: AnyZoo, name: str) -> Target:
    """Return the target of that name on a zoo: epoch, a metric, a gap, a hyper-parameter that varies, or its logarithm.

    Raises:
        ZooError: the zoo does not have it.
    """
    if name == "epoch" or _is_metric(zoo, name):
        return Target(name)
    column = name.removeprefix(LOG10)
    if column not in zoo.varying:
        known = ["epoch", *zoo.metrics, *(gap for gap in GAPS if _is_metric(zoo, gap)), *zoo.varying]
        raise ZooError(f"{zoo.path}: {unknown_name('target', name, known)}")
    kind = zoo.models[column].type
    is_number = not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind))
    if column != name and not is_number:
        raise ZooError(f"{zoo.path}: target {name!r}: {column} is no number; expected {column}")
    return Target(name, is_number=is_number)


def _gap(view: Labelled, name: str) -> np.ndarray:
    """Return a gap between two accuracies; nothing ran before epoch 0, so the accuracy is that in evaluation mode."""
    accuracy = view.metric(GAPS[name])
    if name == "running_gap":
        accuracy = np.where((view.epochs == 0) & np.isnan(accuracy), view.metric("train_accuracy"), accuracy)
    return accuracy - view.metric("test_accuracy")


def _is_metric(zoo: AnyZoo, name: str) -> bool:
    if name in GAPS:
        return {GAPS[name], "test_accuracy"} <= set(zoo.metrics)
    return name in zoo.metrics
