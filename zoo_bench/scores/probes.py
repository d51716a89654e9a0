"""Probes: simple predictors of each target from frozen embeddings, fitted and chosen on models of the source alone.

Two kinds exist. "standard" is what ranks unless a benchmark says otherwise: linear probes of features that a few
exploded networks cannot ruin. "paper" is what Schürholt et al. (NeurIPS 2021) used, on raw features.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import numpy as np

from zoo_bench.scores import paper_probes, standard_probes
from zoo_bench.scores.linear_features import Features
from zoo_bench.scores.metrics import missing
from zoo_gen.errors import ZooError
from zoo_gen.machine.progress import progress_bar
from zoo_gen.machine.workers import count_processes

Kind = Literal["standard", "paper"]
_SHOWN_AFTER = 5.0  # seconds, in which most probes are done
_MOST_THREADS = 8  # each holds a curvature, of up to 100 MB
_CLEARLY = 1e-2  # by which share the validation error of a later alternative must be lower


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of the three parts, each (row, dimension)."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Labels:
    """One target of the source: numbers, NaN where missing, or names, empty where missing."""

    train: np.ndarray  # (row,)
    validation: np.ndarray  # (row,)

    @property
    def is_number(self) -> bool:
        """Whether the target is a number and not a name."""
        return self.train.dtype.kind != "U"

    @property
    def labelled_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Which training rows and which validation rows have the target, bool (row,) each."""
        return ~missing(self.train), ~missing(self.validation)

    def check(self, target: str) -> None:
        """Refuse labels from which no probe can be fitted and chosen.

        Raises:
            ZooError: all models of a part lack the target.
        """
        for part, values in (("training", self.train), ("validation", self.validation)):
            if missing(values).all():
                raise ZooError(f"target {target!r}: no {part} model has it; expected at least one that does")


@dataclass(frozen=True)
class Prediction:
    """What a probe predicts of the test rows, and the penalty that was chosen."""

    values: np.ndarray  # (row,) float64 or str
    penalty: float | None  # None where the probe has no choice of penalties


def probe(
    embeddings: Embeddings,
    labels: Mapping[str, Labels],
    *,
    kind: Kind,
    label: str = "",
) -> dict[str, Prediction]:
    """Predict every target of the test rows.

    Rows without a label take no part in fitting and choosing a probe.

    Args:
        embeddings: of the three parts.
        labels: of the training and validation rows, by target.
        kind: which probes.
        label: what stands before the progress bar that is shown where they take long; none is without one.

    Raises:
        ZooError: all training models or all validation models lack a target.
    """
    for target, of_target in labels.items():
        of_target.check(target)
    of_kind = standard_probes if kind == "standard" else paper_probes
    best: dict[str, tuple[float, Prediction]] = {}
    with progress_bar(label=label, unit="probe", shown=bool(label), delay=_SHOWN_AFTER) as bar:
        for features in of_kind.alternatives(embeddings.train, embeddings.validation, embeddings.test):
            for target, error, prediction in _predicted(of_kind, features, labels):
                bar.update()
                if target not in best or error < (1 - _CLEARLY) * best[target][0]:
                    best[target] = error, prediction
    return {target: best[target][1] for target in labels}


def _predicted(
    of_kind: ModuleType, features: Features, labels: Mapping[str, Labels]
) -> Iterator[tuple[str, float, Prediction]]:
    """Yield every target with the error on the validation rows and what is predicted of the test rows.

    Names are classified side by side, each in a thread of its own: so many as share the products of other work here.
    """
    by_rows: dict[tuple[bytes, bytes], list[str]] = defaultdict(list)  # numbers, by the rows that have labels
    names = [target for target, of_target in labels.items() if not of_target.is_number]

    def classified(target: str) -> tuple[str, float, Prediction]:
        of_target = labels[target]
        train, validation = of_target.labelled_rows
        some = features.of_rows(train, validation)
        answer = of_kind.classify(some, of_target.train[train], of_target.validation[validation])
        return target, answer.error, Prediction(answer.predicted, answer.penalty)

    with ThreadPoolExecutor(_threads()) as pool:
        yield from pool.map(classified, names)
    for target, of_target in labels.items():
        if of_target.is_number:
            train, validation = of_target.labelled_rows
            by_rows[train.tobytes(), validation.tobytes()].append(target)
    for targets in by_rows.values():  # those with labels at the same rows share all of the linear algebra
        train, validation = labels[targets[0]].labelled_rows
        values = (
            np.column_stack([labels[target].train[train] for target in targets]),
            np.column_stack([labels[target].validation[validation] for target in targets]),
        )
        regressed = of_kind.regress(features.of_rows(train, validation), *values)
        for column, target in enumerate(targets):
            prediction = Prediction(regressed.predicted[:, column], float(regressed.penalties[column]))
            yield target, float(regressed.errors[column]), prediction


def _threads() -> int:
    """Return how many threads this process may compute on: as one of several workers its share of the cores."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return count_processes(int(given) if given.isdecimal() else None, _MOST_THREADS)
