"""CSVs of every dialect that pandas, arrow, R and spreadsheets write give the table that was written."""

import io
import math

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo_gen import ZooError
from zoo_gen.published.formats import cells, dialect

ROWS = {
    "file": ["c0.pt", "weights/c 1.pt", "ä, b.pt"],
    "seed": [0, 12, 2**63 - 1],
    "rate": [0.001, 1e-7, 12.5],
    "ok": [True, False, True],
    "note": ['says "so"', "two\nlines", "plain"],
}


def read(content):
    """Return a CSV as columns of Python values, name -> values."""
    table = dialect.parse(content, where="models.csv")
    decimal = cells.decimal_sign(table.columns)
    values = (cells.typed(column, decimal=decimal).values.to_pylist() for column in table.columns)
    return dict(zip(table.names, values, strict=True))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("delimiter", "decimal"), [(",", "."), (";", ","), ("\t", "."), ("\t", ","), ("|", ".")])
@pytest.mark.parametrize("quoting", [0, 1, 2])
def test_what_pandas_writes(encoding, end, delimiter, decimal, quoting):
    rows = ROWS if end != "\r" else ROWS | {"note": ["a", "b", "c"]}  # else a line end in a cell would be another one
    frame = pd.DataFrame(rows)
    text = frame.to_csv(index=False, sep=delimiter, decimal=decimal, lineterminator=end, quoting=quoting)
    assert read(text.encode(encoding)) == rows


@pytest.mark.parametrize("quoting", ["needed", "all_valid", "none"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_arrow_writes(quoting, delimiter):
    rows = {"file": ["a.pt", "b.pt"], "rate": [0.5, 1e-9], "seed": [1, 2]}
    sink = io.BytesIO()
    pa_csv.write_csv(pa.table(rows), sink, pa_csv.WriteOptions(quoting_style=quoting, delimiter=delimiter))
    assert read(sink.getvalue()) == rows


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\r\nfile;run\r\nc0.pt;r0\r\nc1.pt;r1\r\n",  # Excel's hint
        "file, run\nc0.pt, r0\nc1.pt, r1\n",
        'file, run\nc0.pt, "r0"\nc1.pt, "r1"\n',
        " file ,run \n c0.pt , r0\n\nc1.pt,r1  \n",
        "file,run,,\nc0.pt,r0,,\nc1.pt,r1,,\n,,,\n",  # empty cells that a spreadsheet once held
        "# file,run\nc0.pt,r0\nc1.pt,r1\n",  # numpy.savetxt
        "file,run\nc0.pt,r0\nc1.pt,r1",
        "file,run\nc0.pt,r0\nc1.pt,r1\nc2.p",  # cut off
        'file,run\nc0.pt,r0\nc1.pt,r1\nc2.pt,"r',
    ],
)
def test_what_lies_around_cells_is_left_out(text):
    assert read(text.encode()) == {"file": ["c0.pt", "c1.pt"], "run": ["r0", "r1"]}


def test_a_name_that_r_leaves_out_is_of_the_first_column():
    assert read(b'"file","run"\n"1","c0.pt","r0"\n"2","c1.pt","r1"\n') == {
        "": [1, 2],
        "file": ["c0.pt", "c1.pt"],
        "run": ["r0", "r1"],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n3\n5,6\n", r"models\.csv: line 3 has 1 columns; expected 2"),
        (b"a,b\n1,2\n3,4,5\n5,6\n", r"models\.csv: line 3 has 3 columns; expected 2"),
        (b"a,b\n1,2\n3\n", "line 3 has 1 columns"),  # its end is whole, so that it was not cut off
        (b"a,a\n1,2\n", "has two columns 'a'"),
        (b'a,b\n1,"2\n3,4\n5,6\n', "holds a quote that is not closed"),
        (b"a\0b\n1\n", "holds bytes that no text has"),
        (b"", "is empty"),
        (b"\r\n\r\n", "is empty"),
        ("a,b\n".encode("utf-16") + b"\x00", "is no text in UTF-16"),
        (b"a,b\n\x81,2\n", "neither in UTF-8 nor in Windows-1252"),
    ],
)
def test_what_is_no_table_is_refused_by_its_line(content, message):
    with pytest.raises(ZooError, match=message):
        read(content)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.91", 0.91),
        ("+.5", 0.5),
        ("-1E-3", -0.001),
        ("\u22122", -2.0),
        ("91%", 0.91),
        ("91.25 %", 0.9125),
        ("tensor(0.91)", 0.91),
        ("tensor(0.91, device='cuda:0')", 0.91),
        ("tensor([0.91], dtype=torch.float64, grad_fn=<DivBackward0>)", 0.91),
        ("np.float64(0.91)", 0.91),
        ("tf.Tensor(0.91, shape=(), dtype=float32)", 0.91),
        ("Array(0.91, dtype=float32)", 0.91),
        ("12,345,678", 12_345_678.0),
        ("1,234.5", 1234.5),
        ("1.234,5", 1234.5),
        ("1.234.567", 1_234_567.0),
        ("12 345.5", 12_345.5),
        ("12\u202f345", 12_345.0),
        ("12'345", 12_345.0),
        ("1,234", None),  # a thousand, or one and a quarter?
        ("0,91", None),  # in a table with decimal points
        ("1_000", None),
        ("0.91 (best)", None),
        ("tensor([0.91, 0.92])", None),
        ("2024-01-01", None),
        ("1.2.3", None),
        ("0x10", None),
        ("", None),
    ],
)
def test_a_cell_is_a_number_where_that_is_certain(text, value):
    reading = cells.number(text, decimal=".")
    assert (reading and reading[0]) == value


def test_columns_stay_text_where_a_number_would_not_hold_them():
    def typed(*texts):
        return cells.typed(pa.chunked_array([list(texts)], pa.string()), decimal=".").values.to_pylist()

    assert typed("18446744073709551615", "3") == [2**64 - 1, 3]
    assert typed("18446744073709551616", "3") == ["18446744073709551616", "3"]
    assert typed("9007199254740993", "0.5") == ["9007199254740993", "0.5"]
    assert typed("12e4567", "1e5") == ["12e4567", "1e5"]  # digests, perhaps
    assert typed("007", "010") == ["007", "010"]
    assert typed("91%", "0.92") == ["91%", "0.92"]
    assert typed("0.1", "auto") == ["0.1", "auto"]
    assert typed("none", "cosine") == ["none", "cosine"]  # the name of a schedule
    assert typed("0.1", "none", "N/A", "#DIV/0!", "-") == [0.1, None, None, None, None]
    assert typed("inf", "-inf", "0") == [math.inf, -math.inf, 0.0]


TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufeff"), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(TEXT, st.floats(allow_nan=False, allow_infinity=False), TEXT), min_size=1, max_size=6),
    delimiter=st.sampled_from(",;\t"),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_whatever_is_quoted_comes_back_as_it_was(rows, delimiter, end):
    def quoted(cell):
        return '"' + str(cell).replace('"', '""') + '"'

    lines = [delimiter.join(map(quoted, row)) for row in (("name", "number", "other"), *rows)]
    table = dialect.parse(end.join([*lines, ""]).encode(), where="x")
    filled = [row for row in rows if any(str(cell).strip() for cell in row)]
    for position, column in enumerate(table.columns):
        assert column.to_pylist() == [str(row[position]).strip() or None for row in filled]
    numbers = cells.typed(table.columns[1], decimal=".").values.to_pylist()
    assert list(map(float, numbers)) == [row[1] for row in filled]
