"""Protocols: which models train, select and test an encoder, and what is predicted of them.

A cell is one training with all its tests, so that a cross-dataset row fits its encoder once. In every protocol the
parts are splits by model: training and selection use the source zoo's, a test uses the test part of the zoo it is on.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_gen.errors import ZooError
from zoo_gen.zoo import Zoo, ZooView

PARTS = ("train", "validation", "test")
_SUBSET_SEED = 0  # of the models that a share of the training part keeps; smaller shares lie inside larger ones


@dataclass(frozen=True)
class Test:
    """The test part of a zoo, under a condition such as "unseen epochs" (empty where there is none)."""

    zoo: Zoo
    view: ZooView
    condition: str = ""


@dataclass(frozen=True)
class Cell:
    """One training of an encoder, and its tests."""

    zoo: Zoo
    train: ZooView
    validation: ZooView
    tests: tuple[Test, ...]
    excluded_models: int  # of the source: diverged, so that their weights are not numbers

    @property
    def name(self) -> str:
        """The name of the cell, which no other of its benchmark has."""
        return f"{self.zoo.name}, {len(self.train.models)} models, {len(self.train.checkpoints)} checkpoints"


@dataclass(frozen=True)
class Target:
    """Something to predict: a number (regression) or a name (classification)."""

    name: str
    is_number: bool = True

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


def cells(benchmark: BenchmarkManifest, zoos: list[Zoo]) -> list[Cell]:
    """Return the cells of a benchmark, in the order of its zoos.

    Raises:
        ZooError: a zoo is not complete, a part of its split is empty, or the zoos do not suit the protocol.
    """
    standard = [standard_cell(zoo, checkpoints=benchmark.checkpoints) for zoo in zoos]
    if benchmark.protocol == "standard":
        return standard
    if benchmark.protocol == "data_efficiency":
        return [_with_share(cell, share) for cell in standard for share in benchmark.shares]
    if benchmark.protocol == "unseen_epochs":
        return [_with_seen_epochs(cell, benchmark.seen_epochs) for cell in standard]
    crossed = []
    for source in standard:
        tests = [test for cell in standard for test in cell.tests]
        if benchmark.protocol == "cross_architecture":
            tests = [test for test in tests if test.zoo.layout != source.zoo.layout]
        elif any(test.zoo.layout != source.zoo.layout for test in tests):
            raise ZooError(
                f"{benchmark.name}: its zoos differ in architecture; expected one architecture in cross_dataset, "
                "or the protocol cross_architecture"
            )
        if not tests:
            raise ZooError(f"{benchmark.name}: all zoos have the architecture of {source.zoo.name}; expected several")
        crossed.append(Cell(source.zoo, source.train, source.validation, tuple(tests), source.excluded_models))
    return crossed


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
    train, validation, test = (zoo.view(models, epochs) for models in parts.values())
    return Cell(zoo, train, validation, (Test(zoo, test),), excluded_models=len(zoo.models) - len(converged))


def check_disjoint(parts: dict[str, np.ndarray]) -> None:
    """Refuse parts that share a model.

    Raises:
        ZooError: a model is in two parts.
    """
    models, counts = np.unique(np.concatenate(list(parts.values())), return_counts=True)
    if (counts > 1).any():
        raise ZooError(f"model {models[counts > 1][0]} is in two parts of the split; expected parts without overlap")


def rows_sha256(models: np.ndarray, epochs: np.ndarray) -> str:
    """Return the SHA-256 of which rows are tested: model_ids and epochs, a value a row (row,)."""
    return hashlib.sha256(np.stack([models, epochs]).astype("<i8").tobytes()).hexdigest()


def targets(benchmark: BenchmarkManifest, zoo: Zoo) -> list[Target]:
    """Return the targets of a benchmark on one zoo: classes and hyper-parameters written out.

    Raises:
        ZooError: there are none.
    """
    chosen: list[Target] = []
    for name in benchmark.targets:
        if name == "test_class_f1":
            chosen += [Target(f"test_class_f1_{number}") for number in range(zoo.n_classes)]
        elif name == "hyperparameters":
            for column in zoo.varying:
                if column != "seed" and len(zoo.models[column].unique()) > 1:
                    chosen.append(Target(column, is_number=zoo.models[column].type != "string"))
        else:
            chosen.append(Target(name))
    if not chosen:
        raise ZooError(f"{zoo.path}: has none of the targets of {benchmark.name}; only the seed varies in it")
    return chosen


def _with_share(cell: Cell, share: float) -> Cell:
    """Keep a share of the training models; selection and test stay whole, so that shares are comparable."""
    models = np.random.RandomState(_SUBSET_SEED).permutation(cell.train.models)
    subset = np.sort(models[: max(1, round(share * len(models)))])
    condition = f"{100 * share:g} % of the training models"
    tests = tuple(Test(test.zoo, test.view, condition) for test in cell.tests)
    train = cell.zoo.view(subset, cell.train.epochs.tolist())
    return Cell(cell.zoo, train, cell.validation, tests, cell.excluded_models)


def _with_seen_epochs(cell: Cell, share: float) -> Cell:
    """Train and select on the first checkpoints of models; test on the test models at these, and at the later ones."""
    epochs = cell.zoo.epochs.tolist()
    count = max(1, round(share * len(epochs)))
    if count >= len(epochs):
        raise ZooError(f"{cell.zoo.path}: keeps {len(epochs)} checkpoints; expected later ones than the {count} seen")
    seen, unseen = epochs[:count], epochs[count:]
    test = cell.tests[0].view.models
    return Cell(
        cell.zoo,
        cell.zoo.view(cell.train.models, seen),
        cell.zoo.view(cell.validation.models, seen),
        (
            Test(cell.zoo, cell.zoo.view(test, seen), f"seen epochs, to {seen[-1]}"),
            Test(cell.zoo, cell.zoo.view(test, unseen), f"unseen epochs, from {unseen[0]}"),
        ),
        cell.excluded_models,
    )
