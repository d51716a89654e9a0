import pytest

from zoo_bench.protocol import protocols, zoos
from zoo_bench.protocol.manifest import BenchmarkManifest, list_benchmarks, read_benchmark
from zoo_bench.protocol.parts import models_of
from zoo_bench.standings.order import PROTOCOLS
from zoo_gen import open_zoo
from zoo_gen.errors import ZooError
from zoo_gen.manifest import Split, find_manifest, read_manifest, shipped_manifests
from zoo_gen.published.sources.registry import by_population


def benchmark(*names, **options):
    return BenchmarkManifest(name="b", protocol="standard", zoos=names, targets=("test_accuracy",), **options)


def test_missing_zoos_are_made_once_by_the_manifests_that_ship(tmp_path, monkeypatch, tiny_manifest):
    for place in ("zoo_gen.manifest.reading", "zoo_bench.protocol.zoos"):
        monkeypatch.setattr(f"{place}.shipped_manifests", lambda: {"tiny": tiny_manifest})
    manifest = benchmark("tiny")
    with pytest.raises(ZooError, match=r"tiny: no such zoo; make it with: .* or with zoo_bench.make_missing_zoos"):
        zoos.find_zoos(manifest, tmp_path / "zoos")
    assert zoos.make_missing_zoos(manifest, tmp_path / "zoos", workers=1) == ["tiny"]
    (zoo,) = zoos.find_zoos(manifest, tmp_path / "zoos")
    assert zoo.complete
    assert zoos.make_missing_zoos(manifest, tmp_path / "zoos", workers=1) == []


def test_a_zoo_that_does_not_ship_cannot_be_made(tmp_path):
    with pytest.raises(ZooError, match="unknown zoo 'nowhere'"):
        zoos.make_missing_zoos(benchmark("nowhere"), tmp_path)


def test_missing_zoos_are_pulled_from_an_owner_on_the_hub(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("zoo_gen.published.pull.pull", lambda *arguments: asked.append(arguments))
    assert zoos.pull_missing_zoos(benchmark("anything"), tmp_path, owner="my-lab") == ["anything"]
    assert asked == [("hf://my-lab/anything", tmp_path / "anything")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "mini_mnist_mlp",
            r"^mini_mnist_mlp: is trained here and not published; expected zoo_bench.make_missing_zoos$",
        ),
        ("mini_mnist_mpl", r"mini_mnist_mpl: no such zoo; unknown zoo 'mini_mnist_mpl'; .*; expected one that zoo-gen"),
        (
            "small_cnn_zoo_svhn",
            r"^small_cnn_zoo_svhn: is trained here .* zoo_bench.make_missing_zoos, or zoos_from='published' for what",
        ),
    ],
)
def test_a_zoo_that_is_not_published_is_named(tmp_path, name, message):
    with pytest.raises(ZooError, match=message):
        zoos.pull_missing_zoos(benchmark(name), tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "tinny",
            r"tinny: no such zoo; unknown zoo 'tinny'; did you mean 'tiny'\? valid: .*; expected one that zoo-gen",
        ),
        (
            "tetris_seed",
            r"tetris_seed: no such zoo; make it with: zoo-gen run tetris_seed --out .*zoos_from='published'",
        ),
        ("mini_mnist_cnn", r"zoo_bench.make_missing_zoos$"),
    ],
)
def test_a_zoo_that_is_not_there_is_one_line_with_a_remedy(tiny_zoo, name, message):
    with pytest.raises(ZooError, match=message):
        zoos.find_zoos(benchmark(name), tiny_zoo.parent)


def test_a_folder_with_another_zoo_says_how_to_name_it(tiny_zoo, tmp_path):
    (tmp_path / "other").symlink_to(tiny_zoo)
    with pytest.raises(ZooError, match=r"other: holds the zoo 'tiny'; expected 'other', .* with --name other$"):
        zoos.find_zoos(benchmark("other"), tmp_path)


def test_a_zoo_that_is_there_is_not_pulled(tiny_zoo):
    assert zoos.pull_missing_zoos(benchmark("tiny"), tiny_zoo.parent) == []


def test_a_benchmark_may_have_a_split_of_its_own(tiny_zoo):
    split = Split(train=0.4, validation=0.1, test=0.5, seed=3)
    plain, other = (zoos.find_zoos(benchmark("tiny", split=each), tiny_zoo.parent)[0] for each in (None, split))
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

    manifest = benchmark("tiny", split=Split(train=0.4, validation=0.1, test=0.5))
    list(run.run(manifest, ["weights"], zoos=tiny_zoo.parent, results=tmp_path, seeds=[0]))
    assert [problems for _, problems in validate(tmp_path, zoos=tiny_zoo.parent)] == [[]]


def test_every_zoo_of_a_shipped_benchmark_ships_or_was_published():
    published = {f"{population}_published" for population in by_population()}
    for name, manifest in list_benchmarks().items():
        assert manifest.name == name
        assert set(manifest.zoos) <= (published if manifest.zoos_from == "published" else set(shipped_manifests()))


