"""Protocols: which models train, which select and which test, and what is predicted of them.

`standard` stays inside one zoo: its own split by model, all checkpoints of a model in the same part.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from zoo_bench.manifest import BenchmarkManifest
from zoo_gen.errors import ZooError
from zoo_gen.zoo import Zoo, ZooView

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Cell:
    """One training and one test of an encoder."""

    zoo: Zoo
    train: ZooView
    validation: ZooView
    test: ZooView
    excluded_models: int  # diverged, so that their weights are not numbers


@dataclass(frozen=True)
class Target:
    """Something to predict: `metrics` score it, the first one ranks."""

    name: str
    metrics: tuple[str, ...]

    @property
    def is_number(self) -> bool:
        """Whether it is a number (regression) and not a name (classification)."""
        return self.metrics[0] != "accuracy"

    def values(self, view: ZooView) -> np.ndarray:
        """Return its value at every checkpoint of a view, (model x checkpoint,), models outermost."""
        shape = (len(view.models), len(view.checkpoints))
        if self.name == "epoch":
            values = np.broadcast_to(view.epochs, shape)
        elif self.name.startswith("test_class_f1_"):
            values = view.metric("test_class_f1")[:, :, int(self.name.removeprefix("test_class_f1_"))]
        elif self.name in ("test_accuracy", "generalization_gap"):
            values = view.metric(self.name)
        else:
            values = np.broadcast_to(view.hyperparameter(self.name)[:, None], shape)
        return values.reshape(-1).astype(np.float64 if self.is_number else str)


def standard_cell(zoo: Zoo, *, checkpoints: Literal["all", "last"] = "all") -> Cell:
    """Return the standard protocol on one zoo, with all checkpoints of each model or only the last.

    Raises:
        ZooError: the zoo is not complete, or a part of its split is empty.
    """
    if not zoo.complete:
        raise ZooError(f"{zoo.path}: the zoo is not complete; finish it with zoo-gen run")
    converged = zoo.models["model_id"].to_numpy()[zoo.models["status"].to_numpy(zero_copy_only=False) == "complete"]
    parts = {name: np.intersect1d(zoo.split(name), converged) for name in PARTS}
    for name, models in parts.items():
        if not len(models):
            raise ZooError(f"{zoo.path}: the {name} part of its split is empty; expected models in all of {PARTS}")
    check_disjoint(parts)
    epochs = None if checkpoints == "all" else zoo.epochs[-1:].tolist()
    views = {name: zoo.view(models, epochs) for name, models in parts.items()}
    return Cell(zoo, **views, excluded_models=len(zoo.models) - len(converged))


def check_disjoint(parts: dict[str, np.ndarray]) -> None:
    """Refuse parts that share a model.

    Raises:
        ZooError: a model stands in two parts.
    """
    models, counts = np.unique(np.concatenate(list(parts.values())), return_counts=True)
    if (counts > 1).any():
        raise ZooError(
            f"model {models[counts > 1][0]} stands in two parts of the split; expected parts without overlap"
        )


def targets(benchmark: BenchmarkManifest, zoo: Zoo) -> list[Target]:
    """Return the targets of a benchmark on one zoo: classes and hyper-parameters written out.

    Raises:
        ZooError: there are none.
    """
    numbers, names = ("r2", "kendall_tau"), ("accuracy",)
    found: list[Target] = []
    for name in benchmark.targets:
        if name == "test_class_f1":
            found += [Target(f"test_class_f1_{number}", numbers) for number in range(zoo.manifest.data.n_classes)]
        elif name == "hyperparameters":
            for column in zoo.manifest.axes.names:
                if column != "seed" and len(zoo.models[column].unique()) > 1:
                    text = zoo.models[column].type == "string"
                    found.append(Target(column, names if text else numbers))
        else:
            found.append(Target(name, numbers))
    if not found:
        raise ZooError(f"{zoo.path}: has none of the targets of {benchmark.name}; only the seed varies in it")
    return found
