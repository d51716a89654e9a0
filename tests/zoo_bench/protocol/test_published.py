"""Benchmarks on published zoos: names, splits and downloads, from servers on loopback and the real split of a paper."""

import gzip
import random
import shutil
import tarfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner
from pyarrow import csv

from tests.zoo_gen.published import small_cnn
from zoo_bench.cli import main
from zoo_bench.protocol import protocols, zoos
from zoo_bench.protocol.manifest import BenchmarkManifest, list_benchmarks, read_benchmark
from zoo_bench.protocol.parts import models_of
from zoo_bench.results import read_result, result_path
from zoo_bench.results.records import read_predictions
from zoo_gen import open_zoo
from zoo_gen.errors import ZooError
from zoo_gen.manifest import shipped_manifests
from zoo_gen.published.sources import registry

POPULATIONS = registry.by_population()
PAPERS = [
    name
    for name, benchmark in list_benchmarks().items()
    if any(zoo.removesuffix("_published") in POPULATIONS for zoo in benchmark.zoos)
]


def publish(server, monkeypatch, part, *, archive, split):
    """Serve one archive and one split as a part of the Small CNN Zoo, in place of where the registry says they are."""
    known = registry.publications()
    known_part = next(each for each in known["small_cnn_zoo"].parts if each.name == part)
    shutil.copy(archive, server.folder / archive.name)
    shutil.copy(split, server.folder / "split.csv")
    file = known_part.files[0].model_copy(update={"urls": (f"{server.url}{archive.name}",)})
    table = known_part.splits[0].model_copy(update={"url": f"{server.url}split.csv", "sha256_starts": None})
    others = (each for each in known["small_cnn_zoo"].parts if each.name != part)
    parts = (known_part.model_copy(update={"files": (file,), "splits": (table,)}), *others)
    publication = known["small_cnn_zoo"].model_copy(update={"parts": parts})
    monkeypatch.setattr(registry, "publications", lambda: known | {"small_cnn_zoo": publication})


def test_no_zoo_that_is_trained_here_has_the_name_of_a_published_one():
    published = registry.list_published_zoos()
    names = [zoo.zoo_name for zoo in published.values()]
    assert len(set(names)) == len(names)
    assert not set(names) & set(shipped_manifests())
    populations = [name for zoo in published.values() for name in zoo.part.regenerated]
    assert len(set(populations)) == len(populations)
    assert set(populations) <= set(shipped_manifests())


@pytest.mark.parametrize("name", PAPERS)
def test_every_benchmark_of_a_paper_asks_for_what_its_paper_published(name, tmp_path, monkeypatch):
    """Every zoo that is pulled is one of the registry, and arrives under the name that the benchmark opens it by."""
    asked = []
    monkeypatch.setattr("zoo_gen.published.pull.pull", lambda *arguments, **named: asked.append((arguments, named)))
    benchmark = read_benchmark(name).with_zoos_from("published")
    trained = [zoo for zoo in benchmark.zoos if not zoo.endswith("_published")]
    if trained:  # of a paper that published none of its own: those that others published come, the rest is named
        with pytest.raises(
            ZooError, match=f"^{trained[0]}: is trained here and not published; expected zoo_bench.make_missing_zoos"
        ):
            zoos.pull_missing_zoos(benchmark, tmp_path)
    else:
        zoos.pull_missing_zoos(benchmark, tmp_path)
    assert len(asked) == len(benchmark.zoos) - len(trained) > 0
    for (address, out), named in asked:
        assert address in registry.list_published_zoos()
        assert out.name == named["zoo_name"]
        assert named["zoo_name"] in benchmark.zoos


def test_a_benchmark_on_published_zoos_is_another_benchmark():
    ours = read_benchmark("sne_cross_dataset")
    theirs = read_benchmark("sne_cross_dataset_published")
    assert theirs == ours.with_zoos_from("published")
    assert theirs.name == "sne_cross_dataset_published"
    assert theirs.zoos == tuple(f"{zoo}_published" for zoo in ours.zoos)
    assert (ours.split.train, theirs.split.table) == (0.4, ("nfn",))
    assert theirs.digest != ours.digest
    assert theirs.with_zoos_from("published") is theirs
    with pytest.raises(ZooError, match="is on published zoos; expected another benchmark"):
        theirs.with_zoos_from("regenerated")


