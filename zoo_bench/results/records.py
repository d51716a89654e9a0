"""The Parquet files beside a result: predictions of every test row, those of floors apart, and metrics on resamples.

From the first any metric can be computed again without training; from the second, intervals over seeds and paired
differences, because a resample drew the same models for every encoder and seed. A file that is not there or cannot be
read is a ZooError that names it.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zoo_gen.errors import ZooError, one_line
from zoo_gen.files import atomic

By = Literal["probe", "encoder", "recipe", "mean"]  # the last two read no weight: what an encoder has to beat
FLOORS: tuple[By, ...] = ("recipe", "mean")
_EXPECTED = "expected what zoo-bench run wrote beside its result; delete the result to have it computed again"


@dataclass(frozen=True)
class TargetPrediction:
    """One target of one cell on all its test rows."""

    cell: str
    target: str
    by: By
    penalty: float | None
    models: np.ndarray  # int64 (row,)
    epochs: np.ndarray  # int64 (row,)
    truth: np.ndarray  # (row,) float64, or str
    predicted: np.ndarray  # (row,) as truth

    @property
    def is_number(self) -> bool:
        """Whether the target is a number and not a name."""
        return self.truth.dtype.kind == "f"


@dataclass(frozen=True)
class Resampled:
    """One metric of one target of one cell, on every resample."""

    cell: str
    target: str
    metric: str
    by: By
    values: np.ndarray  # float64 (resample,), NaN where undefined

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Cell, target, metric and predictor, which no other of its result shares."""
        return self.cell, self.target, self.metric, self.by


def predictions_path(result: Path) -> Path:
    """Return where the predictions of a result lie."""
    return result.with_suffix(".predictions.parquet")


def resamples_path(result: Path) -> Path:
    """Return where the resamples of a result lie."""
    return result.with_suffix(".resamples.parquet")


def floors_path(result: Path) -> Path:
    """Return where the predictions of a result's floors lie, apart: no encoder made them."""
    return result.with_suffix(".floors.parquet")


def files_of(result: Path) -> tuple[Path, ...]:
    """Return the paths of a result and of all files beside it."""
    return result, predictions_path(result), floors_path(result), resamples_path(result)


def write_predictions(predictions: Iterable[TargetPrediction], result: Path) -> str:
    """Write predictions beside a result, a row a test row and target; return the SHA-256 of those of encoders."""
    files = prediction_files(predictions, result)
    write_files(files)
    return content_sha256(files[predictions_path(result)])


def prediction_files(predictions: Iterable[TargetPrediction], result: Path) -> dict[Path, bytes | None]:
    """Return the files of predictions beside a result and their bytes; None where there is to be no file."""
    tables: dict[bool, list[pa.Table]] = {False: [], True: []}
    for prediction in predictions:
        tables[prediction.by in FLOORS].append(prediction_table(prediction))
    return {
        floors_path(result): _content(pa.concat_tables(tables[True])) if tables[True] else None,
        predictions_path(result): _content(pa.concat_tables(tables[False])),
    }


def write_files(files: Mapping[Path, bytes | None]) -> None:
    """Write files, each whole, and remove those that are None."""
    for path, content in files.items():
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.replace(path, content)


def prediction_table(prediction: TargetPrediction) -> pa.Table:
    """Return predictions of one target as a table, a row a test row; numbers and names have columns of their own."""
    rows, is_number = len(prediction.models), prediction.is_number
    numbers, names = pa.nulls(rows, pa.float64()), pa.nulls(rows, pa.string())
    truth, predicted = pa.array(prediction.truth), pa.array(prediction.predicted)
    return pa.table(
        {
            "cell": pa.array([prediction.cell] * rows),
            "target": pa.array([prediction.target] * rows),
            "by": pa.array([prediction.by] * rows),
            "penalty": pa.array([prediction.penalty] * rows, pa.float64()),
            "model_id": pa.array(prediction.models, pa.int64()),
            "epoch": pa.array(prediction.epochs, pa.int64()),
            "truth": truth if is_number else numbers,
            "predicted": predicted if is_number else numbers,
            "true_name": names if is_number else truth,
            "predicted_name": names if is_number else predicted,
        }
    )


