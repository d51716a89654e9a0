"""Converted zoos at the command line and in zoo_bench: what reads a zoo reads these too, or says why not."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.zoo_gen.published import ray, small_cnn
from zoo_gen import ZooError, open_zoo
from zoo_gen.cli.main import main
from zoo_gen.published import FORMATS, convert


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("archive")
    published = small_cnn.train(24, steps=(0, 86))
    small_cnn.permutation_file(root / "split.csv", len(published.rows))
    return small_cnn.folder(root, small_cnn.files(published))


@pytest.fixture(scope="module")
def zoo(archive, tmp_path_factory):
    options = {"format": "small_cnn_zoo", "splits": {"nfn": archive.parent / "split.csv"}}
    return convert(archive, tmp_path_factory.mktemp("zoo") / "zoo", **options)


def test_convert_info_and_verify(archive, tmp_path):
    split = f"nfn={archive.parent / 'split.csv'}"
    result = run("convert", archive, "--format", "small_cnn_zoo", "--out", tmp_path / "zoo", "--split", split)
    assert result.exit_code == 0, result.output
    assert "fashion_mnist: 24 models, 2 checkpoints; complete in" in result.output
    result = run("info", tmp_path / "zoo", "--plots", tmp_path / "plots")
    assert result.exit_code == 0, result.output
    assert re.search(r"split nfn\s+9, 3, 12", result.output)
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"epochs.png", "gap.png", "axes.png"}
    result = run("verify", tmp_path / "zoo", "--sample", 0)
    assert result.exit_code == 0, result.output
    assert "24 models hashed, 0 checkpoints evaluated: sound" in result.output


def test_parts_are_chosen_by_numbers_and_ranges(archive, tmp_path):
    options = ["--format", "small_cnn_zoo", "--out", tmp_path / "zoo", "--epochs", "86", "--models", "0-2,7"]
    assert run("convert", archive, *options).exit_code == 0
    part = open_zoo(tmp_path / "zoo")
    assert part.models["source_model"].to_pylist() == [0, 1, 2, 7]
    assert part.manifest.origin.models == "0-2, 7"
    assert part.epochs.tolist() == [86]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "small_cnn"], "did you mean 'small_cnn_zoo'?"),
        (["--format", "small_cnn_zoo", "--epochs", "1-x"], "expected whole numbers and ranges"),
        (["--format", "small_cnn_zoo", "--models", "5-3"], "expected whole numbers and ranges"),
        (["--format", "small_cnn_zoo", "--epochs", "5"], "has no epoch 5; it has 0, 86"),
        (["--format", "small_cnn_zoo", "--models", "24"], "has no model 24; it has 0 to 23"),
        (["--format", "small_cnn_zoo", "--split", "nfn"], "expected NAME=FILE"),
        (["--format", "small_cnn_zoo", "--data", "imagenet"], "unknown image data 'imagenet'"),
        (["--format", "small_cnn_zoo", "--name", "My Zoo"], "expected small letters"),
        (["--format", "model_zoos"], "expected one .pt dump of a data set, found none"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(archive, tmp_path, options, message):
    result = run("convert", archive, "--out", tmp_path / "zoo", *options)
    assert result.exit_code == 2
    assert message in result.output
    assert result.output.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_help_lists_every_format():
    text = run("convert", "--help").output
    assert all(name in text for name in FORMATS)


def test_a_changed_cell_bit_or_file_is_found(archive, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    zoo = convert(archive, tmp_path / "zoo", format="small_cnn_zoo").path
    part = zoo / "models" / "part-00001.parquet"
    before, table = part.read_bytes(), pq.read_table(part)
    place = table.column_names.index("learning_rate")
    changed = table.set_column(place, "learning_rate", pa.array([0.5] * len(table)))
    pq.write_table(changed, part, write_page_checksum=True)
    assert "the table is not the one that was read from the archive" in run("verify", zoo, "--sample", 0).output
    part.write_bytes(before)
    assert run("verify", zoo, "--sample", 0).exit_code == 0
    for name in ("states.parquet", "architectures.json", "splits/hyper_representations.parquet"):
        content = (zoo / name).read_bytes()
        (zoo / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert name in run("verify", zoo, "--sample", 0).output
        (zoo / name).write_bytes(content)
    (chunk,) = (path for path in (zoo / "weights.zarr" / "weights" / "c" / "0").rglob("*") if path.is_file())
    raw = bytearray(chunk.read_bytes())
    raw[len(raw) // 3] ^= 4
    chunk.write_bytes(bytes(raw))
    result = run("verify", zoo, "--sample", 0)
    assert result.exit_code == 1
    assert "shard 0" in result.output


def test_reading_a_converted_zoo_imports_no_torch(zoo):
    code = (
        "import sys; from zoo_gen import open_zoo; zoo = open_zoo(sys.argv[1]); zoo.models, zoo.weights[0], zoo.states;"
        "zoo.split('train', table='nfn'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(zoo.path)], check=True)


def test_the_card_says_what_was_converted_and_how_it_is_split(zoo):
    card = (zoo.path / "README.md").read_text()
    assert "Converted from `fashion_mnist` (format `small_cnn_zoo`)" in card
    assert "split table `nfn` (9/3/12)" in card


def test_provenance_is_kept_and_does_not_change_the_digest(archive, tmp_path, zoo):
    options = {"format": "small_cnn_zoo", "splits": {"nfn": archive.parent / "split.csv"}}
    provenance = {"licence": "CC-BY 4.0", "url": "https://example.org/a.tar.xz"}
    other = convert(archive, tmp_path / "zoo", provenance=provenance, **options)
    assert other.digest == zoo.digest
    assert other.revision == zoo.revision
    assert "licence: CC-BY 4.0" in (other.path / "README.md").read_text()
    assert other.manifest.origin.provenance == provenance


def test_an_encoder_is_evaluated_on_a_converted_zoo(zoo):
    from zoo_bench.encoders.baselines.statistics import WeightStatistics
    from zoo_bench.protocol.protocols import standard_cell
    from zoo_bench.protocol.views import HiddenRows, TrainingView

    cell = standard_cell(zoo)
    assert cell.excluded_models == 0
    (train,), (validation,), (test,) = cell.train, cell.validation, cell.tests[0].views
    view = TrainingView.of(train)
    assert np.array_equal(view.metric("test_accuracy"), np.asarray(zoo.test_accuracy[:])[train.models])
    encoder = WeightStatistics(biases=True).fit([view], [TrainingView.of(validation)], seed=0)
    hidden = HiddenRows.of(test)
    assert len(encoder.encode(hidden.view)) == 2 * len(test.models)


def test_a_benchmark_on_mixed_architectures_says_why_not(tmp_path):
    from zoo_bench.protocol.protocols import standard_cell

    published = ray.zoo(small_cnn.noise(8, 8), n_runs=4, epochs=0)
    run_ = min(run for run, _ in published.networks)
    published.files[f"{run_}/checkpoint_000000/checkpoints"] = ray.saved({"a.weight": torch.zeros(3, 4)})
    mixed = convert(ray.zipped(tmp_path / "a.zip", published.files), tmp_path / "zoo", format="model_zoos")
    with pytest.raises(ZooError, match=r"these models have 2 architectures|is empty"):
        _ = standard_cell(mixed).train.weights


def test_a_generated_and_a_converted_zoo_of_one_network_have_one_layout(zoo):
    """So that protocols across data sets take both."""
    from zoo_gen.architecture import registry

    network = registry.SmallCNNGap(name="small_cnn_gap")
    assert zoo.layout == registry.network(network, (1, 28, 28), 10).layout


def test_the_page_names_every_format():
    page = (Path(__file__).parents[3] / "docs" / "converting.md").read_text()
    assert all(f"| `{name}` |" in page for name in FORMATS)
