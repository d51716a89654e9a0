import numpy as np
import pytest

from zoo_bench import protocols
from zoo_gen import engine, open_zoo, store
from zoo_gen.errors import ZooError


def test_the_standard_protocol_keeps_the_models_of_the_parts_apart(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    cell = protocols.standard_cell(zoo)
    views = {"train": cell.train, "validation": cell.validation, "test": cell.test}
    for name, view in views.items():
        assert view.models.tolist() == sorted(zoo.split(name))
        assert view.epochs.tolist() == [0, 1, 2, 3, 4]
    assert len(set(np.concatenate([view.models for view in views.values()]))) == 40


def test_parts_that_share_a_model_are_refused():
    with pytest.raises(ZooError, match="model 3 stands in two parts"):
        protocols.check_disjoint({"train": np.array([1, 2, 3]), "test": np.array([3, 4])})


def test_targets_are_written_out_and_have_the_values_of_the_zoo(tiny_zoo, tiny_benchmark):
    zoo = open_zoo(tiny_zoo)
    found = {target.name: target for target in protocols.targets(tiny_benchmark, zoo)}
    assert list(found) == [
        *["epoch", "test_accuracy", "generalization_gap"],
        *[f"test_class_f1_{number}" for number in range(4)],
        *["optimizer", "activation", "learning_rate"],
    ]
    view = zoo.view([39, 5])
    assert found["epoch"].values(view).tolist() == [0, 1, 2, 3, 4] * 2
    np.testing.assert_array_equal(found["test_accuracy"].values(view)[5:], zoo.test_accuracy[5].astype(float))
    np.testing.assert_array_equal(found["test_class_f1_2"].values(view)[:5], zoo.test_class_f1[39, :, 2].astype(float))
    assert found["optimizer"].values(view).tolist() == ["sgd"] * 5 + ["adam"] * 5
    assert found["learning_rate"].values(view).tolist() == [3e-2] * 5 + [3e-2] * 5
    assert [target.is_number for target in found.values()] == [True] * 7 + [False, False, True]


def test_diverged_models_are_left_out_and_counted(tmp_path, tiny_manifest):
    text = tiny_manifest.read_text().replace("[1e-2, 3e-2]", "[1e-2, 1e20]")
    tiny_manifest.write_text(text)
    engine.run(tiny_manifest, tmp_path / "zoo", workers=1)
    zoo = open_zoo(tmp_path / "zoo")
    cell = protocols.standard_cell(zoo)
    diverged = set(zoo.models.to_pandas().query("status == 'diverged'")["model_id"])
    assert cell.excluded_models == len(diverged) > 0
    assert not diverged & set(np.concatenate([cell.train.models, cell.validation.models, cell.test.models]))


def test_a_zoo_in_the_making_is_refused(tmp_path, tiny_manifest):
    store.create(tmp_path / "zoo", tiny_manifest, data_sha256="", device="cpu")
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
        protocols.targets(benchmark, open_zoo(tmp_path / "zoo"))


def test_the_last_checkpoint_alone_can_be_asked_for(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    last, every = protocols.standard_cell(zoo, checkpoints="last"), protocols.standard_cell(zoo)
    for part in ("train", "validation", "test"):
        view, whole = getattr(last, part), getattr(every, part)
        assert view.epochs.tolist() == [4]
        np.testing.assert_array_equal(view.weights[:, 0], whole.weights[:, -1])
