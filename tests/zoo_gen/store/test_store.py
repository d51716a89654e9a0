import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr

from tests.conftest import begin, files_of
from zoo_gen import engine
from zoo_gen.errors import ZooError
from zoo_gen.manifest import read_manifest
from zoo_gen.store import Extent, Store, extent
from zoo_gen.store.shards import model_sha256
from zoo_gen.zoo import open_zoo

METRICS = ["train_loss", "train_accuracy", "test_loss", "test_accuracy", "running_loss", "running_accuracy"]


def test_a_shard_is_one_file_an_array_and_one_parquet_part(tiny_zoo):
    extent = Extent.of(read_manifest(tiny_zoo / "manifest.toml"))
    assert (extent.n_models, extent.n_shards, extent.models_per_shard) == (40, 4, 12)
    files = set(files_of(tiny_zoo))
    expected = {"README.md", "SHA256SUMS", "manifest.toml", "weights.zarr/zarr.json", "weights.zarr/epoch/zarr.json"}
    expected |= {"weights.zarr/epoch/c/0"}
    for shard in range(4):
        expected.add(f"models/part-{shard:05d}.parquet")
        expected |= {f"weights.zarr/weights/c/{shard}/0/0", f"weights.zarr/test_class_f1/c/{shard}/0/0"}
        expected |= {f"weights.zarr/{name}/c/{shard}/0" for name in METRICS}
    expected |= {f"weights.zarr/{name}/zarr.json" for name in extent.arrays()}
    assert files == expected


def test_arrays_are_chunked_by_model_checksummed_and_named(tiny_zoo):
    group = zarr.open_group(tiny_zoo / "weights.zarr", mode="r")
    weights = group["weights"]
    assert weights.shape == (40, 5, 100)
    assert weights.chunks == (1, 5, 100)
    assert weights.shards == (12, 5, 100)
    assert weights.dtype == np.float32
    assert np.isnan(weights.fill_value)
    assert weights.metadata.dimension_names == ("model", "checkpoint", "parameter")
    assert group["test_class_f1"].metadata.dimension_names == ("model", "checkpoint", "class")
    metadata = json.loads((tiny_zoo / "weights.zarr" / "weights" / "zarr.json").read_text())
    inner = [codec["name"] for codec in metadata["codecs"][0]["configuration"]["codecs"]]
    assert inner == ["bytes", "blosc", "crc32c"]
    assert "consolidated_metadata" not in (tiny_zoo / "weights.zarr" / "zarr.json").read_text()


def test_the_store_says_what_it_is(tiny_zoo):
    attributes = Store.open(tiny_zoo).attributes
    manifest = read_manifest(tiny_zoo / "manifest.toml")
    assert attributes["schema"] == 1
    assert attributes["manifest_digest"] == manifest.digest
    assert attributes["checkpoint_epochs"] == [0, 1, 2, 3, 4]
    assert attributes["device"] == "cpu"
    assert set(attributes["versions"]) == {"zoo-gen", "torch", "zarr", "numpy"}
    assert attributes["layout"]["parameters"][1] == {
        "name": "linear2.weight",
        "layer": "linear2",
        "role": "weight",
        "shape": [4, 5],
        "start": 80,
        "stop": 100,
    }


def test_the_table_holds_split_hyperparameters_outcome_and_digest(tiny_zoo):
    table = pq.read_table(tiny_zoo / "models" / "part-00003.parquet")
    assert table.column_names == [
        *["model_id", "seed", "activation", "initialization", "initialization_deviation", "initialization_scale"],
        *["initial_bias", "optimizer", "learning_rate", "schedule", "momentum", "weight_decay", "l2", "dropout"],
        *["batch_size", "train_fraction", "label_noise", "split", "status", *METRICS, "generalization_gap", "sha256"],
    ]
    assert table["model_id"].to_pylist() == [36, 37, 38, 39]
    assert set(table["status"].to_pylist()) == {"complete"}
    group = zarr.open_group(tiny_zoo / "weights.zarr", mode="r")
    arrays = {name: group[name][36:40] for name in ("weights", "test_class_f1", *METRICS)}
    for row in range(4):
        assert table["sha256"][row].as_py() == model_sha256(arrays, row)
        assert table["test_accuracy"][row].as_py() == arrays["test_accuracy"][row, -1]
    origin = json.loads(table.schema.metadata[b"zoo"])
    assert origin["manifest_digest"] == read_manifest(tiny_zoo / "manifest.toml").digest


