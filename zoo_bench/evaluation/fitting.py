"""Fits of a cell: an encoder fitted to each problem, with what it makes of all rows of the cell.

A fit has a process of its own, and a second, fresh one encodes some rows again.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.evaluation.again import Company, check_again, without_rounding
from zoo_bench.evaluation.candidate import Candidate
from zoo_bench.evaluation.costs import Cost
from zoo_bench.evaluation.failing import EncoderError, named
from zoo_bench.evaluation.fit_input import FitInput
from zoo_bench.evaluation.processes.client import EncoderProcess
from zoo_bench.evaluation.rows import (
    check_dimensions,
    checked_embeddings,
    checked_predictions,
    encode_views,
    predict_views,
)
from zoo_bench.protocol.computing import ACTIVATION, Computing
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.parts import among
from zoo_bench.protocol.problem import Problem
from zoo_bench.protocol.protocols import Cell, Test
from zoo_bench.protocol.targets import problems
from zoo_bench.protocol.views import HiddenRows
from zoo_gen.errors import ZooError
from zoo_gen.zoo import ZooView

NEEDS = {"forward": "forward_pass", "graphs": "structure"}  # of a view, and what of its computing gives it
# Added to the settings of an encoder that asked for labels of validation models.
ASKED_FOR_LABELS = {"validation_models": "a part of the training models, because it asks for their labels"}
_COUNTED = 32  # models whose encoding is counted; their rows are copied


@dataclass(frozen=True)
class Encoded:
    """A test's rows as a fitted encoder embeds them, and what it predicts of them."""

    embeddings: np.ndarray  # (row, dimension)
    predicted: np.ndarray | None  # (row,), of an encoder that was fitted to a target
    cost: Cost
    encode_seconds: float  # of the cost, what encoding took


@dataclass(frozen=True)
class Fitted:
    """What one fit of an encoder makes of a cell; of a test that it failed on, the failure."""

    target: str | None  # what it was fitted to
    train: np.ndarray  # (row, dimension)
    validation: np.ndarray  # (row, dimension)
    tests: tuple[Encoded | EncoderError, ...]
    fit: Cost
    encode: Cost  # of the models it was fitted to
    gpu: str  # that it was computed on; empty for none
    parameters: int | None
    operations: int | None  # to encode a network
    config: dict[str, object]


def fit_all(
    candidate: Candidate, benchmark: BenchmarkManifest, cell: Cell, *, seed: int, runtime: Runtime | None
) -> Iterator[tuple[str | None, Fitted | EncoderError]]:
    """Fit an encoder to each problem that it can learn; yield its target, and what came of it.

    Raises:
        ZooError: the encoder cannot be made, or can learn none of the targets.
    """
    asked = problems(benchmark, cell.zoo)
    with EncoderProcess(candidate, torch=candidate.torch) as process:
        process.make(runtime)
        facts = process.ask("learned", asked)[0]
    learned = facts["targets"]
    check_needs(candidate.name, facts["needs"], cell, hide_activation=ACTIVATION in asked[0].targets)
    for target in learned:
        problem = next((each for each in asked if each.target == target), replace(asked[0], target=None))
        try:
            yield target, _fit(candidate, problem, cell, seed=seed, runtime=runtime)
        except EncoderError as error:
            yield target, error


def check_needs(name: str, needs: Sequence[str], cell: Cell, *, hide_activation: bool) -> None:
    """Refuse a cell whose zoos cannot give what an encoder needs of its views, before anything is trained.

    Raises:
        EncoderError: a view that it is fitted on cannot, or no test can; or nobody knows what it needs.
    """
    unknown = [need for need in needs if need not in NEEDS]
    if unknown:
        raise EncoderError(f"encoder {name!r}: needs {unknown[0]!r}; expected one of {', '.join(NEEDS)}")

    def check(view: ZooView) -> None:
        for need in needs:
            getattr(Computing.of(view, hide_activation=hide_activation), NEEDS[need])

    reasons = []
    try:
        for view in (*cell.train, *cell.validation):
            check(view)
        for test in cell.tests:
            try:
                for view in test.views:
                    check(view)
                return
            except ZooError as error:
                reasons.append(error)
        raise reasons[0]
    except ZooError as error:
        raise EncoderError(f"encoder {name!r}: {error}") from None


@contextmanager
def fitted_process(
    candidate: Candidate, cell: Cell, problem: Problem, *, seed: int, runtime: Runtime | None
) -> Iterator[tuple[EncoderProcess, dict[str, Any], FitInput]]:
    """Fit an encoder in a process of its own; yield the process, what it says of the fit, and what it was given.

    An encoder that asks for labels of validation models starts again with a part of its training models for these.

    Raises:
        EncoderError: it cannot be fitted.
    """
    with ExitStack() as stack:
        fit_input = FitInput.of(cell, problem, seed=seed)
        process = stack.enter_context(EncoderProcess(candidate, torch=candidate.torch))
        process.make(runtime)
        try:
            facts = process.fit(fit_input)
        except EncoderError as error:
            if not error.asked_for_labels:
                raise
            stack.close()
            with named(candidate.name, "fit"):
                fit_input = FitInput.of_training_models(cell, problem, seed=seed)
            process = stack.enter_context(EncoderProcess(candidate, torch=candidate.torch))
            process.make(runtime)
            facts = process.fit(fit_input)
            facts["config"] = {**facts["config"], **ASKED_FOR_LABELS}
        yield process, facts, fit_input


