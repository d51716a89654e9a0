"""Tables inside archives: CSV, plain or gzipped, as columns of text, whole numbers, numbers or truths."""

import gzip
import io
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from zoo_gen.errors import ZooError
from zoo_gen.published.archives.archive import MOST_TEXT, Archive

# What the training code of the ModelZoos and their forerunners calls its metrics, and writes where it measured nothing.
METRICS = {
    "train_loss": "train_loss",
    "train_acc": "train_accuracy",
    "val_loss": "validation_loss",
    "val_acc": "validation_accuracy",
    "test_loss": "test_loss",
    "test_acc": "test_accuracy",
}
SENTINEL = -999


def read_csv(archive: Archive, name: str) -> pa.Table:
    """Return a CSV member as a table; whether it is gzipped is seen from its bytes, never from its name.

    A first column without a name is the index that pandas writes, and is left out.

    Raises:
        ZooError: it is not there or no CSV.
    """
    content = archive.read(name)
    if content[:2] == b"\x1f\x8b":
        try:
            with gzip.open(io.BytesIO(content)) as file:
                content = file.read(MOST_TEXT + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ZooError(f"{archive.where(name)}: is damaged ({error})") from None
        if len(content) > MOST_TEXT:
            raise ZooError(f"{archive.where(name)}: unpacks to more than {MOST_TEXT:,} bytes; expected a table")
    options = pa_csv.ConvertOptions(strings_can_be_null=True, null_values=["", "NA", "NULL", "null", "None"])
    try:
        table = pa_csv.read_csv(io.BytesIO(content), convert_options=options)
    except pa.ArrowException as error:
        raise ZooError(f"{archive.where(name)}: cannot be read as CSV ({error})") from None
    unnamed = [column for column in table.column_names if column == "" or column.startswith("Unnamed:")]
    return table.drop_columns(unnamed[:1]) if unnamed else table


def needed(table: pa.Table, names: tuple[str, ...], *, where: str) -> None:
    """Refuse a table that lacks a column.

    Raises:
        ZooError: it does.
    """
    lacking = [name for name in names if name not in table.column_names]
    if lacking:
        present = ", ".join(table.column_names[:20])
        raise ZooError(f"{where}: has no column {lacking[0]!r}; it has {present}")


def numbers(table: pa.Table, name: str, *, where: str) -> np.ndarray:
    """Return a column as float64 (row,), NaN where it is empty.

    Raises:
        ZooError: it holds something else than numbers.
    """
    try:
        return table[name].cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)
    except pa.ArrowException:
        raise ZooError(f"{where}: column {name} holds {table[name].type}; expected numbers") from None


def whole(table: pa.Table, name: str, *, where: str) -> np.ndarray:
    """Return a column as int64 (row,).

    Raises:
        ZooError: it holds something else than whole numbers.
    """
    values = numbers(table, name, where=where)
    if not (np.isfinite(values) & (values == np.floor(values))).all():
        raise ZooError(f"{where}: column {name} holds something else than whole numbers")
    return values.astype(np.int64)


def first_of_groups(group: np.ndarray, n_groups: int) -> np.ndarray:
    """Return the first row (group,) of each group (row,), groups numbered from 0."""
    first = np.full(n_groups, -1, dtype=np.int64)
    first[group[::-1]] = np.arange(len(group))[::-1]
    return first


def columns_of(rows: Sequence[Mapping[str, object]]) -> dict[str, pa.Array]:
    """Return plain rows as columns: numbers, truths and texts as they are, all else and all mixed as text."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        kinds = {type(value) for value in values if value is not None}
        if kinds <= {int, float} and kinds != {int}:
            values = [None if value is None else float(value) for value in values]  # type: ignore[arg-type]
        elif len(kinds) > 1 or not kinds <= {int, bool, str}:
            values = [None if value is None else str(value) for value in values]
        if kinds == {int} and any(value is not None and not -(2**63) <= value < 2**63 for value in values):  # type: ignore[operator]
            values = [None if value is None else str(value) for value in values]
        columns[name] = pa.array(values) if kinds else pa.array(values, pa.string())
    return columns
