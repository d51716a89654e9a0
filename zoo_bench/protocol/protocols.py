"""Protocols: which models train, select and test an encoder.

A cell is one training with all its tests, so that a cross-dataset row fits its encoder once. In every protocol the
parts are splits by model: training and selection use the source zoo's, a test uses the test part of the zoo it is on.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from zoo_bench.protocol.equivalents import equivalent_tests
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.parts import Test, among, checkpoints_of, models_of, usable_models, views_of
from zoo_gen.errors import ZooError
from zoo_gen.zoo import AnyZoo, ZooView

PARTS = ("train", "validation", "test")
On = Literal["test", "validation"]  # the part of the split whose models are scored
_SUBSET_SEED = 0  # of the models that a share keeps


@dataclass(frozen=True)
class Cell:
    """One training of an encoder, and its tests. Parts are views, one an architecture and set of checkpoints."""

    zoo: AnyZoo
    train: tuple[ZooView, ...]
    validation: tuple[ZooView, ...]
    tests: tuple[Test, ...]
    excluded_models: int  # of the source: diverged, so that their weights are not numbers, or without a checkpoint
    chosen: str = ""  # which of the models take part at all; in every part

    @property
    def name(self) -> str:
        """The name of the cell, which no other of its benchmark has."""
        n_models, n_checkpoints = len(models_of(self.train)), len(checkpoints_of(self.train))
        suffix = f", {self.chosen}" if self.chosen else ""
        return f"{self.zoo.name}, {n_models} models, {n_checkpoints} checkpoints{suffix}"


def cells(benchmark: BenchmarkManifest, zoos: list[AnyZoo], *, on: On = "test") -> list[Cell]:
    """Return the cells of a benchmark, in the order of its zoos, with tests on the test models or those that select.

    Raises:
        ZooError: a zoo is not complete, a part of its split is empty, or the zoos do not suit the protocol.
    """
    standard = [standard_cell(zoo, checkpoints=benchmark.checkpoints, on=on) for zoo in zoos]
    names = [zoo.name for zoo in zoos]
    if benchmark.protocol == "standard":
        return standard
    if benchmark.protocol == "data_efficiency":
        return [_with_share(cell, share) for cell in standard for share in benchmark.shares]
    if benchmark.protocol == "accuracy_thresholds":
        return [_with_accuracy(cell, least) for cell in standard for least in benchmark.thresholds]
    if benchmark.protocol == "robustness":
        return [replace(cell, tests=equivalent_tests(cell.tests[0])) for cell in standard]
    if benchmark.protocol == "unseen_epochs":
        return [_with_seen_epochs(cell, benchmark.seen_epochs) for cell in standard]
    return [_crossed(benchmark, cell, standard) for cell in standard if cell.zoo.name in (benchmark.sources or names)]


def _crossed(benchmark: BenchmarkManifest, source: Cell, standard: list[Cell]) -> Cell:
    """Return the training of one cell with the tests of those like it, or in cross_architecture of those unlike it."""
    across = benchmark.protocol == "cross_architecture"
    tests: list[Test] = []
    for cell in standard:
        same_layouts = _same_layouts(source.zoo, cell.zoo)
        if benchmark.families:
            alike = benchmark.family_of(source.zoo.name) == benchmark.family_of(cell.zoo.name)
        else:
            alike = same_layouts or not across
        if alike == across:
            continue
        if not across and not same_layouts:
            raise ZooError(
                f"{benchmark.name}: {source.zoo.name} and {cell.zoo.name} differ in architecture; expected one "
                "architecture in cross_dataset, families of one, or the protocol cross_architecture"
            )
        tests += cell.tests
    if not tests:
        raise ZooError(f"{benchmark.name}: all zoos have the architecture of {source.zoo.name}; expected several")
    return replace(source, tests=tuple(tests))


def _same_layouts(source: AnyZoo, test: AnyZoo) -> bool:
    """Say whether the models of two zoos have the same architectures."""
    layouts, others = source.layouts, test.layouts
    return all(layout in others for layout in layouts) and all(layout in layouts for layout in others)


def standard_cell(zoo: AnyZoo, *, checkpoints: Literal["all", "last"] = "all", on: On = "test") -> Cell:
    """Return the standard protocol on one zoo, with all checkpoints of each model or only the last.

    With `on` "validation", the models that select are also those that are scored, and no test model is looked at.

    Raises:
        ZooError: the zoo is not complete, or a part of its split is empty.
    """
    if not zoo.complete:
        raise ZooError(f"{zoo.path}: the zoo is not complete; finish it with zoo-gen run")
    usable = usable_models(zoo)
    parts = {name: np.intersect1d(zoo.split(name), usable) for name in PARTS}
    for name, models in parts.items():
        if not len(models):
            raise ZooError(f"{zoo.path}: the {name} part of its split is empty; expected models in all of {PARTS}")
    check_disjoint(parts)
    train, validation, test = (views_of(zoo, models, checkpoints=checkpoints) for models in parts.values())
    tested = validation if on == "validation" else test
    return Cell(zoo, train, validation, (Test(zoo, tested),), excluded_models=len(zoo.models) - len(usable))


def check_disjoint(parts: dict[str, np.ndarray]) -> None:
    """Refuse parts that share a model."""
    models, counts = np.unique(np.concatenate(list(parts.values())), return_counts=True)
    if (counts > 1).any():
        raise ZooError(f"model {models[counts > 1][0]} is in two parts of the split; expected parts without overlap")


def rows_sha256(models: np.ndarray, epochs: np.ndarray) -> str:
    """Return the SHA-256 of which rows are tested: model_ids and epochs, a value a row (row,)."""
    return hashlib.sha256(np.stack([models, epochs]).astype("<i8").tobytes()).hexdigest()


def _with_share(cell: Cell, share: float) -> Cell:
    """Keep a share of the training models and of those that select; the test stays whole, so that shares compare.

    Were the selection part whole, its labels would outnumber those of a small share.
    """
    train, validation = (
        tuple(part for view in views if len((part := among(view, subset)).models))
        for views, subset in ((views, _subset(models_of(views), share)) for views in (cell.train, cell.validation))
    )
    tests = tuple(Test(test.zoo, test.views, f"{100 * share:g} % of the training models") for test in cell.tests)
    return Cell(cell.zoo, train, validation, tests, cell.excluded_models)


def _with_accuracy(cell: Cell, least: float) -> Cell:
    """Keep the models of every part whose test accuracy at their checkpoint is `least` or more (Tran et al., 2025)."""
    words = f"test accuracy of {100 * least:g} % or more"
    parts = {}
    for name, views in (("train", cell.train), ("validation", cell.validation), ("test", cell.tests[0].views)):
        chosen = (among(view, view.models[view.metric("test_accuracy")[:, 0] >= least]) for view in views)
        parts[name] = tuple(view for view in chosen if len(view.models))
        if not parts[name]:
            raise ZooError(f"{cell.zoo.path}: no model of its {name} part has a {words}; expected a lower threshold")
    test = Test(cell.zoo, parts["test"], words)
    return replace(cell, train=parts["train"], validation=parts["validation"], tests=(test,), chosen=words)


def _subset(models: np.ndarray, share: float) -> np.ndarray:
    """Return a share of models, at least one; smaller shares lie inside larger ones."""
    order = np.random.RandomState(_SUBSET_SEED).permutation(models)
    return np.sort(order[: max(1, round(share * len(models)))])


def _with_seen_epochs(cell: Cell, share: float) -> Cell:
    """Train and select on the first checkpoints of models; test on the test models at these, and at the later ones."""
    epochs = cell.zoo.epochs.tolist()
    count = max(1, round(share * len(epochs)))
    if count >= len(epochs):
        raise ZooError(f"{cell.zoo.path}: keeps {len(epochs)} checkpoints; expected later ones than the {count} seen")
    seen, unseen = np.arange(count), np.arange(count, len(epochs))
    test = cell.tests[0].views
    parts = {
        "seen training": _at(cell.train, seen),
        "seen validation": _at(cell.validation, seen),
        "seen test": _at(test, seen),
        "unseen test": _at(test, unseen),
    }
    for name, views in parts.items():
        if not views:
            raise ZooError(f"{cell.zoo.path}: no model has {name} checkpoints; expected some on both sides of {count}")
    train, validation, tested, later = parts.values()
    tests = (
        Test(cell.zoo, tested, f"seen epochs, to {epochs[count - 1]}"),
        Test(cell.zoo, later, f"unseen epochs, from {epochs[count]}"),
    )
    return Cell(cell.zoo, train, validation, tests, cell.excluded_models)


def _at(views: tuple[ZooView, ...], checkpoints: np.ndarray) -> tuple[ZooView, ...]:
    """Return views at those of their checkpoints that are among some, without views that have none of them."""
    chosen = (replace(view, checkpoints=np.intersect1d(view.checkpoints, checkpoints)) for view in views)
    return tuple(view for view in chosen if len(view.checkpoints))