def test_published_zoos_and_ours_are_never_on_one_board():
    with pytest.raises(ValueError, match='small_cnn_zoo_mnist_published is a published zoo; expected zoos_from = "pub'):
        BenchmarkManifest(
            name="b",
            protocol="cross_dataset",
            zoos=("small_cnn_zoo_mnist_published", "small_cnn_zoo_mnist"),
            targets=("test_accuracy",),
        )
    with pytest.raises(ZooError, match="nobody published mini_mnist_cnn, "):
        read_benchmark("standard_small").with_zoos_from("published")


def test_a_published_zoo_is_pulled_evaluated_and_named_in_the_result(server, tmp_path, monkeypatch):
    archive = small_cnn.tar(tmp_path / "fashion_mnist.tar.xz", small_cnn.files(small_cnn.train(20, steps=(0, 86))))
    split = small_cnn.permutation_file(tmp_path / "split.csv", 40)
    publish(server, monkeypatch, "fashion_mnist", archive=archive, split=split)
    monkeypatch.setenv("ZOO_CACHE_ROOT", str(tmp_path / "cache"))
    (tmp_path / "mine.toml").write_text("""
name = "mine"
protocol = "standard"
zoos = ["small_cnn_zoo_fashion"]
targets = ["test_accuracy"]
checkpoints = "last"
published_split = { table = "nfn" }
""")
    arguments = ["run", str(tmp_path / "mine.toml"), "--zoos", str(tmp_path / "zoos"), "--encoder", "weight_statistics"]
    arguments += ["--results", str(tmp_path / "results"), "--zoos-from", "published"]
    answer = CliRunner().invoke(main, arguments)
    assert answer.exit_code == 2
    assert "no such zoo; pull it with: zoo-gen pull small_cnn_zoo/fashion_mnist --name small_cnn" in answer.stderr
    answer = CliRunner().invoke(main, [*arguments, "--missing-zoos", "pull"])
    assert answer.exit_code == 0, answer.output
    result = read_result(
        result_path(tmp_path / "results", benchmark="mine_published", encoder="weight_statistics", seed=0)
    )
    assert [cell.test.zoo for cell in result.cells] == ["small_cnn_zoo_fashion_published"]
    assert result.split.table == ("nfn",)
    answer = CliRunner().invoke(
        main, ["validate", "--results", str(tmp_path / "results"), "--zoos", str(tmp_path / "zoos")]
    )
    assert answer.exit_code == 0, answer.output


def test_a_split_table_that_is_not_there_is_one_line(tiny_zoo):
    benchmark = BenchmarkManifest(
        name="b", protocol="standard", zoos=("tiny",), targets=("epoch",), split={"table": "nfn"}
    )
    with pytest.raises(ZooError, match=r"tiny: unknown split table 'nfn'; valid: \(none\)$"):
        zoos.find_zoos(benchmark, tiny_zoo.parent)


def write_archive(path, n_runs):
    """Write an archive in the published layout whose networks have four weights, and return its metrics.

    Rows stand in the order of checkpoint paths, as text; NFN's split refers to that order alone.
    """
    steps = sorted(small_cnn.STEPS, key=str)
    runs = np.array([f"/cns/zoo/{run:06d}" for run in range(n_runs)])
    random_numbers = np.random.RandomState(0)
    columns = dict.fromkeys(small_cnn.COLUMNS, pa.array(np.zeros(n_runs * len(steps))))
    columns["config.dataset"] = pa.array(["svhn_cropped"] * (n_runs * len(steps)))
    columns["config.activation"] = pa.array(np.repeat(np.where(np.arange(n_runs) % 2, "relu", "tanh"), len(steps)))
    columns["modeldir"] = pa.array(np.repeat(runs, len(steps)))
    columns["step"] = pa.array(np.tile(steps, n_runs))
    accuracy = random_numbers.uniform(size=n_runs * len(steps)).astype(np.float32)
    columns["test_accuracy"] = pa.array(accuracy)
    table = pa.table(columns)
    folder = path / "svhn_cropped"
    folder.mkdir()
    with gzip.open(folder / "metrics.csv.gz", "wb", compresslevel=1) as file:
        csv.write_csv(table, file)
    np.save(folder / "weights.npy", np.outer(accuracy, [1, 2, 3, 4]).astype(np.float32))
    layout = 'varname,start_idx,end_idx,shape\nd/dense/bias:0,0,2,"(2,)"\nd/dense/kernel:0,2,4,"(1, 2)"\n'
    (folder / "layout.csv").write_text(layout)
    with tarfile.open(path / "svhn_cropped.tar", "w") as archive:
        archive.add(folder, "svhn_cropped")
    return path / "svhn_cropped.tar", table.select(["modeldir", "step"]).to_pandas()


