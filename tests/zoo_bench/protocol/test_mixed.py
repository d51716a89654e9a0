"""Zoos of others as they come: several architectures in one, models with some checkpoints, no accuracy, no classes."""

import csv

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import zoo_bench
from tests.zoo_gen.published.ray import convert
from zoo_bench.cli import main
from zoo_bench.evaluation import run
from zoo_bench.protocol import protocols
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.parts import models_of, rows_of
from zoo_bench.protocol.standard import standard_benchmark
from zoo_bench.protocol.targets import targets
from zoo_gen import open_zoo
from zoo_gen.errors import ZooError

EPOCHS = (1, 2, 5)
PARTS = ("train", "train", "train", "val", "test", "test")


def make(path, n_runs, *, sizes=((3, 2),), skip=lambda run, epoch: False, metric="test_accuracy", diverged=()):
    """Convert a folder of linear layers and return the zoo, and (run, epoch) -> its weights and its metric."""
    torch.manual_seed(0)
    folder = path / "theirs"
    folder.mkdir()
    rows, truth = [], {}
    for number in range(n_runs):
        for epoch in EPOCHS:
            if skip(number, epoch):
                continue
            layer = torch.nn.Linear(*sizes[number % len(sizes)])
            with torch.no_grad():
                layer.weight += epoch / 10
                if number in diverged:
                    layer.weight[0, 0] = torch.nan
            torch.save(layer.state_dict(), folder / f"{number}-{epoch}.pt")
            value = float(layer.weight.detach().mean().nan_to_num().sigmoid())  # a share, as accuracies are
            truth[number, epoch] = torch.cat([t.reshape(-1) for t in layer.state_dict().values()]).numpy().copy(), value
            row = {"file": f"{number}-{epoch}.pt", "run": f"r{number:02d}", "epoch": epoch, metric: value}
            rows.append(row | {"learning_rate": (0.1, 0.01)[number % 2], "split": PARTS[number % len(PARTS)]})
    with (folder / "models.csv").open("w") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return open_zoo(convert(folder, path / "zoos" / "theirs", format="folder", name="theirs")), truth


