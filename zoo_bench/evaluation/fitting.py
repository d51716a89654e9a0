"""Fits of a cell: an encoder fitted to each problem, with what it makes of all rows of the cell."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo_bench.encoders import fit_encoder, learned_problems
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.evaluation.candidates import Candidate
from zoo_bench.evaluation.costs import Cost, measured
from zoo_bench.evaluation.failing import EncoderError, named
from zoo_bench.evaluation.rows import InThisProcess, check_dimensions, encode_views, predict_views
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.problem import Problem
from zoo_bench.protocol.protocols import Cell
from zoo_bench.protocol.targets import problems
from zoo_bench.protocol.views import TrainingView


@dataclass(frozen=True)
class Encoded:
    """A test's rows as a fitted encoder embeds them, and what it predicts of them."""

    embeddings: np.ndarray  # (row, dimension)
    predicted: np.ndarray | None  # (row,), of an encoder that was fitted to a target
    cost: Cost


@dataclass(frozen=True)
class Fitted:
    """What one fit of an encoder makes of a cell; of a test that it failed on, the failure."""

    target: str | None  # what it was fitted to
    train: np.ndarray  # (row, dimension)
    validation: np.ndarray  # (row, dimension)
    tests: tuple[Encoded | EncoderError, ...]
    fit: Cost
    encode: Cost  # of the models it was fitted to
    parameters: int | None
    config: dict[str, object]


def fit_all(
    candidate: Candidate, benchmark: BenchmarkManifest, cell: Cell, *, seed: int, runtime: Runtime | None
) -> Iterator[tuple[str | None, Fitted | EncoderError]]:
    """Fit an encoder to each problem that it can learn; yield its target, and what came of it.

    Raises:
        ZooError: the encoder cannot be made, or can learn none of the targets.
    """
    encoder = candidate.fresh(runtime)
    with named(candidate.name, "can_learn", encoder=encoder):
        chosen = learned_problems(candidate.name, encoder, problems(benchmark, cell.zoo))
    for problem in chosen:
        try:
            yield problem.target, _fit(candidate, problem, cell, seed=seed, runtime=runtime)
        except EncoderError as error:
            yield problem.target, error


def _fit(candidate: Candidate, problem: Problem, cell: Cell, *, seed: int, runtime: Runtime | None) -> Fitted:
    encoder: Any = candidate.fresh(runtime)
    subject = InThisProcess(candidate.name, encoder)
    train, validation = ([TrainingView.of(view) for view in views] for views in (cell.train, cell.validation))
    with named(candidate.name, "fit", encoder=encoder), measured() as fit:
        fit_encoder(encoder, train, validation, problem=problem, seed=seed)
    with measured() as encode:
        train_rows, validation_rows = (encode_views(subject, views) for views in (cell.train, cell.validation))
    tests: list[Encoded | EncoderError] = []
    for test in cell.tests:
        try:
            with measured() as cost:
                embeddings = encode_views(subject, test.views)
                check_dimensions(candidate.name, [train_rows, validation_rows, embeddings])
                predicted = None
                target = problem.target
                if hasattr(encoder, "predict") and target is not None:
                    predicted = predict_views(subject, test.views, is_number=problem.is_number)
            tests.append(Encoded(embeddings, predicted, cost))
        except EncoderError as error:
            tests.append(error)
    return Fitted(
        problem.target,
        train_rows,
        validation_rows,
        tuple(tests),
        fit,
        encode,
        getattr(encoder, "parameter_count", None),
        encoder.config,
    )
