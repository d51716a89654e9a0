"""Evaluating an encoder on one cell: fit on the training models, encode, probe every target, score the test models.

An encoder that predicts is fitted once for each target that it can learn, and both its predictions and a probe of that
fit's embeddings are scored; targets that it cannot learn are probed on the embeddings of its first fit. What fails on
one test zoo or target, as an encoder of one architecture does on another, leaves the others as they are.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from zoo_bench.encoders.training.runtime import Runtime, is_first_process
from zoo_bench.evaluation.candidate import Candidate
from zoo_bench.evaluation.costs import Cost
from zoo_bench.evaluation.failing import EncoderError
from zoo_bench.evaluation.fitting import Encoded, Fitted, fit_all
from zoo_bench.evaluation.floors import floors, prediction_of
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.parts import checkpoints_of, models_of, rows_of
from zoo_bench.protocol.protocols import Cell, rows_sha256
from zoo_bench.protocol.targets import Target, targets
from zoo_bench.results import CellResult, Failure, ZooUsed, scoring, this_machine
from zoo_bench.results.records import By, Resampled, TargetPrediction
from zoo_bench.scores import probes
from zoo_gen.errors import ZooError
from zoo_gen.files.schema import Schema
from zoo_gen.zoo import AnyZoo


class CellRecord(Schema):
    """What one evaluated cell adds to its result."""

    results: tuple[CellResult, ...] = ()
    failures: tuple[Failure, ...] = ()
    error: str = ""  # why there are no results at all
    tracebacks: tuple[str, ...] = ()  # of what failed, in the encoder's own code; no result holds them
    encoder_config: dict[str, object] = Field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """All that comes out of one cell."""

    record: CellRecord
    predictions: tuple[TargetPrediction, ...] = ()
    resamples: tuple[Resampled, ...] = ()


def evaluate_cell(
    candidate: Candidate, benchmark: BenchmarkManifest, cell: Cell, *, seed: int, runtime: Runtime | None = None
) -> Outcome:
    """Fit an encoder to the source of a cell and score it on every test.

    Raises:
        ZooError: the encoder could not be fitted or failed on every test; nothing is known then.
    """
    started = time.monotonic()
    fits: list[Fitted] = []
    errors: list[tuple[str, EncoderError]] = []  # of fits, by target
    for target, outcome in fit_all(candidate, benchmark, cell, seed=seed, runtime=runtime):
        if isinstance(outcome, Fitted):
            fits.append(outcome)
        else:
            errors.append((target or "", outcome))
    if not fits:
        raise errors[0][1]
    scored_tests = [n for n in range(len(cell.tests)) if any(isinstance(fit.tests[n], Encoded) for fit in fits)]
    lacking = _lacking(benchmark, cell, besides={target for target, _ in errors})
    failures = list(_failures(cell, fits, [*errors, *lacking]))
    if not scored_tests:
        raise next(test for test in fits[0].tests if isinstance(test, EncoderError))
    began = time.monotonic()
    failed = {target for target, _ in (*errors, *lacking)}
    label = f"probes of {candidate.name} on {cell.zoo.name}, seed {seed}" if is_first_process() else ""
    predicted = _predictions(benchmark, cell, fits, failed=failed, label=label)
    beaten = floors(cell, [target for target in targets(benchmark, cell.zoo) if target.name not in failed])
    probe_seconds = (time.monotonic() - began) / len(scored_tests)
    results, predictions, resamples = [], [], []
    for number in scored_tests:
        began = time.monotonic()
        test = cell.tests[number]
        chance = _chance(test.zoo)
        predicted_targets = {prediction.target for prediction in predicted[number]}
        predicted[number] += [prediction for prediction in beaten[number] if prediction.target in predicted_targets]
        scored = scoring.score_cell(
            predicted[number], rank_by=benchmark.rank_by, chance=chance, reading=benchmark.reading
        )
        predictions += predicted[number]
        resamples += [one.resampled for one in scored]
        fitting = Cost.of(fit.fit for fit in fits)
        encoding = Cost.of(fit.encode for fit in fits)
        testing = Cost.of(encoded.cost for fit in fits if isinstance(encoded := fit.tests[number], Encoded))
        every = Cost.of((fitting, encoding, testing))
        results.append(
            CellResult(
                source=used(cell.zoo),
                test=used(test.zoo),
                condition=test.condition,
                test_rows_sha256=rows_sha256(*rows_of(test.views)),
                chance=chance,
                checkpoints=len(checkpoints_of(test.views)),
                train_models=len(models_of(cell.train)),
                validation_models=len(models_of(cell.validation)),
                test_models=len(models_of(test.views)),
                excluded_models=cell.excluded_models,
                dimension=fits[0].train.shape[1],
                fit_seconds=fitting.seconds,
                encode_seconds=encoding.seconds + testing.seconds,
                probe_seconds=probe_seconds + time.monotonic() - began,
                parameters=fits[0].parameters,
                memory_bytes=every.memory_bytes,
                gpu_memory_bytes=every.gpu_memory_bytes,
                operations=fits[0].operations,
                networks_per_second=_speed(
                    [encoded for fit in fits if isinstance(encoded := fit.tests[number], Encoded)]
                ),
                machine=this_machine().model_copy(update={"gpu": fits[0].gpu}),
                scores=tuple(one.score for one in scored),
            )
        )
    raised = [error for _, error in errors] + [e for fit in fits for e in fit.tests if isinstance(e, EncoderError)]
    record = CellRecord(
        results=tuple(results),
        failures=tuple(failures),
        tracebacks=tuple(error.traceback for error in raised if error.traceback),
        encoder_config=fits[0].config,
        seconds=time.monotonic() - started,
    )
    return Outcome(record, tuple(predictions), tuple(resamples))


def _speed(encoded: Sequence[Encoded]) -> float | None:
    """Return how many networks of a test were encoded in a second; None where it took no time that can be told."""
    seconds = sum(each.encode_seconds for each in encoded)
    return sum(len(each.embeddings) for each in encoded) / seconds if seconds > 0 else None


def used(zoo: AnyZoo) -> ZooUsed:
    """Return what a result says of a zoo."""
    return ZooUsed(zoo=zoo.name, digest=zoo.digest, revision=zoo.revision, split_sha256=zoo.split_sha256)


def _chance(zoo: AnyZoo) -> float | None:
    """Return the accuracy of guessing; None where the number of classes is not known, or not one."""
    try:
        return 1 / zoo.n_classes
    except ZooError:
        return None


def _lacking(benchmark: BenchmarkManifest, cell: Cell, *, besides: set[str]) -> list[tuple[str, ZooError]]:
    """Return the targets that no probe can be fitted to, since the models of the source lack them, and why."""
    lacking: list[tuple[str, ZooError]] = []
    for target in targets(benchmark, cell.zoo):
        if target.name not in besides:
            try:
                probes.Labels(target.of_rows(cell.train), target.of_rows(cell.validation)).check(target.name)
            except ZooError as error:
                lacking.append((target.name, ZooError(f"{cell.zoo.path}: {error}")))
    return lacking


def _failures(cell: Cell, fits: Sequence[Fitted], errors: Sequence[tuple[str, ZooError]]) -> Iterable[Failure]:
    """Yield what failed: a whole test, where no fit was scored on it, or the target of a fit."""
    for number, test in enumerate(cell.tests):
        raised: list[tuple[str, ZooError]] = list(errors)
        raised += [(fit.target or "", e) for fit in fits if isinstance(e := fit.tests[number], EncoderError)]
        if all(isinstance(fit.tests[number], EncoderError) for fit in fits):
            raised = [("", raised[-1][1])]
        for target, error in raised:
            yield Failure(
                source=cell.zoo.name,
                test=test.zoo.name,
                condition=test.condition,
                target=target,
                message=str(error),
            )


def _predictions(
    benchmark: BenchmarkManifest,
    cell: Cell,
    fits: Sequence[Fitted],
    *,
    failed: set[str],
    label: str,
) -> dict[int, list[TargetPrediction]]:
    """Return what probes and the encoder itself predict of every test, by its number; no target that failed."""
    every = [target for target in targets(benchmark, cell.zoo) if target.name not in failed]
    learned = {fit.target for fit in fits}
    predictions: dict[int, list[TargetPrediction]] = {number: [] for number in range(len(cell.tests))}
    for fit in fits:
        chosen = [target for target in every if target.name == fit.target]
        if fit is fits[0]:
            chosen += [target for target in every if target.name not in learned]
        for number, target, prediction in _probed(cell, fit, chosen, kind=benchmark.probe, label=label):
            predictions[number].append(_prediction_by("probe", cell, number, target, prediction))
    for fit in fits:
        for number, encoded in enumerate(fit.tests):
            if isinstance(encoded, Encoded) and encoded.predicted is not None:
                target = next(target for target in every if target.name == fit.target)
                prediction = probes.Prediction(encoded.predicted, None)
                predictions[number].append(_prediction_by("encoder", cell, number, target, prediction))
    for number, test in enumerate(cell.tests):
        known = every if test.zoo is cell.zoo else targets(benchmark, test.zoo)
        order = {target.name: place for place, target in enumerate(known)}
        predictions[number] = sorted(
            (prediction for prediction in predictions[number] if prediction.target in order),
            key=lambda prediction: (prediction.by == "encoder", order[prediction.target]),
        )
    return predictions


def _probed(
    cell: Cell, fit: Fitted, chosen: Sequence[Target], *, kind: probes.Kind, label: str
) -> Iterable[tuple[int, Target, probes.Prediction]]:
    """Yield predictions of the tests of a fit, by probes that are fitted and chosen on the source alone."""
    tests = {number: test.embeddings for number, test in enumerate(fit.tests) if isinstance(test, Encoded)}
    if not tests or not chosen:
        return
    predicted = probes.probe(
        probes.Embeddings(fit.train, fit.validation, np.concatenate(list(tests.values()))),
        {target.name: probes.Labels(target.of_rows(cell.train), target.of_rows(cell.validation)) for target in chosen},
        kind=kind,
        label=label,
    )
    for target in chosen:
        start = 0
        for number, rows in tests.items():
            values = predicted[target.name].values[start : start + len(rows)]
            start += len(rows)
            yield number, target, probes.Prediction(values, predicted[target.name].penalty)


def _prediction_by(by: By, cell: Cell, number: int, target: Target, prediction: probes.Prediction) -> TargetPrediction:
    """Return a prediction as it is scored and stored: numbers in float32's digits, which is half of the file."""
    values = prediction.values.astype(np.float32) if target.is_number else prediction.values
    return prediction_of(cell, cell.tests[number], target, by, values, prediction.penalty)
