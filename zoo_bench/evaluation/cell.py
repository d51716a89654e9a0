"""Evaluating an encoder on one cell: fit on the training models, encode, probe every target, score the test models.

An encoder that fails on one test zoo, as one of a single architecture does on another, is scored on the other tests.
"""

import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo_bench.encoders import Encoder
from zoo_bench.evaluation import scoring
from zoo_bench.evaluation.costs import Cost, measured
from zoo_bench.protocol import protocols
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.protocols import Cell, Target, Test, rows_sha256
from zoo_bench.protocol.views import HiddenRows, TrainingView
from zoo_bench.results import CellResult, Failure, ZooUsed, cell_name, this_machine
from zoo_bench.results.records import Resampled, TargetPrediction
from zoo_bench.scores import probes
from zoo_gen.errors import ZooError
from zoo_gen.zoo import Zoo, ZooView


@dataclass(frozen=True)
class Evaluated:
    """All that comes out of one cell."""

    results: tuple[CellResult, ...]
    failures: tuple[Failure, ...]
    predictions: tuple[TargetPrediction, ...]
    resamples: tuple[Resampled, ...]


@dataclass(frozen=True)
class _Fitted:
    """An encoder that was fitted, and what it makes of the models it was fitted to."""

    name: str
    encoder: Encoder
    train: np.ndarray  # (row, dimension)
    validation: np.ndarray  # (row, dimension)
    fit: Cost
    encode: Cost  # of the models it was fitted to


def evaluate_cell(name: str, encoder: Encoder, benchmark: BenchmarkManifest, cell: Cell, *, seed: int) -> Evaluated:
    """Fit an encoder, called `name` in errors, to the source of a cell and score it on every test.

    Raises:
        ZooError: the encoder could not be fitted or failed on every test; nothing is known then.
    """
    train, validation = (TrainingView.of(view) for view in (cell.train, cell.validation))
    with named(name, "fit"), measured() as fit:
        encoder.fit([train], [validation], seed=seed)
    with named(name, "encode"), measured() as encode:
        train_rows, validation_rows = (
            encode_view(name, encoder, HiddenRows.of(view)) for view in (cell.train, cell.validation)
        )
    fitted = _Fitted(name, encoder, train_rows, validation_rows, fit, encode)
    embeddings: dict[int, tuple[np.ndarray, Cost]] = {}
    failures: list[Failure] = []
    errors: list[ZooError] = []
    for number, test in enumerate(cell.tests):
        try:
            with measured() as cost:
                embeddings[number] = _encode_test(fitted, test), cost
        except ZooError as error:
            errors.append(error)
            failures.append(
                Failure(source=cell.zoo.name, test=test.zoo.name, condition=test.condition, message=str(error))
            )
    if not embeddings:
        raise errors[0]
    began = time.monotonic()
    probed = _probe(fitted, benchmark, cell, {number: rows for number, (rows, _) in embeddings.items()})
    probe_seconds = (time.monotonic() - began) / len(embeddings)
    results, predictions, resamples = [], [], []
    for number, (_, cost) in embeddings.items():
        began = time.monotonic()
        test = cell.tests[number]
        predicted = [*probed[number], *_predicted_by_encoder(fitted, benchmark, cell, test)]
        chance = 1 / test.zoo.n_classes
        scored = scoring.score_cell(predicted, rank_by=benchmark.rank_by, chance=chance, reading=benchmark.reading)
        predictions += predicted
        resamples += [one.resampled for one in scored]
        results.append(
            CellResult(
                source=used(cell.zoo),
                test=used(test.zoo),
                condition=test.condition,
                test_rows_sha256=rows_sha256(*_rows(test)),
                chance=chance,
                checkpoints=len(test.view.checkpoints),
                train_models=len(cell.train.models),
                validation_models=len(cell.validation.models),
                test_models=len(test.view.models),
                excluded_models=cell.excluded_models,
                dimension=fitted.train.shape[1],
                fit_seconds=fitted.fit.seconds,
                encode_seconds=fitted.encode.seconds + cost.seconds,
                probe_seconds=probe_seconds + time.monotonic() - began,
                parameters=getattr(encoder, "parameter_count", None),
                memory_bytes=_largest(part.memory_bytes for part in (fitted.fit, fitted.encode, cost)),
                gpu_memory_bytes=_largest(part.gpu_memory_bytes for part in (fitted.fit, fitted.encode, cost)),
                machine=this_machine(),
                scores=tuple(one.score for one in scored),
            )
        )
    return Evaluated(tuple(results), tuple(failures), tuple(predictions), tuple(resamples))


def used(zoo: Zoo) -> ZooUsed:
    """Return what a result says of a zoo."""
    return ZooUsed(zoo=zoo.name, digest=zoo.digest, revision=zoo.revision, split_sha256=zoo.split_sha256)


@contextmanager
def named(name: str, step: str) -> Iterator[None]:
    """Turn what an encoder raises into one line that names the encoder, the step and the line of its code."""
    try:
        yield
    except ZooError:
        raise  # says it already
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}, line {last.lineno}"
        raise ZooError(f"encoder {name!r}: {step}: {type(error).__name__}: {error} ({place})") from error


