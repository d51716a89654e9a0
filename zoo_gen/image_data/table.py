"""Table: rows of a CSV or Parquet file of one's own, whose models predict one column from the others.

Inputs are brought to mean 0 and deviation 1 by the training rows. Nothing is filled in: a missing value is refused.
"""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pydantic
from pydantic import Field, model_validator

from zoo_gen.errors import ZooError, one_line, unknown_name
from zoo_gen.image_data import examples
from zoo_gen.image_data.arrays import ImageData
from zoo_gen.image_data.examples import Examples, TaskName
from zoo_gen.image_data.own_files import Choice, completed
from zoo_gen.image_data.places import own_path


class Table(Examples):
    """A column `target` is predicted from the `features`, all other columns if not given.

    Args:
        path: of a CSV (with a head, separated by commas) or Parquet file: absolute, in the working folder, or below the
            data root.
        test_path: of another with the test rows; else `test_share` draws them.
        target: the column to predict.
        features: the columns that models read; looked up.
        normalize: "standard" for inputs of mean 0 and deviation 1, "none" for them as they are.
    """

    source: Literal["table"]
    path: str = Field(min_length=1)
    test_path: str | None = None
    target: str
    features: tuple[str, ...] = Field(min_length=1)
    normalize: Literal["standard", "none"] = "standard"

    @model_validator(mode="before")
    @classmethod
    def _look_up(cls, document: Any, info: pydantic.ValidationInfo) -> Any:
        return completed(document, info, _Choice, _look_up, facts={"task", "features", "train_size", "test_size"})

    @model_validator(mode="after")
    def _distinct_features(self) -> Self:
        if self.target in self.features or len(set(self.features)) < len(self.features):
            raise ValueError(f"features: expected each column once, and not the target {self.target!r}")
        return self

    @property
    def input_shape(self) -> tuple[int]:
        """The shape of what a network reads: the number of features."""
        return (len(self.features),)

    @property
    def read_by_kernels(self) -> bool:
        """Whether our kernels for GPUs read such data."""
        return False

    def stand_in(self, *, n_images: int) -> ImageData:
        """Return random rows of the right shape, made without the data."""
        random = np.random.RandomState(0)
        return examples.stand_in(self, random.standard_normal((n_images, *self.input_shape)).astype(np.float32))


class _Choice(Choice):
    """What decides which rows and columns are read."""

    test_path: str | None = None
    target: str
    features: tuple[str, ...] | None = None
    task: TaskName | None = None


def _look_up(choice: _Choice, root: Path) -> dict[str, Any]:
    """Return what the file says and the manifest does not."""
    path = own_path(choice.path, root)
    table = _read(path)
    if choice.target not in table.column_names:
        raise ZooError(f"{path}: {unknown_name('column', choice.target, table.column_names)}")
    if (choice.test_path is None) == (choice.test_share is None):
        raise ZooError(f"{path}: expected test_share = 0.2 or another share in [data], or test_path, and not both")
    features = choice.features or tuple(name for name in table.column_names if name != choice.target)
    if "" in features:  # as pandas writes the numbers of rows, which may tell the classes of sorted rows
        raise ZooError(
            f"{path}: column {table.column_names.index('') + 1} has no name; expected one, or features = [...]"
        )
    labels = _labels(table, choice.target, path)
    if labels.dtype.kind == "U" and choice.task != "classification":
        _check_text(labels, choice, path)
    where = f"{path} column {choice.target!r}"
    task = examples.task_of(labels, choice.task, whole_is=None, where=where)
    n_train, n_test = len(table), 0
    if choice.test_share is not None:
        train, test = examples.split_off(len(table), choice.test_share, choice.seed)
        n_train, n_test = len(train), len(test)
    elif choice.test_path is not None:
        n_test = len(_read(own_path(choice.test_path, root)))
    facts: dict[str, Any] = choice.sizes(n_train, n_test)
    if task == "classification":
        facts["classes"] = examples.classes_of(labels, where=where)
    return facts | {"task": task, "features": features}


def load(source: Table, root: Path) -> ImageData:
    """Return the rows.

    Raises:
        ZooError: a file is not there or cannot be read, lacks a column, or has a cell that is missing or no number; the
            message names row and column.
    """
    path = own_path(source.path, root)
    paths = [path] if source.test_path is None else [path, own_path(source.test_path, root)]
    inputs = [_inputs(_read(each), source.features, each) for each in paths]
    labels = [_targets(source, _read(each), each) for each in paths]
    if source.test_share is not None:
        train, test = examples.split_off(len(labels[0]), source.test_share, source.seed)
        inputs, labels = [inputs[0][train], inputs[0][test]], [labels[0][train], labels[0][test]]
    else:
        order = examples.shuffled(len(labels[0]), source.seed)
        inputs[0], labels[0] = inputs[0][order], labels[0][order]
    data = examples.assemble(
        source,
        (inputs[0], inputs[1]),
        (labels[0], labels[1]),
        scale=np.ones(len(source.features)),
        offset=np.zeros(len(source.features)),
        where=str(path),
    )
    return _normalized(data, standard=source.normalize == "standard")