def _fit(candidate: Candidate, problem: Problem, cell: Cell, *, seed: int, runtime: Runtime | None) -> Fitted:
    """Fit an encoder in one process, encode all rows there, and some of them again in another."""
    name, views = candidate.name, (cell.train, cell.validation)
    hide = ACTIVATION in problem.targets
    with fitted_process(candidate, cell, problem, seed=seed, runtime=runtime) as (process, facts, fit_input):
        state = process.ask("state")
        rows = [encode_views(process, part, hide_activation=hide) for part in views]
        check_dimensions(name, rows)
        if len(rows[0]) > 1 and (rows[0] == rows[0][0]).all():
            raise EncoderError(
                f"encoder {name!r}: encode returned one embedding for all {len(rows[0])} training rows; expected "
                "embeddings that differ"
            )
        encode = Cost.of(process.costs)
        few = among(cell.train[0], cell.train[0].models[:_COUNTED])
        operations = process.operations(HiddenRows.of(few, hide_activation=hide).view)
        tests = [_test(process, problem, test, dimension=rows[0].shape[1]) for test in cell.tests]
    if any(isinstance(test, Encoded) for test in tests):
        with EncoderProcess(candidate, torch=candidate.torch) as process:
            _restore(process, state, fit_input, runtime)
            for number, encoded in enumerate(tests):
                if isinstance(encoded, Encoded):
                    tests[number] = _checked(process, problem, encoded, cell, number, gpu=bool(facts["gpu"]))
    outputs = [test.embeddings for test in tests if isinstance(test, Encoded)]
    train_rows, validation_rows, *outputs = without_rounding(rows[0], [rows[1], *outputs])
    return Fitted(
        target=problem.target,
        train=train_rows,
        validation=validation_rows,
        tests=tuple(replace(test, embeddings=outputs.pop(0)) if isinstance(test, Encoded) else test for test in tests),
        fit=Cost(**facts["cost"]),
        encode=encode,
        gpu=facts["gpu"],
        parameters=facts["parameters"],
        operations=operations,
        config=facts["config"],
    )


def _test(process: EncoderProcess, problem: Problem, test: Test, *, dimension: int) -> Encoded | EncoderError:
    """Encode and predict a test's rows."""
    process.costs.clear()
    hide = ACTIVATION in problem.targets
    try:
        embeddings = encode_views(process, test.views, hide_activation=hide)
        if embeddings.shape[1] != dimension:
            raise EncoderError(
                f"encoder {process.name!r}: embeds the models of {test.zoo.name} in {embeddings.shape[1]} dimensions, "
                f"and those that it was fitted to in {dimension}; expected the same for every architecture"
            )
        seconds = Cost.of(process.costs).seconds
        predicted = None
        if problem.target is not None:
            predicted = predict_views(process, test.views, is_number=problem.is_number, hide_activation=hide)
        return Encoded(embeddings, predicted, Cost.of(process.costs), seconds)
    except EncoderError as error:
        return error


def _restore(
    process: EncoderProcess,
    state: tuple[dict[str, Any], np.ndarray | None],
    fit_input: FitInput,
    runtime: Runtime | None,
) -> None:
    """Make the fitted encoder in another process: from its pickled state, or where it has none, by the same fit."""
    facts, content = state
    if content is not None:
        process.ask("restore", facts["sizes"], content)
    else:
        process.make(runtime)
        process.fit(fit_input)


def _checked(
    process: EncoderProcess, problem: Problem, encoded: Encoded, cell: Cell, number: int, *, gpu: bool
) -> Encoded | EncoderError:
    """Return what came of a test once rows of each of its views were encoded and predicted again."""
    name, start = process.name, 0
    try:
        for view in cell.tests[number].views:
            company = Company.of(view, cell.train, hide_activation=ACTIVATION in problem.targets)
            count = len(view.models) * len(view.checkpoints)
            part = slice(start, start + count)
            again = checked_embeddings(name, process.encode(company.view), count)
            what = f"encoder {name!r}: encode:"
            check_again(what, encoded.embeddings[part], again, company, view, start=start, gpu=gpu)
            if encoded.predicted is not None:
                again = checked_predictions(name, process.predict(company.view), count, is_number=problem.is_number)
                what = f"encoder {name!r}: predict:"
                check_again(what, encoded.predicted[part], again, company, view, start=start, gpu=gpu)
            start += count
    except EncoderError as error:
        return error
    return encoded
