"""Several zoos read as one are benchmarked as one zoo: the same rows give the same predictions."""

import numpy as np
import pytest
from click.testing import CliRunner

import zoo_bench
import zoo_gen
from tests.conftest import TINY
from zoo_bench.cli import main
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.protocols import standard_cell
from zoo_bench.protocol.standard import benchmark_or_zoo
from zoo_gen.errors import ZooError

TARGETS = ("test_accuracy", "optimizer", "learning_rate")
SPLIT = {"train": 0.6, "validation": 0.2, "test": 0.2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_zoo):
    """A folder with the tiny zoo and its two halves, in whose order its models stand."""
    folder = tmp_path_factory.mktemp("halves")
    (folder / "tiny").symlink_to(tiny_zoo)
    zoo_gen.split(tiny_zoo, folder / "adam", where={"optimizer": "adam"}, rest=folder / "sgd")
    return folder


def benchmark(*zoos, **options):
    return BenchmarkManifest(
        **{"name": "b", "protocol": "standard", "zoos": zoos, "targets": TARGETS, "split": SPLIT} | options
    )


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.thorough)])  # two read zoos by their address
def test_two_halves_give_the_predictions_of_the_whole_zoo(folder, tmp_path, workers):
    whole, halves = (
        zoo_bench.evaluate(
            "pca", benchmark(zoos), zoos=folder, results=tmp_path / zoos, progress=False, workers=workers
        )
        for zoos in ("tiny", "adam+sgd")
    )
    tables = [results.predictions().drop(columns=["cell"]) for results in (whole, halves)]
    assert tables[0].equals(tables[1])
    assert halves[0].cells[0].test.zoo == "adam+sgd"
    assert [lines for _, lines in zoo_bench.validate(tmp_path / "adam+sgd", zoos=folder, rerun="pca")] == [[]]


def test_without_a_split_of_the_benchmark_models_keep_the_parts_of_their_zoos(folder):
    joint = zoo_gen.open_zoos([folder / "adam", folder / "sgd"])
    cell = standard_cell(joint)
    for part, views in (("train", cell.train), ("test", cell.tests[0].views)):
        expected = [*joint.zoos[0].split(part), *(20 + joint.zoos[1].split(part))]
        assert np.concatenate([view.models for view in views]).tolist() == expected


def test_zoos_of_two_architectures_are_one_benchmark(folder, tmp_path):
    (tmp_path / "other.toml").write_text(TINY.replace('"tiny"', '"other"').replace("[16, 5, 4]", "[16, 6, 4]"))
    zoo_gen.run(tmp_path / "other.toml", tmp_path / "other", workers=1, progress=False)
    manifest, places = benchmark_or_zoo(f"{folder / 'adam'}+{tmp_path / 'other'}", "zoos")
    assert (manifest.name, manifest.zoos) == ("adam-and-other", ("adam+other",))
    (result,) = zoo_bench.evaluate("weight_statistics", manifest, zoos=places, progress=False)
    assert result.cells[0].train_models == 12 + 24
    with pytest.raises(ZooError, match="dimension"):
        zoo_bench.evaluate("weights", manifest, zoos=places, progress=False)


def test_the_command_takes_folders_with_a_plus(folder, tmp_path):
    arguments = [
        "run",
        f"{folder / 'adam'}+{folder / 'sgd'}",
        "--encoder",
        "weight_statistics",
        "--results",
        str(tmp_path),
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "adam-and-sgd" / "weight_statistics" / "seed-0.json").exists()
    result = CliRunner().invoke(main, ["run", f"{folder / 'adam'}+{folder / 'nothing'}", "--encoder", "pca"])
    assert (result.exit_code, "nothing" in result.output) == (2, True)


def test_a_zoo_that_is_not_there_is_named(folder):
    with pytest.raises(ZooError, match="nothing: no such zoo"):
        zoo_bench.evaluate("pca", benchmark("adam+nothing"), zoos=folder, progress=False)