def _normalized(data: ImageData, *, standard: bool) -> ImageData:
    """Return the data with inputs as float32 (row, feature), of mean 0 and deviation 1 over the training rows."""
    parts = [np.array(part) for part in (data.train_images, data.validation_images, data.test_images)]
    if standard:
        for column in range(parts[0].shape[1]):
            mean, deviation = examples.mean_and_deviation(parts[0][:, column])
            for part in parts:
                part[:, column] = (part[:, column] - mean) / (deviation or 1.0)
    train, validation, test = (part.astype(np.float32) for part in parts)
    return replace(data, train_images=train, validation_images=validation, test_images=test)


def _read(path: Path) -> pa.Table:
    stat = path.stat()
    return _read_once(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _read_once(path: Path, changed: int, size: int) -> pa.Table:
    """Return all columns of a file as it was changed last."""
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            table = pq.read_table(path)
        else:
            # An empty field is missing, and so is what usual programs write for it; text is never a number by chance.
            options = pa.csv.ConvertOptions(strings_can_be_null=True)
            table = pa.csv.read_csv(path, convert_options=options)
            if invalid := [field.name for field in table.schema if pa.types.is_binary(field.type)]:
                raise ZooError(f"{path}: column {invalid[0]!r} holds bytes that are no UTF-8; expected a CSV in UTF-8")
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ZooError(
            f"{path}: cannot be read as a CSV or Parquet file ({one_line(error)}); expected a Parquet file, or a CSV "
            "in UTF-8 whose cells are divided by commas"
        ) from None
    names = table.column_names
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ZooError(f"{path}: two columns are called {name!r}; expected each name once")
    if len(table) < 2:
        raise ZooError(f"{path}: has {len(table)} rows; expected two or more")
    return table


def _column(table: pa.Table, name: str, path: Path) -> pa.Array:
    """Return a column without missing values."""
    if name not in table.column_names:
        raise ZooError(f"{path}: {unknown_name('column', name, table.column_names)}")
    column = table[name].combine_chunks()
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise ZooError(f"{path}: {_row(path, row)}, column {name!r}: is missing; expected a value in every row")
    return column


def _inputs(table: pa.Table, features: tuple[str, ...], path: Path) -> np.ndarray:
    """Return the features as float64 (row, feature)."""
    values = np.empty((len(table), len(features)))
    for number, name in enumerate(features):
        column = _column(table, name, path)
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int8())
        if not (
            pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)
        ):
            row, cell = _first_text(column)
            raise ZooError(
                f"{path}: {_row(path, row)}, column {name!r}: is {cell!r}; expected a number, "
                "or features = [...] without this column"
            )
        values[:, number] = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    for row, number in np.argwhere(~np.isfinite(values)):
        value = values[row, number]
        raise ZooError(f"{path}: {_row(path, row)}, column {features[number]!r}: is {value}; expected a finite number")
    return values


def _first_text(column: pa.Array) -> tuple[int, object]:
    """Return the row and the cell of the first value that is no number, or of the first of all."""
    cells = column.to_pylist()
    return next(((row, cell) for row, cell in enumerate(cells) if not _is_number(cell)), (0, cells[0]))


def _labels(table: pa.Table, name: str, path: Path) -> np.ndarray:
    """Return the column to predict (row,): text, whole numbers or numbers."""
    column = _column(table, name, path)
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.array(column.to_pylist(), dtype=str)
    if pa.types.is_boolean(kind):
        return np.array([str(cell).lower() for cell in column.to_pylist()])
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column.to_numpy(zero_copy_only=False)
    raise ZooError(f"{path}: column {name!r} holds {kind}; expected text or numbers")


def _check_text(labels: np.ndarray, choice: _Choice, path: Path) -> None:
    """Refuse a column to predict (row,) that holds text among numbers, or text where numbers are to be predicted."""
    row, cell = _first_text(pa.array(labels.tolist()))
    if choice.task == "regression" or any(_is_number(label) for label in labels):
        raise ZooError(
            f"{path}: {_row(path, row)}, column {choice.target!r}: is {cell!r}; expected a number, or task = "
            '"classification", for which every text is a class'
        )


def _is_number(cell: object) -> bool:
    try:
        float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def _targets(source: Table, table: pa.Table, path: Path) -> np.ndarray:
    labels = _labels(table, source.target, path)
    if source.task == "regression" and labels.dtype.kind in "US":  # of a test_path
        row, cell = _first_text(pa.array(labels.tolist()))
        raise ZooError(f"{path}: {_row(path, row)}, column {source.target!r}: is {cell!r}; expected a number")
    return examples.targets(
        labels, source.classes, place=lambda row: f"{path}: {_row(path, row)}, column {source.target!r}"
    )


def _row(path: Path, row: int) -> str:
    """Return what a person calls a row: its line in a CSV, whose first one is the head, or its number from 0."""
    return f"row {row}" if path.suffix.lower() in (".parquet", ".pq") else f"line {row + 2}"