def test_whose_predictions_rank_is_said_in_every_shipped_benchmark():
    """As the papers report: a supervised method's own prediction, or the probe of a representation."""
    elsewhere = (
        "cross_",
        "nfn_",
        "sne_",
        "data_efficiency",
        "unseen_epochs",
        "scalegmn_",
        "cnn_wild_park",
        "robustness",
    )
    elsewhere += ("transformers_", "quickstart_accuracy", "inr_")
    for name, manifest in list_benchmarks().items():
        assert "reading" in manifest.model_fields_set
        assert manifest.reading == ("own" if name.startswith(elsewhere) else "probe"), name
        assert manifest.loss == ("bce" if name.startswith("nfn_") else manifest.loss)
        assert "test_class_f1" not in manifest.targets or name == "tetris"


@pytest.mark.parametrize(
    ("name", "protocol", "count", "rank_by", "checkpoints"),
    [
        ("hyper_representations_2021", "standard", 12, "r2", "all"),
        ("sne_cross_dataset", "cross_dataset", 4, "kendall_tau", "last"),
        ("sne_cross_architecture", "cross_architecture", 6, "kendall_tau", "last"),
        ("sne_cross_architecture_svhn", "cross_architecture", 6, "kendall_tau", "last"),
        ("hyper_representations_2021_ood", "cross_dataset", 6, "r2", "all"),
        ("model_zoos_2022", "standard", 24, "r2", "all"),
        ("model_zoos_2022_by_initial_weights", "standard", 8, "r2", "all"),
        ("cnn_wild_park", "standard", 1, "kendall_tau", "all"),
        ("nws_2020", "standard", 1, "r2", "last"),
        ("sne_inr", "standard", 1, "mse", "last"),
        ("sne_transformers", "cross_architecture", 5, "kendall_tau", "last"),
        ("sne_transformers_medium", "cross_architecture", 4, "kendall_tau", "last"),
        ("transformers_by_accuracy", "accuracy_thresholds", 2, "kendall_tau", "last"),
        ("nfn_final_checkpoint", "standard", 2, "kendall_tau", "last"),
    ],
)
def test_every_published_protocol_has_its_benchmark(name, protocol, count, rank_by, checkpoints):
    manifest = read_benchmark(name)
    assert (manifest.protocol, len(manifest.zoos), manifest.rank_by, manifest.checkpoints) == (
        protocol,
        count,
        rank_by,
        checkpoints,
    )


def shared(zoo, *columns):
    """Say whether two models of a shipped zoo have the same values in some of its columns; of its settings, if none."""
    manifest = read_manifest(find_manifest(zoo))
    table = manifest.rows(slice(0, manifest.n_models))
    chosen = [column for column in columns or _settings(manifest) if column in table.column_names]
    values = list(zip(*(table[column].to_pylist() for column in chosen), strict=True))
    return len(set(values)) < len(values)


def _settings(manifest):
    return [column for column in manifest.varying if column != "seed"] or ["seed"]


@pytest.mark.parametrize("name", ["hyper_representations_2021", "model_zoos_2022"])
def test_where_a_split_by_model_leaves_something_in_common_another_benchmark_splits_otherwise(name):
    whole, configurations, weights = (
        read_benchmark(name + ending) for ending in ("", "_by_configuration", "_by_initial_weights")
    )
    assert (configurations.split.group_by, weights.split.group_by) == ("configuration", "initial_weights")
    assert set(configurations.zoos) == {zoo for zoo in whole.zoos if shared(zoo)}
    # Drawn seeds meet in a few models of 2,560; where seeds are fixed, each stands for many.
    fixed = {zoo for zoo in whole.zoos if shared(zoo, "seed", "initialization") and "rand" not in zoo}
    assert set(weights.zoos) == fixed


def test_the_matrix_of_2021_at_medium_size_is_part_of_the_whole():
    whole, medium = read_benchmark("hyper_representations_2021"), read_benchmark("hyper_representations_2021_medium")
    assert set(medium.zoos) < set(whole.zoos)
    parts = [
        manifest.model_dump(exclude={"name", "description", "zoos", "published_split"}) for manifest in (whole, medium)
    ]
    assert parts[0] == parts[1]


def test_the_final_checkpoint_is_split_as_nfn_splits_it():
    split = read_benchmark("nfn_final_checkpoint").split
    assert split is not None
    assert (split.train, split.validation, split.test) == (0.4, 0.1, 0.5)


def test_the_small_benchmarks_are_on_three_data_sets_and_three_architectures():
    benchmarks = {name: benchmark for name, benchmark in list_benchmarks().items() if name.endswith("_small")}
    of = {name: [read_manifest(find_manifest(zoo)) for zoo in each.zoos] for name, each in benchmarks.items()}
    for name in ("standard_small", "cross_dataset_small", "ood_small"):
        assert [(each.data.source, each.data.input_shape) for each in of[name]] == [
            ("idx", (1, 28, 28)),
            ("torchvision", (1, 28, 28)),
            ("digits", (1, 28, 28)),
        ]
        assert {each.architecture.name for each in of[name]} == {"cnn_small"}
    architectures = [each.architecture.name for each in of["cross_architecture_small"]]
    assert architectures == ["small_cnn_gap", "cnn3_fc2", "cnn_small"]
    protocols_of = {each.protocol for each in benchmarks.values()}
    assert protocols_of == set(PROTOCOLS)