def test_one_changed_bit_changes_a_models_digest():
    arrays = {"weights": np.ones((1, 2, 3), np.float32), "test_loss": np.zeros((1, 2), np.float32)}
    before = model_sha256(arrays, 0)
    arrays["test_loss"].view(np.uint32)[0, 1] ^= 1
    assert model_sha256(arrays, 0) != before


@pytest.mark.parametrize(
    ("epochs", "width", "chunk", "padded"),
    # A checkpoint has 20 * width numbers: 26 of 9,840 bytes fit into 256 KiB, and chunks are evened out.
    [(50, 123, 26, 52), (51, 123, 26, 52), (52, 123, 18, 54), (3, 3276, 1, 4), (3, 9000, 1, 4), (75, 5, 76, 76)],
)
def test_trajectories_are_cut_by_checkpoint_into_equal_chunks(tmp_path, tiny_manifest, epochs, width, chunk, padded):
    text = tiny_manifest.read_text().replace("epochs = 4", f"epochs = {epochs}")
    tiny_manifest.write_text(text.replace("[16, 5, 4]", f"[16, {width}, 4]"))
    begin(tmp_path / "zoo", tiny_manifest)
    group = zarr.open_group(tmp_path / "zoo" / "weights.zarr", mode="r")
    assert group["weights"].chunks == (1, chunk, 20 * width)
    assert group["weights"].shards == (12, padded, 20 * width)
    assert group["test_loss"].chunks == (12, epochs + 1)
    assert group["test_loss"].shards is None


def test_a_small_zoo_is_cut_so_that_several_workers_share_it(tiny_manifest):
    text = tiny_manifest.read_text().replace("models_per_shard = 12", "")
    tiny_manifest.write_text(text)
    assert Extent.of(read_manifest(tiny_manifest)).n_shards == 5  # of 8 models each
    tiny_manifest.write_text(text.replace("[1, 5]", "[1, 200]"))
    assert Extent.of(read_manifest(tiny_manifest)).n_shards == 16


def test_an_existing_zoo_keeps_the_shards_it_was_made_with(tmp_path, tiny_zoo, monkeypatch):
    text = (tiny_zoo / "manifest.toml").read_text().replace("models_per_shard = 12", "")
    (tmp_path / "tiny.toml").write_text(text)
    engine.run(tmp_path / "tiny.toml", tmp_path / "tiny", workers=1)
    monkeypatch.setattr(extent, "_FEWEST_MODELS", 20)  # as another version might choose
    assert Extent.of(read_manifest(tmp_path / "tiny.toml")).n_shards == 2
    assert open_zoo(tmp_path / "tiny").complete
    assert engine.run(tmp_path / "tiny.toml", tmp_path / "tiny", workers=1).n_shards == 5


def test_shards_chosen_by_size_hold_about_64_mib(tiny_manifest):
    text = tiny_manifest.read_text().replace("models_per_shard = 12", "").replace("[1, 5]", "[1, 1000000]")
    tiny_manifest.write_text(text)
    extent = Extent.of(read_manifest(tiny_manifest))
    assert extent.models_per_shard == 1024
    tiny_manifest.write_text(text.replace("epochs = 4", "epochs = 499"))
    extent = Extent.of(read_manifest(tiny_manifest))
    assert extent.models_per_shard * 500 * 100 * 4 <= 64 * 2**20 < (extent.models_per_shard + 1) * 500 * 100 * 4


def test_another_manifests_zoo_is_refused_and_left_as_it_is(tiny_zoo, tiny_manifest):
    tiny_manifest.write_text(tiny_manifest.read_text().replace("epochs = 4", "epochs = 5"))
    before = files_of(tiny_zoo)
    with pytest.raises(ZooError, match=r"holds the zoo 'tiny' of another manifest .* choose another folder"):
        begin(tiny_zoo, tiny_manifest)
    assert files_of(tiny_zoo) == before


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path, tiny_manifest):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "thesis.tex").write_text("precious")
    with pytest.raises(ZooError, match="exists and is not a zoo; expected a new or empty folder"):
        begin(folder, tiny_manifest)
    assert files_of(folder) == {"thesis.tex": b"precious"}


