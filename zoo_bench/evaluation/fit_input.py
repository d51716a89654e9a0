"""FitInput: what an encoder's `fit` is given: labelled training models, validation models without labels, a problem.

Labels of validation models stay here, with what scores predictions of them. An encoder that asks for them gets labelled
models all the same, a part of its training models: what it learns from them all may learn from.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from zoo_bench.encoders import fit_encoder
from zoo_bench.protocol.computing import ACTIVATION
from zoo_bench.protocol.parts import among, models_of
from zoo_bench.protocol.problem import Problem
from zoo_bench.protocol.protocols import Cell
from zoo_bench.protocol.selection import Selection
from zoo_bench.protocol.targets import Target
from zoo_bench.protocol.views import SelectionViews, TrainingView, ValidationView
from zoo_gen.errors import ZooError
from zoo_gen.zoo import ZooView


@dataclass(frozen=True)
class FitInput:
    """The arguments of a fit, and the selection that its process does not get."""

    train: list[TrainingView]
    validation: SelectionViews
    problem: Problem
    seed: int
    selection: Selection | None  # None where there is no target

    @classmethod
    def of(cls, cell: Cell, problem: Problem, *, seed: int) -> Self:
        """Return the training models of a cell with their labels, and its validation models without."""
        hide = ACTIVATION in problem.targets
        orders = [_order(view, problem) for view in cell.validation]
        truths = [truth[order] for truth, order in zip(_truths(cell.validation, problem), orders, strict=True)]
        return cls(
            train=[TrainingView.of(view, hide_activation=hide) for view in cell.train],
            validation=[
                ValidationView.of(view, order, hide_activation=hide)
                for view, order in zip(cell.validation, orders, strict=True)
            ],
            problem=problem,
            seed=seed,
            selection=_selection(problem, truths),
        )

    @classmethod
    def of_training_models(cls, cell: Cell, problem: Problem, *, seed: int) -> Self:
        """Return the training models of a cell in two parts with their labels, the second in place of the validation.

        Its share is that of the validation models among both. Models are drawn by the seed.

        Raises:
            ZooError: there is one training model.
        """
        hide = ACTIVATION in problem.targets
        models = np.sort(models_of(cell.train))
        if len(models) < 2:
            raise ZooError(
                "asks for labels of validation models, for which training models stand in; expected two or more, got 1"
            )
        share = (chosen := len(models_of(cell.validation))) / (chosen + len(models))
        count = min(max(1, round(share * len(models))), len(models) - 1)
        selecting = np.random.default_rng(seed).permutation(models)[:count]
        parts = (np.setdiff1d(models, selecting), selecting)
        train, validation = (
            [part for view in cell.train if len((part := among(view, models)).models)] for models in parts
        )
        return cls(
            train=[TrainingView.of(view, hide_activation=hide) for view in train],
            validation=[TrainingView.of(view, hide_activation=hide) for view in validation],
            problem=problem,
            seed=seed,
            selection=_selection(problem, _truths(validation, problem)),
        )

    def fit(self, encoder: Any) -> None:
        """Fit an encoder in this process."""
        problem = replace(self.problem, selection=self.selection)
        fit_encoder(encoder, self.train, self.validation, problem=problem, seed=self.seed)


def _truths(views: Iterable[ZooView], problem: Problem) -> list[np.ndarray]:
    """Return the labels (row,) of each view; without a target, of none."""
    if problem.target is None:
        return [np.zeros(len(view.models) * len(view.checkpoints)) for view in views]
    target = Target(problem.target, is_number=problem.is_number)
    return [target.values(view) for view in views]


def _selection(problem: Problem, truths: list[np.ndarray]) -> Selection | None:
    if problem.target is None:
        return None
    return Selection(problem.target, problem.metric, np.concatenate(truths))


def _order(view: ZooView, problem: Problem) -> np.ndarray:
    """Return an order of the rows of a view (row,) that is the same in each run, and that an encoder cannot know.

    It is drawn by the labels of all targets, which only this process has.
    """
    digest = hashlib.sha256(view.models.tobytes())
    for name in problem.targets:
        digest.update(np.ascontiguousarray(Target(name).values(view)).tobytes())
    seed = int.from_bytes(digest.digest(), "little")
    return np.random.default_rng(seed).permutation(len(view.models) * len(view.checkpoints))