def benchmark(**options):
    fields = {"name": "b", "protocol": "standard", "zoos": ("theirs",), "targets": ("test_accuracy",)}
    return BenchmarkManifest(**fields | options)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Two architectures; every fifth run lacks its last checkpoint, run 7 has the first alone, run 8 diverged."""
    return make(
        tmp_path_factory.mktemp("mixed"),
        48,
        sizes=((3, 2), (4, 3)),
        skip=lambda number, epoch: (number % 5 == 0 and epoch == 5) or (number == 7 and epoch > 1),
        diverged=(8,),
    )


def test_a_view_holds_one_architecture_and_one_set_of_checkpoints(mixed):
    zoo, truth = mixed
    (cell,) = protocols.cells(benchmark(), [zoo])
    assert cell.excluded_models == 1
    parts = {"train": cell.train, "validation": cell.validation, "test": cell.tests[0].views}
    seen = set()
    for part, views in parts.items():
        assert len({(view.layout.size, tuple(view.epochs)) for view in views}) == len(views) > 1
        for view in views:
            assert set(view.models) <= set(zoo.split(part))
            for row, model in enumerate(view.models.tolist()):
                for column, epoch in enumerate(view.epochs.tolist()):
                    weights, accuracy = truth[model, epoch]
                    np.testing.assert_array_equal(view.weights[row, column], weights)
                    assert view.metric("test_accuracy")[row, column] == np.float32(accuracy)
                    seen.add((model, epoch))
    assert seen == {key for key in truth if key[0] != 8}  # every state that is there, each once


def test_the_last_checkpoint_is_each_models_own(mixed):
    zoo, truth = mixed
    (cell,) = protocols.cells(benchmark(checkpoints="last"), [zoo])
    for views in (cell.train, cell.validation, cell.tests[0].views):
        for model, epoch in zip(*(rows.tolist() for rows in rows_of(views)), strict=True):
            assert epoch == max(e for m, e in truth if m == model)
    assert 7 in models_of(cell.train)


def test_shares_and_seen_epochs_of_a_mixed_zoo(mixed):
    zoo, _ = mixed
    share, whole = protocols.cells(benchmark(protocol="data_efficiency", shares=(0.5, 1.0)), [zoo])
    assert set(models_of(share.train)) < set(models_of(whole.train))
    assert len(models_of(share.train)) == round(len(models_of(whole.train)) / 2)
    assert len(models_of(share.validation)) == round(len(models_of(whole.validation)) / 2)
    (cell,) = protocols.cells(benchmark(protocol="unseen_epochs", seen_epochs=0.67), [zoo])
    assert {int(epoch) for epoch in rows_of(cell.train)[1]} == {1, 2}
    seen, unseen = cell.tests
    assert set(rows_of(unseen.views)[1]) == {5}
    assert set(models_of(unseen.views)) < set(models_of(seen.views))  # who ended earlier is not tested later


def test_encoders_of_any_architecture_are_evaluated_on_a_mixed_zoo(mixed, tmp_path):
    zoo, truth = mixed
    outcomes = list(run.run(benchmark(), ["pooled_layer_statistics"], zoos=[zoo], results=tmp_path, seeds=[0]))
    (cell,) = outcomes[0][0].cells
    tested = [key for key in truth if PARTS[key[0] % len(PARTS)] == "test" and key[0] != 8]
    assert cell.test_models == len({model for model, _ in tested})
    rows = zoo_bench.load_results(tmp_path).predictions()
    assert len(rows[rows["target"] == "test_accuracy"]) == len(tested)
    assert [problems for _, problems in zoo_bench.validate(tmp_path, zoos=zoo.path.parent)] == [[]]


def test_an_encoder_of_one_architecture_is_refused_in_one_line(mixed, tmp_path):
    with pytest.raises(ZooError, match="architecture") as caught:
        list(run.run(benchmark(), ["pca"], zoos=[mixed[0]], results=tmp_path, seeds=[0]))
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def losses(tmp_path_factory):
    """A zoo with a loss and no accuracy, whose number of classes nobody knows."""
    return make(tmp_path_factory.mktemp("losses"), 24, metric="test_loss")[0]


def test_a_zoo_without_accuracy_has_targets_of_its_own(losses):
    assert standard_benchmark(losses).targets == ("epoch", "test_loss", "learning_rate")
    with pytest.raises(ZooError, match=r"unknown target 'test_accuracy'; .*valid: .*learning_rate.*test_loss"):
        targets(benchmark(targets=("test_accuracy",)), losses)


def test_the_folder_of_a_zoo_is_evaluated_like_a_benchmark(losses, tmp_path):
    result = CliRunner().invoke(
        main, ["run", str(losses.path), "--encoder", "weight_statistics", "--results", str(tmp_path / "results")]
    )
    assert result.exit_code == 0, result.output
    targets_of = {"epoch", "test_loss", "learning_rate"}
    stored = zoo_bench.load_results(tmp_path / "results").to_pandas()
    assert (set(stored["benchmark"]), set(stored["target"])) == ({"theirs"}, targets_of)
    again = zoo_bench.evaluate("weight_statistics", losses.path, progress=False).to_pandas()
    assert set(again["target"]) == targets_of
    np.testing.assert_array_equal(again["value"], stored["value"])  # undefined where the other is


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere", "unknown benchmark 'nowhere'"), (".", "is not a zoo; it has no manifest.toml")],
)
def test_what_is_neither_a_benchmark_nor_a_zoo_is_one_line(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["run", name])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr


def test_families_say_what_counts_as_one_architecture(tmp_path, tiny_zoo, losses):
    """Two zoos of one family are never tested on each other across architectures, though their layouts differ."""
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    zoos = [make(tmp_path / name, 12, sizes=(size,))[0] for name, size in (("a", (3, 2)), ("b", (4, 2)), ("c", (5, 2)))]
    for zoo, name in zip(zoos, "abc", strict=True):
        zoo.name = name
    manifest = benchmark(protocol="cross_architecture", zoos=("a", "b", "c"), families=(("a", "b"), ("c",)))
    tested = {cell.zoo.name: [test.zoo.name for test in cell.tests] for cell in protocols.cells(manifest, zoos)}
    assert tested == {"a": ["c"], "b": ["c"], "c": ["a", "b"]}
    assert manifest.pairs == (("a", "c"), ("b", "c"), ("c", "a"), ("c", "b"))
    tested = protocols.cells(manifest.model_copy(update={"sources": ("c",)}), zoos)
    assert [(cell.zoo.name, len(cell.tests)) for cell in tested] == [("c", 2)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"families": (("theirs",),)}, "families: expected only in cross_dataset and cross_architecture"),
        ({"protocol": "cross_dataset", "zoos": ("a", "b"), "sources": ("d",)}, "sources: unknown zoo 'd'"),
        ({"protocol": "cross_dataset", "zoos": ("a", "b"), "families": (("a",),)}, "families: b is in 0 of them"),
        (
            {"protocol": "cross_architecture", "zoos": ("a", "b"), "families": (("a", "b"),)},
            "needs two or more, or non",
        ),
    ],
)
def test_sources_and_families_must_fit_the_zoos(options, message):
    with pytest.raises(ValueError, match=message):
        benchmark(**options)


def test_the_shipped_cross_architecture_benchmarks_have_the_papers_cells():
    """The paper trains on three zoos and tests on three, and the other way round; table 3 tests on three more."""
    ours, unterthiner = ("sne_mnist", "sne_cifar10", "sne_svhn"), ("mnist", "cifar10", "svhn")
    theirs = [f"small_cnn_zoo_{name}" for name in unterthiner]
    forward = {(source, test) for source in ours for test in theirs}
    pairs = zoo_bench.read_benchmark("sne_cross_architecture").pairs
    assert len(pairs) == 18
    assert set(pairs) == forward | {(test, source) for source, test in forward}
    svhn = [f"modelzoos_svhn_{kind}" for kind in ("seed", "hyp_10_fixed", "hyp_10_random")]
    pairs = zoo_bench.read_benchmark("sne_cross_architecture_svhn").pairs
    assert sorted(pairs) == sorted((source, test) for source in ours for test in svhn)


def test_medium_zoos_cross_architectures_within_a_data_set():
    """Six directions on each of three data sets, said by the manifest alone, so that no zoo is needed to count them."""
    for data in ("mnist", "fashion", "cifar10_jpeg"):
        zoos = [f"medium_{data}_{name}" for name in ("small_cnn_gap", "cnn3_fc2", "cnn_small")]
        manifest = zoo_bench.read_benchmark(f"cross_architecture_medium_{data}")
        assert sorted(manifest.pairs) == sorted((source, test) for source in zoos for test in zoos if source != test)
        assert (manifest.checkpoints, manifest.rank_by, manifest.reading) == ("last", "kendall_tau", "own")


def test_out_of_distribution_means_within_one_architecture():
    pairs = zoo_bench.read_benchmark("hyper_representations_2021_ood").pairs
    assert len(pairs) == 4 * 4 + 2 * 2
    assert ("hyperreps_mnist_seed", "hyperreps_fashion_seed") in pairs
    assert ("hyperreps_mnist_seed", "small_cnn_zoo_mnist") not in pairs
    large = zoo_bench.read_benchmark("ood_large")
    zoos = [f"small_cnn_zoo_4096_{data}" for data in ("mnist", "fashion", "cifar10_jpeg")]
    assert sorted(large.pairs) == sorted((source, test) for source in zoos for test in zoos)
    same = ("targets", "checkpoints", "rank_by", "reading", "protocol")
    small = zoo_bench.read_benchmark("ood_small")
    assert [getattr(large, key) for key in same] == [getattr(small, key) for key in same]
