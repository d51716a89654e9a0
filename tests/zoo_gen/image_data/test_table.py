"""CSV and Parquet files become rows of numbers with a column to predict, or are refused by row and column."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.preprocessing import StandardScaler

from zoo_gen.errors import ZooError
from zoo_gen.files.schema import Schema
from zoo_gen.image_data import DataSource, Table, load_image_data

RANDOM = np.random.RandomState(0)
ROWS = [
    [float(a), int(b), "xyz"[int(b) % 3], float(a) * 2 + 1] for a, b in zip(RANDOM.rand(30), range(30), strict=True)
]
HEAD = ["width", "count", "kind", "price"]


class Manifest(Schema):
    data: DataSource


def source(path: Path, **keys: object) -> Table:
    defaults = {"test_share": 0.2} if "test_path" not in keys else {}
    return Manifest.model_validate({"data": {"source": "table", "path": str(path), **defaults, **keys}}).data


def write(path: Path, rows: list[list[object]] = ROWS) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({name: [row[at] for row in rows] for at, name in enumerate(HEAD)}), path)
    else:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([HEAD, *rows])
    return path


@pytest.mark.parametrize("name", ["own.csv", "own.parquet"])
def test_text_names_classes_and_the_other_columns_are_inputs(tmp_path, name):
    described = source(write(tmp_path / name), target="kind", seed=5)
    assert (described.task, described.classes) == ("classification", ("x", "y", "z"))
    assert described.features == ("width", "count", "price")
    assert (described.input_shape, described.n_train, described.n_test) == ((3,), 24, 6)
    data = load_image_data(described)
    order = np.random.RandomState(5).permutation(30)
    test, train = np.sort(order[:6]), order[6:]
    inputs = np.array([[row[0], row[1], row[3]] for row in ROWS])
    scaler = StandardScaler().fit(inputs[train])
    np.testing.assert_allclose(data.train_images, scaler.transform(inputs[train]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(data.test_images, scaler.transform(inputs[test]), rtol=1e-5, atol=1e-6)
    assert data.test_labels.tolist() == ["xyz".index(ROWS[row][2]) for row in test]


def test_fractions_are_numbers_to_predict(tmp_path):
    path = write(tmp_path / "own.csv")
    described = source(path, target="price", features=["width"], normalize="none")
    assert (described.task, described.n_outputs) == ("regression", 1)
    data = load_image_data(described)
    np.testing.assert_allclose(data.train_images[:, 0] * 2 + 1, data.train_labels, rtol=1e-6)


def test_the_task_of_whole_numbers_has_to_be_said(tmp_path):
    path = write(tmp_path / "own.csv")
    with pytest.raises(ZooError, match=r"column 'count': holds whole numbers; expected task = "):
        source(path, target="count", features=["width"])
    assert source(path, target="count", features=["width"], task="regression").classes is None
    assert len(source(path, target="count", features=["width"], task="classification").classes) == 30


def test_test_rows_may_stand_in_a_file_of_their_own(tmp_path):
    train, test = write(tmp_path / "train.csv"), write(tmp_path / "test.csv", ROWS[:7])
    data = load_image_data(source(train, test_path=str(test), target="kind", features=["count"], normalize="none"))
    assert data.test_images[:, 0].tolist() == list(range(7))
    assert sorted(data.train_images[:, 0].tolist()) == list(range(30))
    assert data.train_images[:, 0].tolist() != list(range(30))  # shuffled


@pytest.mark.parametrize(
    ("change", "keys", "message"),
    [
        (
            (3, 0, ""),
            {"target": "price"},
            r"own.csv: line 5, column 'width': is missing; expected a value in every row",
        ),
        ((3, 3, ""), {"target": "price"}, r"line 5, column 'price': is missing"),
        ((3, 0, "NaN"), {"target": "price"}, r"line 5, column 'width': is missing"),
        ((4, 0, "inf"), {"target": "price"}, r"line 6, column 'width': is inf; expected a finite number"),
        ((7, 0, "wide"), {"target": "price"}, r"line 9, column 'width': is 'wide'; expected a number, or features"),
        (
            (7, 3, "dear"),
            {"target": "price", "task": "regression"},
            r"line 9, column 'price': is 'dear'; expected a number",
        ),
        ((7, 3, "dear"), {"target": "price"}, r"line 9, column 'price': is 'dear'; expected a number, or task = "),
        (None, {"target": "cost"}, r"unknown column 'cost'; .*valid: count, kind, price, width"),
        (None, {"target": "price", "features": ["size"]}, r"unknown column 'size'"),
        (None, {"target": "price", "features": ["kind"]}, r"line 2, column 'kind': is 'x'; expected a number"),
        (None, {"target": "kind", "test_share": None}, r"expected test_share = 0.2 .* or test_path, and not both"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_by_row_and_column(tmp_path, change, keys, message):
    rows = [list(row) for row in ROWS]
    if change:
        row, column, value = change
        rows[row][column] = value
    path = write(tmp_path / "own.csv", rows)
    features = {} if "features" in keys else {"features": ["width", "count"]}
    with pytest.raises(ZooError, match=message):
        load_image_data(source(path, **features, **keys))


def test_a_constant_column_and_a_truth_are_numbers(tmp_path):
    table = pa.table({"same": [3.0] * 10, "flag": [True, False] * 5, "y": RANDOM.rand(10)})
    pq.write_table(table, tmp_path / "own.parquet")
    data = load_image_data(source(tmp_path / "own.parquet", target="y"))
    assert not data.train_images[:, 0].any()
    assert len(np.unique(data.train_images[:, 1])) == 2


def test_what_is_no_table_is_one_line(tmp_path):
    path = tmp_path / "own.parquet"
    path.write_bytes(b"no table")
    with pytest.raises(ZooError, match=r"own.parquet: cannot be read as a CSV or Parquet file"):
        source(path, target="y")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,a,y\n1,2,u\n3,4,v\n", "two columns are called 'a'; expected each name once"),
        (",a,y\n0,2,u\n1,4,v\n", r"column 1 has no name; expected one, or features = \[...\]"),
        ("a;b;y\n1,5;2;u\n3,5;4;v\n", "a CSV in UTF-8 whose cells are divided by commas"),
        ("a,y\n1,h\xfc\n2,v\n", "column 'y' holds bytes that are no UTF-8; expected a CSV in UTF-8"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path, content, message):
    path = tmp_path / "own.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ZooError, match=message):
        source(path, target="y")


def test_a_column_without_a_name_is_no_hindrance_to_chosen_features(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(",a,y\n0,2,u\n1,4,v\n2,5,u\n")
    assert source(path, target="y", features=["a"]).features == ("a",)


@pytest.mark.parametrize("features", [["width", "price"], ["width", "width"]])
def test_features_are_distinct_and_never_the_target(tmp_path, features):
    with pytest.raises(ValueError, match="features: expected each column once, and not the target 'price'"):
        source(write(tmp_path / "own.csv"), target="price", features=features)
