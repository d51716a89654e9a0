"""ModelZoos: keys that move with dropout, result lines by their iteration, nothing opened that should not be."""

import json
import random

import numpy as np
import pytest
import torch

from tests.zoo_gen.published import ray, small_cnn
from tests.zoo_gen.published.ray import convert
from zoo_gen import ZooError, open_zoo
from zoo_gen.zoo.verify import verify


def converted(tmp_path, archive, **options):
    return open_zoo(convert(archive, tmp_path / "zoo", format="model_zoos", **options))


def assert_equal(zoo, published):
    runs = sorted({run for run, _ in published.networks})
    assert zoo.models["run"].to_pylist() == runs
    inputs = small_cnn.noise()["test"][0]
    for (run, epoch), network in published.networks.items():
        model = runs.index(run)
        tensors = list(zoo.state_dict(model, epoch).values())
        for ours, theirs in zip(tensors, network.state_dict().values(), strict=True):
            assert torch.equal(ours, theirs)
        torch.testing.assert_close(zoo.module(model, epoch)(inputs), network(inputs))
        line = published.results.get((run, epoch), {})
        for name, theirs in (
            ("test_accuracy", "test_acc"),
            ("test_loss", "test_loss"),
            ("train_accuracy", "train_acc"),
        ):
            stored, value = zoo.metric(name)[model, zoo.checkpoint(epoch)], line.get(theirs, -999)
            assert np.isnan(stored) if value == -999 else stored == np.float32(value)


@pytest.fixture(scope="module")
def runs():
    return ray.zoo(small_cnn.noise())


@pytest.mark.parametrize("kind", ["zip", "folder", "tar.gz"])
def test_every_state_is_read_from_whatever_holds_the_runs(tmp_path, runs, kind):
    if kind == "zip":
        archive = ray.zipped(tmp_path / "cnn.zip", runs.files)
    elif kind == "folder":
        archive = ray.folder(tmp_path / "cnn", runs.files)
    else:
        archive = small_cnn.tar(tmp_path / "cnn.tar.gz", runs.files, mode="w:gz", top="")
    zoo = converted(tmp_path, archive)
    assert zoo.layout.size == 2464
    assert zoo.manifest.architecture.name == "cnn_small"
    assert_equal(zoo, runs)
    assert verify(zoo.path, sample=0).findings == ()


def test_hyper_parameters_are_columns_and_paths_of_others_are_not(tmp_path, runs):
    zoo = converted(tmp_path, ray.zipped(tmp_path / "cnn.zip", runs.files))
    columns = zoo.models.to_pydict()
    assert columns["activation"] == ["tanh", "relu", "gelu", "leaky_relu"]
    assert columns["dropout"] == [0.0, 0.1, 0.0, 0.1]
    assert columns["seed"] == [1, 2, 3, 4]
    assert columns["model::o_dim"] == [4, 4, 4, 4]
    assert zoo.n_classes == 10  # what the weights say
    assert "netscratch" not in json.dumps(columns, default=str)
    assert set(zoo.varying) == {"activation", "dropout", "seed"}


@pytest.mark.parametrize("spelling", ["checkpoint_{}", "checkpoint_{:06d}"])
@pytest.mark.parametrize("first_line", [0, 1])
def test_result_lines_are_matched_by_their_iteration(tmp_path, spelling, first_line):
    published = ray.zoo(small_cnn.noise(), n_runs=2, epochs=2, spelling=spelling, first_line=first_line)
    assert_equal(converted(tmp_path, ray.zipped(tmp_path / "cnn.zip", published.files)), published)


