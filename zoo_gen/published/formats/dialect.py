"""CSV files as columns of text, whatever wrote them: encodings, delimiters, line ends, quotes, and cut last lines.

Cells are never converted here. What cannot be told for certain is refused with its line, the header counted as line 1.
"""

import codecs
import csv
import io
import re
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv as pa_csv

from zoo_gen.errors import ZooError, one_line

_DELIMITERS = (",", ";", "\t", "|")
_LOOKED_AT = 20  # lines that tell the delimiter
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_BLOCK = 2**24  # bytes that pyarrow parses at once: no row may be longer
_BLANK_BEFORE_QUOTE = re.compile(r'[,;\t|][ ]+"')


@dataclass(frozen=True)
class TextTable:
    """A CSV as it stands there: names and cells without the blanks around them, null where a cell is empty."""

    names: tuple[str, ...]  # "" for a column without a name
    columns: tuple[pa.ChunkedArray, ...]
    delimiter: str
    notes: tuple[str, ...] = ()  # what a reader should know of how it was read


def parse(content: bytes, *, where: str) -> TextTable:
    """Return the columns of a CSV file."""
    text, notes = _decoded(content, where)
    text = text.lstrip("\ufeff")
    if "\n" not in text:
        text = text.replace("\r", "\n")
    first, _, rest = text.partition("\n")
    delimiter = None
    if hint := re.fullmatch(r"\"?sep=(.)\"?\r?", first.strip("\ufeff"), re.IGNORECASE):  # what Excel writes and reads
        text, delimiter = rest, hint[1]
    ends_whole = text.endswith(("\n", "\r"))
    text = text.lstrip("\r\n")
    if not text.strip():
        raise ZooError(f"{where}: is empty; expected a table with a header")
    text, cut = _without_open_quote(text if ends_whole else f"{text}\n", where=where)
    delimiter = delimiter or _delimiter(text)
    names = _names(text, delimiter)
    if _BLANK_BEFORE_QUOTE.search(text):  # which pyarrow takes for a part of the cell
        columns, wrong = _read_slowly(text, delimiter, len(names))
    else:
        columns, wrong = _read(text, delimiter, len(names), where=where)
    if wrong and not cut and not ends_whole and len(wrong) == 1 and wrong[0].is_last and wrong[0].count < len(names):
        cut = wrong.pop().line
    if wrong:
        each = wrong[0]
        raise ZooError(f"{where}: line {each.line} has {each.count} columns; expected {len(names)}, as in the header")
    if cut:
        notes.append(f"line {cut} is cut off; it was left out")
    names, columns = _without_empty(names, columns, where=where)
    return TextTable(tuple(names), tuple(columns), delimiter, tuple(notes))


@dataclass(frozen=True)
class _Wrong:
    """A line with another number of columns than the header."""

    line: int
    count: int
    is_last: bool


def _decoded(content: bytes, where: str) -> tuple[str, list[str]]:
    """Return the text of a file and what to say of its encoding: UTF-8 if it can be, UTF-16 if it says so."""
    encoding = next((name for bom, name in _BOMS if content.startswith(bom)), "utf-8")
    if encoding == "utf-8" and b"\0" in content:
        raise ZooError(f"{where}: holds bytes that no text has; expected a CSV in UTF-8")
    try:
        return content.decode(encoding), []
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise ZooError(f"{where}: is no text in {encoding.upper()} ({error.reason})") from None
    try:
        return content.decode("cp1252"), ["is not in UTF-8; it was read as Windows-1252"]
    except UnicodeDecodeError:
        raise ZooError(f"{where}: is neither in UTF-8 nor in Windows-1252; expected a CSV in UTF-8") from None


def _without_open_quote(text: str, *, where: str) -> tuple[str, int]:
    """Return the text, and the number of its last line if that was cut off within quotes and is left out."""
    if text.count('"') % 2 == 0:
        return text, 0
    body = text.rstrip("\r\n")
    before, _, last = body.rpartition("\n")
    number = body.count("\n") + 1
    if last.count('"') % 2 and before.count('"') % 2 == 0 and number > 1:
        return f"{before}\n", number
    raise ZooError(f"{where}: holds a quote that is not closed; expected two around a cell")


