"""Labels: the values of a problem's target that supervised encoders learn, of the rows that have one.

Rows without a value (NaN, or no name) are left out and counted, in training as in selection. The labels of validation
models are not shown: a problem scores predictions of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from zoo_bench.protocol.problem import Problem
from zoo_bench.protocol.selection import Selection
from zoo_bench.protocol.views import SelectionViews, TrainingView
from zoo_gen.errors import ZooError

DEFAULT_PROBLEM = Problem()  # of a fit that is told none: test accuracy


@dataclass(frozen=True)
class Labels:
    """The target's values of one part, training or validation.

    Attributes:
        values: float64 (labelled row,), or names, of all views one after another.
        present: of each view, which of its rows has a value, bool (model x checkpoint,).
    """

    values: np.ndarray
    present: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, name: str, problem: Problem, views: Sequence[TrainingView]) -> "Labels":
        """Read the target of training views for the encoder `name`.

        Raises:
            ZooError: the problem has no target, or no row has a value.
        """
        if problem.target is None:
            raise ZooError(f"{name}: got a problem without a target; expected one with a target")
        kind = np.float64 if problem.is_number else str
        values = [np.asarray(view.target(problem.target)).astype(kind).reshape(-1) for view in views]
        present = tuple(np.isfinite(array) if problem.is_number else array != "" for array in values)
        if not any(mask.any() for mask in present):
            raise ZooError(
                f"{name}: {problem.target} is missing for all training models; expected values to learn from"
            )
        return cls(np.concatenate([array[mask] for array, mask in zip(values, present, strict=True)]), present)

    @property
    def left_out(self) -> int:
        """How many rows have no value."""
        return sum(int((~mask).sum()) for mask in self.present)


def selecting(problem: Problem, validation: SelectionViews) -> Problem:
    """Return a problem that scores predictions of validation models: as given, or by the labels that views show."""
    if problem.selection is not None or problem.target is None:
        return problem
    truth = np.concatenate([np.asarray(view.target(problem.target)).reshape(-1) for view in validation])
    return replace(problem, selection=Selection(problem.target, problem.metric, truth))


def can_learn(problem: Problem) -> bool:
    """Say whether a supervised encoder can learn a problem: one with a target."""
    return problem.target is not None