def encode_view(name: str, encoder: Encoder, rows: HiddenRows) -> np.ndarray:
    """Return the embeddings of rows, checked: (model x checkpoint, dimension), models outermost, all finite.

    Raises:
        ZooError: the encoder, called `name` in the message, returned another shape, or numbers that are not finite.
    """
    embeddings = np.asarray(encoder.encode(rows.view))
    count = len(rows.order)
    it = f"encoder {name!r}: encode returned"
    if embeddings.ndim != 2 or len(embeddings) != count:
        raise ZooError(f"{it} shape {embeddings.shape}; expected ({count}, dimension), a row a checkpoint")
    if embeddings.dtype.kind not in "biuf":
        raise ZooError(f"{it} values of type {embeddings.dtype}; expected real numbers")
    if not np.isfinite(embeddings).all():
        raise ZooError(f"{it} numbers that are not finite; expected finite embeddings of finite weights")
    return rows.in_order(embeddings)


def _largest(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _encode_test(fitted: _Fitted, test: Test) -> np.ndarray:
    """Return the embeddings of a test's rows, of the dimension that the training rows have."""
    with named(fitted.name, "encode"):
        embeddings = encode_view(fitted.name, fitted.encoder, HiddenRows.of(test.view))
    dimensions = sorted({part.shape[1] for part in (fitted.train, fitted.validation, embeddings)})
    if len(dimensions) > 1 or dimensions == [0]:
        raise ZooError(
            f"encoder {fitted.name!r}: encode returned embeddings of dimensions {dimensions}; expected one, at least 1"
        )
    return embeddings


def _probe(
    fitted: _Fitted, benchmark: BenchmarkManifest, cell: Cell, embeddings: dict[int, np.ndarray]
) -> dict[int, list[TargetPrediction]]:
    """Predict the targets of every test, by probes that are fitted and chosen on the source alone."""
    targets = protocols.targets(benchmark, cell.zoo)
    tests = np.concatenate(list(embeddings.values()))
    predicted = probes.probe(
        probes.Embeddings(fitted.train, fitted.validation, tests),
        {target.name: probes.Labels(target.values(cell.train), target.values(cell.validation)) for target in targets},
        kind=benchmark.probe,
    )
    predictions: dict[int, list[TargetPrediction]] = {}
    start = 0
    for number, rows in embeddings.items():
        part = slice(start, start + len(rows))
        start += len(rows)
        test = cell.tests[number]
        predictions[number] = [
            _prediction(
                cell, test, target, "probe", predicted[target.name].values[part], predicted[target.name].penalty
            )
            for target in targets
            if test.zoo is cell.zoo or target in protocols.targets(benchmark, test.zoo)
        ]
    return predictions


def _predicted_by_encoder(
    fitted: _Fitted, benchmark: BenchmarkManifest, cell: Cell, test: Test
) -> list[TargetPrediction]:
    """Return what a supervised encoder itself predicts of a test, if its target is one of the benchmark's."""
    predict = getattr(fitted.encoder, "predict", None)
    if predict is None:
        return []
    return [
        _prediction(cell, test, target, "encoder", predict_view(fitted.name, fitted.encoder, test.view), None)
        for target in protocols.targets(benchmark, test.zoo)
        if target.name == fitted.encoder.config.get("target")
    ]


def predict_view(name: str, encoder: Encoder, view: ZooView) -> np.ndarray:
    """Return what a supervised encoder, called `name` in errors, predicts of a view, float64 (model x checkpoint,).

    Raises:
        ZooError: it fails, or returns another shape or numbers that are not finite.
    """
    rows = HiddenRows.of(view)
    with named(name, "predict"):
        values = np.asarray(getattr(encoder, "predict")(rows.view))  # noqa: B009
    if values.shape != (len(rows.order),) or not np.isfinite(values).all():
        raise ZooError(
            f"encoder {name!r}: predict returned shape {values.shape} or numbers that are not finite; "
            f"expected ({len(rows.order)},)"
        )
    return rows.in_order(values).astype(np.float64)


def _prediction(
    cell: Cell, test: Test, target: Target, by: str, predicted: np.ndarray, penalty: float | None
) -> TargetPrediction:
    models, epochs = _rows(test)
    return TargetPrediction(
        cell=cell_name(cell.zoo.name, test.zoo.name, test.condition),
        target=target.name,
        by="probe" if by == "probe" else "encoder",
        penalty=penalty,
        models=models,
        epochs=epochs,
        truth=target.values(test.view),
        predicted=predicted.astype(np.float64) if target.is_number else predicted.astype(str),
    )


def _rows(test: Test) -> tuple[np.ndarray, np.ndarray]:
    """Return the model_id and the epoch of every test row (row,), models outermost."""
    shape = (len(test.view.models), len(test.view.checkpoints))
    models = np.repeat(test.view.models, shape[1])
    return models, np.tile(test.view.epochs.astype(np.int64), shape[0])