def test_runs_that_were_resumed_and_runs_that_crashed_keep_their_rows(tmp_path, runs):
    files = dict(runs.files)
    first, second = sorted({run for run, _ in runs.networks})[:2]
    lines = files[f"{first}/result.json"].decode().splitlines()
    repeated = json.loads(lines[1]) | {"test_acc": 0.5}
    files[f"{first}/result.json"] = "\n".join([*lines[:2], json.dumps(repeated), *lines[2:]]).encode()
    for name in [name for name in files if name.startswith(f"{second}/checkpoint")]:
        del files[name]
    zoo = converted(tmp_path, ray.zipped(tmp_path / "cnn.zip", files))
    assert zoo.test_accuracy[0, zoo.checkpoint(1)] == np.float32(0.5)
    assert zoo.models["status"].to_pylist() == ["complete", "partial", "complete", "complete"]
    assert np.isnan(zoo.weights[1]).all()
    assert verify(zoo.path, sample=0).findings == ()


def test_states_of_before_torch_1_6_are_read(tmp_path):
    published = ray.zoo(small_cnn.noise(), n_runs=2, epochs=1, legacy=True)
    assert_equal(converted(tmp_path, ray.zipped(tmp_path / "cnn.zip", published.files)), published)


def test_wrapped_and_prefixed_states_are_unwrapped(tmp_path, runs):
    files = dict(runs.files)
    for (run, epoch), network in runs.networks.items():
        state = {f"module.{key}": value for key, value in network.state_dict().items()}
        files[f"{run}/checkpoint_{epoch:06d}/checkpoints"] = ray.saved({"model_state_dict": state})
    assert_equal(converted(tmp_path, ray.zipped(tmp_path / "cnn.zip", files)), runs)


def test_some_epochs_and_models_open_only_their_files(tmp_path, runs):
    files = dict(runs.files)
    names = sorted({run for run, _ in runs.networks})
    for name in files:
        if name.endswith("/checkpoints") and ("000002" in name or names[0] in name) and "000000" not in name:
            files[name] = b"broken"
    zoo = converted(tmp_path, ray.zipped(tmp_path / "cnn.zip", files), epochs=[0, 3], models=range(1, 3))
    assert zoo.weights.shape == (2, 2, 2464)
    for model, run in enumerate(names[1:3]):
        expected = runs.networks[run, 3].state_dict().values()
        assert all(map(torch.equal, zoo.state_dict(model, 3).values(), expected))


def test_the_run_wise_split_is_that_of_sorted_folders(tmp_path):
    published = ray.zoo(small_cnn.noise(8, 8), n_runs=20, epochs=0)
    zoo = converted(tmp_path, ray.zipped(tmp_path / "cnn.zip", published.files))
    paths = sorted({run for run, _ in published.networks})
    random.seed(42)
    random.shuffle(paths)
    runs = zoo.models["run"]
    assert runs.take(zoo.split("train", table="run_wise")).to_pylist() == paths[:14]
    assert runs.take(zoo.split("validation", table="run_wise")).to_pylist() == paths[14:17]
    assert runs.take(zoo.split("test", table="run_wise")).to_pylist() == paths[17:]


def test_a_state_of_another_shape_is_named(tmp_path, runs):
    run = min(run for run, _ in runs.networks)
    wrong = {"a.weight": torch.zeros(3, 4)}
    files = runs.files | {f"{run}/checkpoint_000002/checkpoints": ray.saved(wrong)}
    with pytest.raises(ZooError, match=r"checkpoint_000002/checkpoints: has no tensor .* and has a\.weight besides"):
        converted(tmp_path, ray.zipped(tmp_path / "cnn.zip", files))


def test_accuracies_are_computed_again_from_the_weights(tmp_path, fashion, images_root):
    images = {part: ((pixels - 0.5) / 0.5, labels) for part, (pixels, labels) in fashion.items()}
    published = ray.zoo(images, n_runs=2, epochs=2)
    zoo = converted(tmp_path, ray.zipped(tmp_path / "tune_zoo_fmnist.zip", published.files))
    assert zoo.manifest.data_name == "FashionMNIST"
    report = verify(zoo.path, sample=6, data_root=images_root)
    assert (report.findings, report.notes, report.evaluated_checkpoints) == ((), (), 6)
    assert np.nanmax(zoo.test_accuracy[:]) > 0.6
