import pytest

from zoo_bench.protocol import protocols, zoos
from zoo_bench.protocol.manifest import BenchmarkManifest, list_benchmarks, read_benchmark
from zoo_bench.protocol.parts import models_of
from zoo_gen import open_zoo
from zoo_gen.errors import ZooError
from zoo_gen.manifest import Split, find_manifest, read_manifest, shipped_manifests


def benchmark(*names, **options):
    return BenchmarkManifest(name="b", protocol="standard", zoos=names, targets=("test_accuracy",), **options)


def test_missing_zoos_are_made_once_by_the_manifests_that_ship(tmp_path, monkeypatch, tiny_manifest):
    monkeypatch.setattr("zoo_gen.manifest.manifest.shipped_manifests", lambda: {"tiny": tiny_manifest})
    its = benchmark("tiny")
    with pytest.raises(
        ZooError, match=r"tiny: no such zoo; make it with: .* or with zoo-bench run --missing-zoos make"
    ):
        zoos.find_zoos(its, tmp_path / "zoos")
    assert zoos.make_missing_zoos(its, tmp_path / "zoos", workers=1) == ["tiny"]
    (found,) = zoos.find_zoos(its, tmp_path / "zoos")
    assert found.complete
    assert zoos.make_missing_zoos(its, tmp_path / "zoos", workers=1) == []


def test_a_zoo_that_does_not_ship_cannot_be_made(tmp_path):
    with pytest.raises(ZooError, match="unknown zoo 'nowhere'"):
        zoos.make_missing_zoos(benchmark("nowhere"), tmp_path)


@pytest.mark.parametrize(
    ("name", "owner", "address"),
    [("small_cnn_zoo_mnist", None, "small_cnn_zoo/mnist"), ("anything", "my-lab", "hf://my-lab/anything")],
)
def test_missing_zoos_are_pulled_from_their_papers_or_from_the_hub(tmp_path, monkeypatch, name, owner, address):
    asked = []
    monkeypatch.setattr("zoo_gen.published.pull.pull", lambda *given: asked.append(given))
    assert zoos.pull_missing_zoos(benchmark(name), tmp_path, owner=owner) == [name]
    assert asked == [(address, tmp_path / name)]


def test_a_zoo_that_nobody_published_is_named(tmp_path):
    with pytest.raises(ZooError, match=r"unknown published zoo 'tiny'.*; expected --missing-zoos make, or --owner"):
        zoos.pull_missing_zoos(benchmark("tiny"), tmp_path)


def test_a_zoo_that_is_there_is_not_pulled(tiny_zoo):
    assert zoos.pull_missing_zoos(benchmark("tiny"), tiny_zoo.parent) == []


def test_a_benchmark_may_have_a_split_of_its_own(tiny_zoo):
    split = Split(train=0.4, validation=0.1, test=0.5, seed=3)
    plain, other = (zoos.find_zoos(benchmark("tiny", split=its), tiny_zoo.parent)[0] for its in (None, split))
    assert [len(other.split(part)) for part in ("train", "validation", "test")] == [16, 4, 20]
    assert other.split_sha256 != plain.split_sha256 == open_zoo(tiny_zoo).split_sha256
    assert other.revision == plain.revision
    cell = protocols.standard_cell(other)
    assert set(models_of(cell.train)) == set(other.split("train"))
    assert set(models_of(cell.tests[0].views)) == set(other.split("test"))


@pytest.mark.parametrize(
    ("group_by", "names"), [("configuration", ("optimizer", "activation", "learning_rate")), ("seed", ("seed",))]
)
def test_a_split_by_groups_keeps_each_group_in_one_part(tiny_zoo, group_by, names):
    split = Split(train=0.5, validation=0.25, test=0.25, group_by=group_by)
    (zoo,) = zoos.find_zoos(benchmark("tiny", split=split), tiny_zoo.parent)
    table = zoo.models.to_pandas()
    assert table.groupby(list(names))["split"].nunique().max() == 1
    assert set(table["split"]) == {"train", "validation", "test"}


def test_a_result_under_a_split_of_its_own_is_validated_under_it(tmp_path, tiny_zoo):
    from zoo_bench.evaluation import run
    from zoo_bench.evaluation.validate import validate

    its = benchmark("tiny", split=Split(train=0.4, validation=0.1, test=0.5))
    list(run.run(its, ["weights"], zoos=tiny_zoo.parent, results=tmp_path, seeds=[0]))
    assert [problems for _, problems in validate(tmp_path, zoos=tiny_zoo.parent)] == [[]]


def test_every_zoo_of_a_shipped_benchmark_ships():
    for name, its in list_benchmarks().items():
        assert its.name == name
        assert set(its.zoos) <= set(shipped_manifests())


@pytest.mark.parametrize(
    ("name", "protocol", "count", "rank_by", "checkpoints"),
    [
        ("hyper_representations_2021", "standard", 12, "r2", "all"),
        ("sne_cross_dataset", "cross_dataset", 4, "kendall_tau", "last"),
        ("sne_cross_architecture", "cross_architecture", 6, "kendall_tau", "last"),
        ("sne_inr", "standard", 1, "mse", "last"),
        ("nfn_final_checkpoint", "standard", 2, "kendall_tau", "last"),
    ],
)
def test_every_published_protocol_has_its_benchmark(name, protocol, count, rank_by, checkpoints):
    its = read_benchmark(name)
    assert (its.protocol, len(its.zoos), its.rank_by, its.checkpoints) == (protocol, count, rank_by, checkpoints)


def test_the_final_checkpoint_is_split_as_nfn_splits_it():
    split = read_benchmark("nfn_final_checkpoint").split
    assert split is not None
    assert (split.train, split.validation, split.test) == (0.4, 0.1, 0.5)


def test_the_small_benchmarks_are_on_three_data_sets_and_three_architectures():
    benchmarks = {name: benchmark for name, benchmark in list_benchmarks().items() if name.endswith("_small")}
    of = {name: [read_manifest(find_manifest(zoo)) for zoo in its.zoos] for name, its in benchmarks.items()}
    for name in ("standard_small", "cross_dataset_small"):
        assert [(its.data.source, its.data.input_shape) for its in of[name]] == [
            ("idx", (1, 28, 28)),
            ("torchvision", (1, 28, 28)),
            ("digits", (1, 28, 28)),
        ]
        assert {its.architecture.name for its in of[name]} == {"cnn_small"}
    found = [its.architecture.name for its in of["cross_architecture_small"]]
    assert found == ["small_cnn_gap", "cnn3_fc2", "cnn_small"]
    protocols_of = {its.protocol for its in benchmarks.values()}
    assert protocols_of == {"standard", "cross_dataset", "cross_architecture", "unseen_epochs", "data_efficiency"}
