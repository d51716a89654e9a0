"""Probes: simple predictors of each target from frozen embeddings, fitted and chosen on models of the source alone.

Two kinds exist. "standard" is what ranks unless a benchmark says otherwise: linear probes of features that a few
exploded networks cannot ruin. "paper" is what Schürholt et al. (NeurIPS 2021) used, on raw features.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import numpy as np

from zoo_bench.scores import paper_probes, standard_probes
from zoo_bench.scores.linear_features import Features
from zoo_bench.scores.metrics import missing
from zoo_gen.errors import ZooError
from zoo_gen.machine.progress import progress_bar

Kind = Literal["standard", "paper"]
_SHOWN_AFTER = 5.0  # seconds, in which most probes are done
_CLEARLY = 1e-2  # by which share the validation error of a number must be lower for a later alternative to be taken


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
    parts = embeddings.train, embeddings.validation, embeddings.test
    best: dict[str, tuple[float, int]] = {}  # target -> the least error, and of which alternative
    predictions: dict[str, Prediction] = {}
    with progress_bar(label=label, unit="probe", shown=bool(label), delay=_SHOWN_AFTER) as bar:
        for number, features in enumerate(of_kind.alternatives(*parts)):
            for target, error, prediction in _regressed(of_kind, features, labels):
                margin = _CLEARLY if labels[target].is_number else 0.0
                if target not in best or error < (1 - margin) * best[target][0]:
                    best[target] = error, number
                    if prediction is not None:
                        predictions[target] = prediction
                        bar.update()
        for number, features in enumerate(of_kind.alternatives(*parts)):
            if predictions.keys() == labels.keys():
                break
            for target, of_target in labels.items():
                if not of_target.is_number and best[target][1] == number:
                    predictions[target] = _classified(of_kind, features, of_target)
                    bar.update()
    return {target: predictions[target] for target in labels}


def _regressed(
    of_kind: ModuleType, features: Features, labels: Mapping[str, Labels]
) -> Iterator[tuple[str, float, Prediction | None]]:
    """Yield every target with the squared error on the validation rows and what is predicted of the test rows.

    Names are regressed as numbers, 1 where a row has the name and 0 elsewhere, and nothing is predicted of them: their
    error only chooses the alternative, since a probe of names takes far longer.
    """
    by_rows: dict[tuple[bytes, bytes], list[str]] = defaultdict(list)  # by the rows that have labels
    for target, of_target in labels.items():
        train, validation = of_target.labelled_rows
        by_rows[train.tobytes(), validation.tobytes()].append(target)
    for targets in by_rows.values():  # those with labels at the same rows share all of the linear algebra
        train, validation = labels[targets[0]].labelled_rows
        columns = [_as_numbers(labels[target], train, validation) for target in targets]
        values = (np.concatenate(of_part, axis=1) for of_part in zip(*columns, strict=True))
        regressed = of_kind.regress(features.of_rows(train, validation), *values)
        start = 0
        for target, (of_training_rows, _) in zip(targets, columns, strict=True):
            end = start + of_training_rows.shape[1]
            prediction = None
            if labels[target].is_number:
                prediction = Prediction(regressed.predicted[:, start], float(regressed.penalties[start]))
            yield target, float(regressed.errors[start:end].sum()), prediction
            start = end


def _as_numbers(labels: Labels, train: np.ndarray, validation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of some training and validation rows, bool (row,), as numbers (row, 1) or (row, name)."""
    of_train, of_validation = labels.train[train, None], labels.validation[validation, None]
    if labels.is_number:
        return of_train, of_validation
    names = np.unique(of_train)
    return (of_train == names).astype(np.float64), (of_validation == names).astype(np.float64)


def _classified(of_kind: ModuleType, features: Features, labels: Labels) -> Prediction:
    """Return what a probe predicts of a target of names."""
    train, validation = labels.labelled_rows
    some = features.of_rows(train, validation)
    classified = of_kind.classify(some, labels.train[train], labels.validation[validation])
    return Prediction(classified.predicted, classified.penalty)