def read_predictions(result: Path) -> list[TargetPrediction]:
    """Read the predictions beside a result, in the order in which they were written, then those of floors.

    Raises:
        ZooError: the file is not there or not readable.
    """
    floors = floors_path(result)
    return _read_predictions(predictions_path(result)) + (_read_predictions(floors) if floors.exists() else [])


def _read_predictions(path: Path) -> list[TargetPrediction]:
    table = _read(path)
    try:
        keys = np.array([table[name].to_numpy().astype(str) for name in ("cell", "target", "by")])
        changes = np.flatnonzero((keys[:, 1:] != keys[:, :-1]).any(axis=0)) + 1
        bounds = [0, *changes.tolist(), len(table)]
        return [_prediction(table.slice(start, stop - start)) for start, stop in pairwise(bounds)]
    except (KeyError, ValueError, IndexError) as error:
        raise ZooError(f"{path}: is not a table of predictions ({error}); {_EXPECTED}") from None


def write_resamples(resamples: Iterable[Resampled], path: Path) -> str:
    """Write resamples, a row a metric; return the SHA-256 of the file."""
    content = resamples_content(resamples)
    write_files({path: content})
    return content_sha256(content)


def resamples_content(resamples: Iterable[Resampled]) -> bytes:
    """Return the bytes of a file of resamples, a row a metric."""
    rows = list(resamples)
    columns = {name: [getattr(row, name) for row in rows] for name in ("cell", "target", "metric", "by")}
    values = pa.array([row.values.tolist() for row in rows], pa.list_(pa.float64()))
    return _content(pa.table({**columns, "values": values}))


def read_resamples(path: Path) -> list[Resampled]:
    """Read resamples.

    Raises:
        ZooError: the file is not there or not readable.
    """
    try:
        return [Resampled(**{**row, "values": np.array(row["values"])}) for row in _read(path).to_pylist()]
    except (KeyError, TypeError) as error:
        raise ZooError(f"{path}: is not a table of resamples ({error}); {_EXPECTED}") from None


def content_sha256(content: bytes | None) -> str:
    """Return the SHA-256 of the bytes of a file."""
    return hashlib.sha256(content or b"").hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        ZooError: it is not there.
    """
    try:
        return content_sha256(path.read_bytes())
    except OSError as error:
        raise ZooError(f"{path}: cannot be read ({error.strerror}); {_EXPECTED}") from None


def _prediction(part: pa.Table) -> TargetPrediction:
    first = part.slice(0, 1).to_pylist()[0]
    is_number = first["true_name"] is None
    truth, predicted = ("truth", "predicted") if is_number else ("true_name", "predicted_name")
    kind = np.float64 if is_number else str
    return TargetPrediction(
        cell=first["cell"],
        target=first["target"],
        by=first["by"],
        penalty=first["penalty"],
        models=part["model_id"].to_numpy(),
        epochs=part["epoch"].to_numpy(),
        truth=part[truth].to_numpy().astype(kind),
        predicted=part[predicted].to_numpy().astype(kind),
    )


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        reason = one_line(error) if path.exists() else "it is not there"
        raise ZooError(f"{path}: cannot be read ({reason}); {_EXPECTED}") from None


def _content(table: pa.Table) -> bytes:
    content = pa.BufferOutputStream()
    numbers = [name for name in ("predicted", "values.list.element") if name.partition(".")[0] in table.column_names]
    pq.write_table(
        table,
        content,
        compression="zstd",
        compression_level=9,
        use_dictionary=[name for name in table.column_names if name not in ("predicted", "values")],
        use_byte_stream_split=numbers,  # digits that are 0 in all rows then take no room
    )
    return bytes(content.getvalue().to_pybytes())
