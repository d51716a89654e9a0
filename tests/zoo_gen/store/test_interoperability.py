"""A zoo is read by others as by us: tensorstore and DuckDB know nothing of this package."""

import ast
import struct
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.conftest import files_of
from zoo_gen import open_zoo
from zoo_gen.cli.main import main

duckdb = pytest.importorskip("duckdb")
tensorstore = pytest.importorskip("tensorstore")


def test_tensorstore_reads_every_array_byte_for_byte(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    for name in (*zoo.extent.arrays(), "epoch"):
        path = tiny_zoo / "weights.zarr" / name
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}}
        array = tensorstore.open(spec, read=True).result()
        ours = zoo.array(name)[:]
        assert array.read().result().tobytes() == ours.tobytes()
        assert array.domain.labels == zoo.array(name).metadata.dimension_names


def test_tensorstore_reads_one_model_alone(tiny_zoo):
    path = tiny_zoo / "weights.zarr" / "weights"
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}}
    array = tensorstore.open(spec, read=True).result()
    assert np.array_equal(array[37].read().result(), open_zoo(tiny_zoo).weights[37])
    assert array.chunk_layout.read_chunk.shape == (1, 5, 100)


def test_duckdb_reads_and_filters_the_parquet_parts(tiny_zoo):
    models = open_zoo(tiny_zoo).models
    query = "SELECT model_id, test_accuracy FROM read_parquet(?) WHERE optimizer = 'adam' ORDER BY model_id"
    with duckdb.connect() as connection:
        answer = connection.execute(query, [str(tiny_zoo / "models" / "*.parquet")]).fetchall()
    rows = models.to_pylist()
    ours = [(row["model_id"], row["test_accuracy"]) for row in rows if row["optimizer"] == "adam"]
    bits = [struct.pack("<f", accuracy) for _, accuracy in answer]
    assert [model for model, _ in answer] == [model for model, _ in ours]
    assert bits == [struct.pack("<f", accuracy) for _, accuracy in ours]


def test_the_hubs_library_reads_the_folder_through_its_card(tiny_zoo, tmp_path):
    from datasets import load_dataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other libraries that datasets looks for
        rows = load_dataset(str(tiny_zoo), "models", cache_dir=str(tmp_path), split="train")
    assert rows.to_list() == open_zoo(tiny_zoo).models.to_pylist()


PICKLED = (b"\x80\x02", b"\x80\x03", b"\x80\x04\x95", b"\x80\x05\x95")


def test_nothing_in_a_zoo_is_pickled(tiny_zoo):
    """Neither a file of its own nor a codec that could hold objects."""
    for path in tiny_zoo.rglob("*"):
        if path.is_file():
            assert not path.read_bytes().startswith(PICKLED), path
    for path in (tiny_zoo / "weights.zarr").rglob("zarr.json"):
        text = path.read_text()
        assert "pickle" not in text
        assert '"object"' not in text


@pytest.mark.parametrize("room", ["files", "manifest", "store", "zoo", "engine"])
def test_the_code_that_reads_zoos_never_unpickles_nor_evaluates(room):
    (folder,) = find_spec(f"zoo_gen.{room}").submodule_search_locations
    tree = ast.Module([ast.parse(path.read_text()) for path in sorted(Path(folder).glob("*.py"))], [])
    assert len(tree.body) > 3
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not names & {"eval", "exec"}
    assert not imported & {"pickle", "cloudpickle", "dill", "marshal", "shelve"}


@pytest.mark.parametrize("name", ["../out", "a/b", "/out", "..", ".", "", "a\\\\b", "C:out", "~root", "x" * 101])
def test_a_name_that_could_lead_out_of_the_folder_is_refused(tmp_path, tiny_manifest, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    escaped = name.replace("\n", "\\n")
    tiny_manifest.write_text(tiny_manifest.read_text().replace('name = "tiny"', f'name = "{escaped}"', 1))
    before = files_of(tmp_path)
    result = CliRunner().invoke(main, ["run", str(tiny_manifest), "--workers", "1"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert files_of(tmp_path) == before