def nfn_by_pandas(permutation, metrics):
    """The split as the public code makes it: read without a header, the last step, halves, 80/20."""
    order = pd.read_csv(permutation, header=None).values.flatten()
    final = metrics.iloc[order]
    final = final[final["step"] == 86]
    half = int(0.5 * len(final))
    first = list(range(half))
    random.Random(0).shuffle(first)
    cut = int(0.8 * half)
    runs = final["modeldir"].tolist()
    return {
        "train": {runs[place] for place in first[:cut]},
        "validation": {runs[place] for place in first[cut:]},
        "test": set(runs[half:]),
    }


def published_split(path, data_root):
    """Write the split file that NFN published."""
    source = data_root / "nfn_splits" / "svhn_split.csv.gz"
    if not source.exists():
        pytest.skip("needs the split files of NFN below ZOO_DATA_ROOT/nfn_splits")
    path.write_bytes(gzip.decompress(source.read_bytes()))


@pytest.mark.parametrize("n_runs", [50, pytest.param(29_988, marks=pytest.mark.slow)])
def test_the_split_of_nfn_is_reproduced_model_by_model(server, request, tmp_path, monkeypatch, n_runs):
    """The published split of 29,988 runs, and one of 50 runs that is laid out like it."""
    archive, metrics = write_archive(tmp_path, n_runs)
    if n_runs == 29_988:
        published_split(tmp_path / "svhn_split.csv", request.getfixturevalue("data_root"))
    else:
        small_cnn.permutation_file(tmp_path / "svhn_split.csv", len(metrics))
    publish(server, monkeypatch, "svhn_cropped", archive=archive, split=tmp_path / "svhn_split.csv")
    monkeypatch.setenv("ZOO_CACHE_ROOT", str(tmp_path / "cache"))
    monkeypatch.setattr("zoo_bench.scores.metrics.RESAMPLES", 10)  # intervals are not what is tested
    (tmp_path / "nfn_svhn.toml").write_text("""
name = "nfn_svhn"
protocol = "standard"
zoos = ["small_cnn_zoo_svhn"]
zoos_from = "published"
targets = ["test_accuracy"]
checkpoints = "last"
rank_by = "kendall_tau"
split = { table = "nfn" }
""")
    arguments = [str(tmp_path / "nfn_svhn.toml"), "--missing-zoos", "pull", "--encoder", "weights"]
    arguments += ["--zoos", str(tmp_path / "zoos"), "--results", str(tmp_path / "results")]
    result = CliRunner().invoke(main, ["run", *arguments])
    assert result.exit_code == 0, result.output
    expected = nfn_by_pandas(tmp_path / "svhn_split.csv", metrics)
    path = result_path(tmp_path / "results", benchmark="nfn_svhn", encoder="weights", seed=0)
    (cell,) = read_result(path).cells
    counts = (cell.train_models, cell.validation_models, cell.test_models)
    assert counts == tuple(len(expected[part]) for part in ("train", "validation", "test"))
    assert n_runs < 29_988 or counts == (11_995, 2_999, 14_994)
    zoo = open_zoo(tmp_path / "zoos" / "small_cnn_zoo_svhn_published")
    runs = np.array(zoo.models["run"].to_pylist())
    tested = next(row for row in read_predictions(path) if row.target == "test_accuracy")
    assert set(runs[tested.models]) == expected["test"]
    assert set(tested.epochs) == {86}
    benchmark = read_benchmark(tmp_path / "nfn_svhn.toml")
    (cell_of_zoo,) = protocols.cells(benchmark, zoos.find_zoos(benchmark, tmp_path / "zoos"))
    for part, views in (
        ("train", cell_of_zoo.train),
        ("validation", cell_of_zoo.validation),
        ("test", cell_of_zoo.tests[0].views),
    ):
        assert set(runs[models_of(views)]) == expected[part]
        assert {int(epoch) for view in views for epoch in view.epochs} == {86}