def _delimiter(text: str) -> str:
    """Return the delimiter under which the first lines have most columns, all of them equally many."""
    head = [line for line in text.splitlines()[: _LOOKED_AT + 1] if line.strip()][:_LOOKED_AT]
    best, most = ",", (False, 1)
    for delimiter in _DELIMITERS:
        rows = list(csv.reader(head, delimiter=delimiter, skipinitialspace=True))
        counts = [len(row) for row in rows]
        is_even = len(set(counts[:-1])) == 1 or len(counts) == 1  # the last of them may be cut off
        if counts[0] > 1 and (is_even, counts[0]) > most:
            best, most = delimiter, (is_even, counts[0])
    return best


def _names(text: str, delimiter: str) -> list[str]:
    """Return the names of the columns, which the first row has.

    R's write.table leaves out the name of the column that numbers its rows, and the delimiter after it.
    """
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    header = next(rows)
    names = [name.strip() for name in header]
    if names[0].startswith("# "):
        names[0] = names[0][2:].strip()  # numpy.savetxt
    head = [row for _, row in zip(range(_LOOKED_AT), (row for row in rows if row), strict=False)]
    if head and all(len(row) == len(names) + 1 for row in head):
        names = [*names, ""] if all(not row[-1].strip() for row in head) else ["", *names]
    return names


def _read(text: str, delimiter: str, n_columns: int, *, where: str) -> tuple[list[pa.ChunkedArray], list[_Wrong]]:
    names = [str(position) for position in range(n_columns)]
    invalid: list[pa_csv.InvalidRow] = []

    def note(row: pa_csv.InvalidRow) -> str:
        invalid.append(row)
        return "skip"

    content = text.encode()
    try:
        table = pa_csv.read_csv(
            io.BytesIO(content),
            read_options=pa_csv.ReadOptions(
                column_names=names, skip_rows_after_names=1, use_threads=False, block_size=_BLOCK
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=delimiter, newlines_in_values='"' in text, invalid_row_handler=note
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), null_values=[], strings_can_be_null=False
            ),
        )
    except pa.ArrowException as error:
        raise ZooError(f"{where}: cannot be read as CSV ({one_line(error)})") from None
    end = text.rstrip("\r\n")
    wrong = [_Wrong(row.number or 0, row.actual_columns, end.endswith(row.text.rstrip("\r\n"))) for row in invalid]
    return table.columns, wrong


def _read_slowly(text: str, delimiter: str, n_columns: int) -> tuple[list[pa.ChunkedArray], list[_Wrong]]:
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True))
    numbered = [(line, row) for line, row in enumerate(rows, start=1) if row][1:]
    last = numbered[-1][0] if numbered else 0
    wrong = [_Wrong(line, len(row), line == last) for line, row in numbered if len(row) != n_columns]
    whole = [row for _, row in numbered if len(row) == n_columns]
    cells = zip(*whole, strict=True) if whole else [()] * n_columns
    return [pa.chunked_array([pa.array(list(column), pa.string())]) for column in cells], wrong


def _without_empty(
    names: list[str], columns: list[pa.ChunkedArray], *, where: str
) -> tuple[list[str], list[pa.ChunkedArray]]:
    """Return the columns trimmed, without rows that are empty throughout and without nameless ones that are empty."""
    import pyarrow.compute as pc

    trimmed = []
    for column in columns:
        cells = pc.utf8_trim_whitespace(column)
        trimmed.append(pc.if_else(pc.equal(cells, ""), pa.scalar(None, pa.string()), cells))
    if trimmed:
        is_filled = pc.is_valid(trimmed[0])
        for cells in trimmed[1:]:
            is_filled = pc.or_(is_filled, pc.is_valid(cells))
        if not pc.all(is_filled, min_count=0).as_py():
            trimmed = [cells.filter(is_filled) for cells in trimmed]
    pairs = [(name, cells) for name, cells in zip(names, trimmed, strict=True) if name or cells.null_count < len(cells)]
    twice = sorted({name for name, _ in pairs if name and [each for each, _ in pairs].count(name) > 1})
    if twice:
        raise ZooError(f"{where}: has two columns {twice[0]!r}; expected names that differ")
    return [name for name, _ in pairs], [cells for _, cells in pairs]
