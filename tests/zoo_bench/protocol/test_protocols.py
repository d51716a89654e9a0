import numpy as np
import pytest

from tests.conftest import begin
from zoo_bench.protocol import protocols
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.parts import models_of
from zoo_bench.protocol.targets import targets
from zoo_gen import engine, open_zoo
from zoo_gen.errors import ZooError


def test_the_standard_protocol_keeps_the_models_of_the_parts_apart(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    cell = protocols.standard_cell(zoo)
    views = {"train": cell.train, "validation": cell.validation, "test": cell.tests[0].views}
    for name, (view,) in views.items():
        assert view.models.tolist() == sorted(zoo.split(name))
        assert view.epochs.tolist() == [0, 1, 2, 3, 4]
    assert len(set(np.concatenate([view.models for (view,) in views.values()]))) == 40


def test_parts_that_share_a_model_are_refused():
    with pytest.raises(ZooError, match="model 3 is in two parts"):
        protocols.check_disjoint({"train": np.array([1, 2, 3]), "test": np.array([3, 4])})


def test_targets_are_written_out_and_have_the_values_of_the_zoo(tiny_zoo, tiny_benchmark):
    zoo = open_zoo(tiny_zoo)
    by_name = {target.name: target for target in targets(tiny_benchmark, zoo)}
    assert list(by_name) == [
        *["epoch", "test_accuracy", "generalization_gap"],
        *[f"test_class_f1_{number}" for number in range(4)],
        *["optimizer", "activation", "learning_rate"],
    ]
    view = zoo.view([39, 5])
    assert by_name["epoch"].values(view).tolist() == [0, 1, 2, 3, 4] * 2
    np.testing.assert_array_equal(by_name["test_accuracy"].values(view)[5:], zoo.test_accuracy[5].astype(float))
    np.testing.assert_array_equal(
        by_name["test_class_f1_2"].values(view)[:5], zoo.test_class_f1[39, :, 2].astype(float)
    )
    assert by_name["optimizer"].values(view).tolist() == ["sgd"] * 5 + ["adam"] * 5
    assert by_name["learning_rate"].values(view).tolist() == [3e-2] * 5 + [3e-2] * 5
    assert [target.is_number for target in by_name.values()] == [True] * 7 + [False, False, True]


def test_diverged_models_are_left_out_and_counted(tmp_path, tiny_manifest):
    text = tiny_manifest.read_text().replace("[1e-2, 3e-2]", "[1e-2, 1e20]")
    tiny_manifest.write_text(text)
    engine.run(tiny_manifest, tmp_path / "zoo", workers=1)
    zoo = open_zoo(tmp_path / "zoo")
    cell = protocols.standard_cell(zoo)
    diverged = set(zoo.models.to_pandas().query("status == 'diverged'")["model_id"])
    assert cell.excluded_models == len(diverged) > 0
    assert not diverged & set(
        np.concatenate([models_of(views) for views in (cell.train, cell.validation, cell.tests[0].views)])
    )


def test_a_zoo_in_the_making_is_refused(tmp_path, tiny_manifest):
    begin(tmp_path / "zoo", tiny_manifest)
    with pytest.raises(ZooError, match="the zoo is not complete"):
        protocols.standard_cell(open_zoo(tmp_path / "zoo"))


def test_a_zoo_without_test_models_is_refused(tmp_path, tiny_manifest):
    text = tiny_manifest.read_text().replace("train = 0.6", "train = 0.8").replace("test = 0.2", "test = 0.0")
    tiny_manifest.write_text(text)
    engine.run(tiny_manifest, tmp_path / "zoo", workers=1)
    with pytest.raises(ZooError, match="the test part of its split is empty"):
        protocols.standard_cell(open_zoo(tmp_path / "zoo"))


def test_a_benchmark_without_a_target_in_the_zoo_is_refused(tmp_path, tiny_manifest, tiny_benchmark):
    text = tiny_manifest.read_text().replace('["adam", "sgd"]', '["adam"]').replace('["relu", "tanh"]', '["relu"]')
    tiny_manifest.write_text(text.replace("[1e-2, 3e-2]", "[1e-2]"))
    engine.run(tiny_manifest, tmp_path / "zoo", workers=1)
    benchmark = tiny_benchmark.model_copy(update={"targets": ("hyperparameters",)})
    with pytest.raises(ZooError, match="has none of the targets of tiny_standard; only the seed varies in it"):
        targets(benchmark, open_zoo(tmp_path / "zoo"))


def test_the_last_checkpoint_alone_can_be_asked_for(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    last, every = protocols.standard_cell(zoo, checkpoints="last"), protocols.standard_cell(zoo)
    for part in ("train", "validation", "test"):
        (view,), (whole,) = (cell.tests[0].views if part == "test" else getattr(cell, part) for cell in (last, every))
        assert view.epochs.tolist() == [4]
        np.testing.assert_array_equal(view.weights[:, 0], whole.weights[:, -1])


def other_zoo(tmp_path, tiny_manifest, *, widths="[16, 5, 4]"):
    """A small zoo beside the tiny one, called `other`."""
    text = tiny_manifest.read_text().replace('"tiny"', '"other"').replace("[16, 5, 4]", widths)
    tiny_manifest.write_text(text.replace("noise = 0.1", "noise = 0.3").replace("range = [1, 5]", "range = [1, 3]"))
    engine.run(tiny_manifest, tmp_path / "other", workers=1)
    return open_zoo(tmp_path / "other")


def benchmark_of(protocol, *zoos, **options):
    return BenchmarkManifest(name="b", protocol=protocol, zoos=zoos, targets=("epoch", "test_accuracy"), **options)


def test_cross_dataset_trains_on_each_zoo_and_tests_on_all(tmp_path, tiny_zoo, tiny_manifest):
    zoos = [open_zoo(tiny_zoo), other_zoo(tmp_path, tiny_manifest)]
    cells = protocols.cells(benchmark_of("cross_dataset", "tiny", "other"), zoos)
    assert [(c.zoo.name, [test.zoo.name for test in c.tests]) for c in cells] == [
        ("tiny", ["tiny", "other"]),
        ("other", ["tiny", "other"]),
    ]
    for cell in cells:
        assert cell.train[0].zoo is cell.validation[0].zoo is cell.zoo
        for test in cell.tests:
            assert set(models_of(test.views)) == set(test.zoo.split("test"))


def test_cross_architecture_tests_only_on_other_architectures(tmp_path, tiny_zoo, tiny_manifest):
    zoos = [open_zoo(tiny_zoo), other_zoo(tmp_path, tiny_manifest, widths="[16, 7, 4]")]
    cells = protocols.cells(benchmark_of("cross_architecture", "tiny", "other"), zoos)
    assert [(c.zoo.name, [test.zoo.name for test in c.tests]) for c in cells] == [
        ("tiny", ["other"]),
        ("other", ["tiny"]),
    ]
    with pytest.raises(
        ZooError, match="tiny and other differ in architecture; expected one architecture in cross_dataset"
    ):
        protocols.cells(benchmark_of("cross_dataset", "tiny", "other"), zoos)
    with pytest.raises(ZooError, match="all zoos have the architecture of tiny"):
        protocols.cells(benchmark_of("cross_architecture", "tiny", "other"), [zoos[0], zoos[0]])


def test_unseen_epochs_are_later_than_all_that_train_or_select(tiny_zoo):
    (cell,) = protocols.cells(benchmark_of("unseen_epochs", "tiny", seen_epochs=0.6), [open_zoo(tiny_zoo)])
    seen, unseen = cell.tests
    for views in (cell.train, cell.validation, seen.views):
        assert [view.epochs.tolist() for view in views] == [[0, 1, 2]]
    assert [view.epochs.tolist() for view in unseen.views] == [[3, 4]]
    assert not set(models_of(unseen.views)) & {*models_of(cell.train), *models_of(cell.validation)}
    with pytest.raises(ZooError, match="expected later ones than the 5 seen"):
        protocols.cells(benchmark_of("unseen_epochs", "tiny", seen_epochs=0.95), [open_zoo(tiny_zoo)])


def test_shares_of_the_training_models_are_nested_and_tested_alike(tiny_zoo):
    cells = protocols.cells(benchmark_of("data_efficiency", "tiny", shares=(0.25, 0.5, 1.0)), [open_zoo(tiny_zoo)])
    train, validation = ([set(models_of(getattr(c, part))) for c in cells] for part in ("train", "validation"))
    assert [len(models) for models in train] == [6, 12, 24]
    assert [len(models) for models in validation] == [2, 4, 8]  # labels that select are labels too
    for models in (train, validation):
        assert models[0] < models[1] < models[2]
    assert len({tuple(models_of(cell.tests[0].views)) for cell in cells}) == 1
    assert [cell.tests[0].condition for cell in cells][:2] == [
        "25 % of the training models",
        "50 % of the training models",
    ]


def test_thresholds_keep_those_models_of_every_part_that_reach_them(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    final = {model: zoo.view([model]).metric("test_accuracy")[0, -1] for model in range(len(zoo.models))}
    least = float(np.median(list(final.values())))
    benchmark = benchmark_of("accuracy_thresholds", "tiny", thresholds=(0.0, least), checkpoints="last")
    whole, better = protocols.cells(benchmark, [zoo])
    (standard,) = protocols.cells(benchmark_of("standard", "tiny", checkpoints="last"), [zoo])
    for part in ("train", "validation"):
        models = models_of(getattr(standard, part)).tolist()
        assert models_of(getattr(whole, part)).tolist() == models
        assert models_of(getattr(better, part)).tolist() == [model for model in models if final[model] >= least]
    tested = models_of(standard.tests[0].views).tolist()
    assert models_of(better.tests[0].views).tolist() == [model for model in tested if final[model] >= least]
    assert whole.name.endswith(", test accuracy of 0 % or more")
    with pytest.raises(ZooError, match="no model of its train part has a test accuracy of 99 % or more"):
        protocols.cells(benchmark_of("accuracy_thresholds", "tiny", thresholds=(0.99,), checkpoints="last"), [zoo])


@pytest.mark.parametrize(
    ("protocol", "options", "message"),
    [
        ("accuracy_thresholds", {}, 'expected "last"'),
        ("accuracy_thresholds", {"checkpoints": "last", "thresholds": (1.0,)}, "thresholds: expected numbers from 0"),
        ("cross_dataset", {}, "zoos: cross_dataset needs two or more"),
        ("unseen_epochs", {"checkpoints": "last"}, "checkpoints: unseen_epochs needs all of them"),
        ("data_efficiency", {"shares": (0.5, 1.5)}, "shares: expected numbers above 0 and up to 1"),
    ],
)
def test_a_manifest_that_does_not_suit_its_protocol_is_refused(protocol, options, message):
    with pytest.raises(ValueError, match=message):
        benchmark_of(protocol, "tiny", **options)
