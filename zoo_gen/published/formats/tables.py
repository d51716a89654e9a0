"""Tables inside archives: CSV, plain or gzipped, as columns of text, whole numbers, numbers or truths."""

import gzip
import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from zoo_gen.errors import ZooError
from zoo_gen.published.archives.archive import MOST_TEXT, Archive
from zoo_gen.published.formats import cells, dialect

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
_MOST_EXACT = 2**53  # whole numbers up to which float64 holds every one


@dataclass(frozen=True)
class Sheet:
    """A CSV of an archive: its cells as text and with types, and how they were read."""

    where: str
    texts: pa.Table  # trimmed, null where empty
    values: pa.Table  # with types; see `cells.typed`
    how: Mapping[str, str]  # column -> what was done to its cells, or why they stayed text
    decimal: str  # the sign before decimals; see `cells.decimal_sign`
    notes: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The names of its columns."""
        return list(self.texts.column_names)


def read_sheet(archive: Archive, name: str) -> Sheet:
    """Return a CSV member; whether it is gzipped is seen from its bytes, never from its name.

    Columns without a name that only number the rows, as pandas and R write them, are left out.
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
    where = archive.where(name)
    parsed = dialect.parse(content, where=where)
    decimal = cells.decimal_sign(parsed.columns)
    texts: dict[str, pa.ChunkedArray] = {}
    values: dict[str, pa.ChunkedArray] = {}
    how: dict[str, str] = {}
    notes = [f"{name}: {note}" for note in parsed.notes]
    for position, (title, column) in enumerate(zip(parsed.names, parsed.columns, strict=True)):
        typed = cells.typed(column, decimal=decimal)
        if (title == "" or title.startswith("Unnamed:")) and pa.types.is_integer(typed.values.type) and not texts:
            notes.append(f"{name}: its column {position + 1} has no name and numbers the rows; it was left out")
            continue
        label = title or f"column_{position + 1}"
        if label in texts:
            raise ZooError(f"{where}: has two columns {label!r}; expected names that differ")
        texts[label], values[label] = column, typed.values
        if typed.how:
            how[label] = typed.how
    return Sheet(where, pa.table(texts), pa.table(values), how, decimal, tuple(notes))


def read_csv(archive: Archive, name: str) -> pa.Table:
    """Return a CSV member as a table with types; see `read_sheet`."""
    return read_sheet(archive, name).values


def needed(table: pa.Table, names: tuple[str, ...], *, where: str) -> None:
    """Refuse a table that lacks a column."""
    lacking = [name for name in names if name not in table.column_names]
    if lacking:
        present = ", ".join(table.column_names[:20])
        raise ZooError(f"{where}: has no column {lacking[0]!r}; it has {present}")


def numbers(table: pa.Table, name: str, *, where: str) -> np.ndarray:
    """Return a column as float64 (row,), NaN where it is empty."""
    column = table[name]
    if not pa.types.is_boolean(column.type):
        try:
            return column.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)
        except pa.ArrowException:
            pass
    for row, cell in enumerate(column.to_pylist()):
        if cell is not None and not (isinstance(cell, str) and cells.number(cell, decimal=".")):
            raise ZooError(f"{where}: line {row + 2} has {name} {cell!r}; expected a number")
    raise ZooError(f"{where}: column {name} holds {column.type}; expected numbers")


def whole(table: pa.Table, name: str, *, where: str) -> np.ndarray:
    """Return a column as int64 (row,)."""
    values = numbers(table, name, where=where)
    wrong = np.flatnonzero(~(np.isfinite(values) & (values == np.floor(values))))
    if len(wrong):
        cell = table[name][int(wrong[0])].as_py()
        raise ZooError(f"{where}: line {wrong[0] + 2} has {name} {cell!r}; expected a whole number")
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
        is_exact = all(type(value) is not int or abs(value) <= _MOST_EXACT for value in values)
        if kinds <= {int, float} and kinds != {int} and is_exact:
            values = [None if value is None else float(value) for value in values]  # type: ignore[arg-type]
        elif len(kinds) > 1 or not kinds <= {int, bool, str}:
            values = [None if value is None else str(value) for value in values]
        if kinds == {int} and any(value is not None and not -(2**63) <= value < 2**63 for value in values):  # type: ignore[operator]
            values = [None if value is None else str(value) for value in values]
        columns[name] = pa.array(values) if kinds else pa.array(values, pa.string())
    return columns