def test_an_empty_folder_is_filled_and_stays_the_same_folder(tmp_path, tiny_manifest, monkeypatch):
    """It may be a mount point, or the folder we stand in, which could not be replaced."""
    folder = tmp_path / "here"
    folder.mkdir()
    inode = folder.stat().st_ino
    monkeypatch.chdir(folder)
    begin(Path(), tiny_manifest)
    assert folder.stat().st_ino == inode
    assert {path.name for path in folder.iterdir()} == {"SHA256SUMS", "manifest.toml", "models", "weights.zarr"}


def test_a_link_to_a_folder_leads_to_the_zoo(tmp_path, tiny_manifest):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    begin(tmp_path / "link", tiny_manifest)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target" / "manifest.toml").exists()


def test_a_damaged_store_is_not_taken_for_a_zoo_to_go_on_with(tmp_path, tiny_manifest):
    folder = tmp_path / "zoo"
    begin(folder, tiny_manifest)
    (folder / "weights.zarr" / "zarr.json").write_text("[]")
    with pytest.raises(ZooError, match=r"weights\.zarr: cannot be read"):
        begin(folder, tiny_manifest)


@pytest.mark.parametrize("missing", ["manifest.toml", "weights.zarr/zarr.json"])
def test_a_folder_that_is_no_zoo_says_what_it_lacks(tmp_path, tiny_manifest, missing):
    folder = tmp_path / "zoo"
    begin(folder, tiny_manifest)
    (folder / missing).unlink()
    with pytest.raises(ZooError, match=f"is not a zoo; it has no {missing}"):
        Store.open(folder)


def test_attributes_that_cannot_be_read_are_named(tmp_path, tiny_manifest):
    folder = tmp_path / "zoo"
    begin(folder, tiny_manifest)
    (folder / "weights.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node')
    with pytest.raises(ZooError, match=r"weights\.zarr: cannot be read"):
        Store.open(folder)


def test_a_newer_schema_is_refused(tmp_path, tiny_manifest):
    folder = tmp_path / "zoo"
    begin(folder, tiny_manifest)
    zarr.open_group(folder / "weights.zarr", mode="r+").attrs["schema"] = 2
    with pytest.raises(ZooError, match="has schema 2; this version reads schema 1"):
        Store.open(folder)


def test_an_attribute_that_is_missing_is_named(tmp_path, tiny_manifest):
    folder = tmp_path / "zoo"
    begin(folder, tiny_manifest)
    path = folder / "weights.zarr" / "zarr.json"
    content = json.loads(path.read_text())
    del content["attributes"]["layout"]
    path.write_text(json.dumps(content))
    with pytest.raises(ZooError, match=r"zarr\.json: has no attribute 'layout'; expected"):
        Store.open(folder)


def test_a_models_digest_is_that_of_its_weights_and_then_its_metrics_by_name(tiny_zoo):
    group = zarr.open_group(tiny_zoo / "weights.zarr", mode="r")
    digest = hashlib.sha256()
    for name in ("weights", *sorted({*METRICS, "test_class_f1"})):
        digest.update(group[name][37].astype("<f4").tobytes())
    assert pq.read_table(tiny_zoo / "models" / "part-00003.parquet")["sha256"][1].as_py() == digest.hexdigest()


def test_the_pages_of_a_part_have_checksums(tiny_zoo, tmp_path):
    content = bytearray((tiny_zoo / "models" / "part-00000.parquet").read_bytes())
    column = pq.ParquetFile(tiny_zoo / "models" / "part-00000.parquet").metadata.row_group(0).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    content[start + column.total_compressed_size - 1] ^= 1  # the last byte of the last page
    (tmp_path / "part.parquet").write_bytes(content)
    with pytest.raises(OSError, match=r"(?i)crc checksum"):
        pq.read_table(tmp_path / "part.parquet", page_checksum_verification=True)
