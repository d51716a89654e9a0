"""A zoo of residual CNNs with batch normalisation, from its manifest to its modules: statistics go everywhere."""

import re
import shutil

import numpy as np
import pytest
import torch

from tests.conftest import files_of
from zoo_gen import ZooError, engine, open_zoo, verify
from zoo_gen.image_data import load_image_data
from zoo_gen.manifest import ZooManifest, find_manifest
from zoo_gen.zoo import Zoo

SHIPPED = find_manifest("mini_digits_resnet").read_text()


def cut(*, count: int = 1, epochs: int = 2) -> str:
    """Return the shipped manifest with four models a count, in shards of two."""
    text = SHIPPED
    for pattern, instead in (
        ("count = 5", f"count = {count}"),
        ("epochs = 5", f"epochs = {epochs}\ntrain_fraction = 0.1"),
        ("models_per_shard = 16", "models_per_shard = 2"),
        (r"learning_rate = \[1e-1, 1e-2, 1e-3\]", "learning_rate = [1e-2]"),
    ):
        text, replaced = re.subn(pattern, instead, text)
        assert replaced == 1
    return text


def make(folder, text: str, **options) -> Zoo:
    path = folder.with_suffix(".toml")
    path.write_text(text)
    engine.run(path, folder, workers=1, progress=False, **options)
    return open_zoo(folder)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Zoo:
    return make(tmp_path_factory.mktemp("batch_norm") / "zoo", cut())


def test_running_statistics_are_kept_at_every_checkpoint_beside_the_weights(zoo):
    assert zoo.weights.shape == (4, 3, 5122)
    buffers = np.asarray(zoo.array("buffers")[:])
    assert buffers.shape == (4, 3, 2 * (8 + 8 + 8 + 16 + 16 + 16))
    means = zoo.manifest.network.buffer_layout.split(buffers)
    assert (means["batch_norm1.running_mean"][:, 0] == 0).all()
    assert (means["batch_norm1.running_var"][:, 0] == 1).all()
    assert (buffers[:, 1] != buffers[:, 2]).mean() > 0.99
    assert "buffers" not in zoo.metrics


def test_modules_and_states_have_them_and_give_the_stored_metrics(zoo):
    state = zoo.state_dict(1)
    stored = zoo.manifest.network.buffer_layout.split(np.asarray(zoo.array("buffers")[1, -1]))
    assert set(stored) < set(state)
    for name, values in stored.items():
        np.testing.assert_array_equal(state[name].numpy(), values)
    inputs, labels = load_image_data(zoo.manifest.data).tensors("test")
    module = zoo.module(1)
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(module(inputs), labels).item()
        untrained = zoo.manifest.network.module(activation="relu").eval()
        untrained.load_state_dict({name: values for name, values in state.items() if name not in stored}, strict=False)
        other = torch.nn.functional.cross_entropy(untrained(inputs), labels).item()
    assert loss == pytest.approx(float(zoo.test_loss[1, -1]), rel=1e-5)
    assert abs(other - loss) > 0.05  # the statistics matter
    assert float(zoo.test_accuracy[1, -1]) > 0.15
    assert verify(zoo, sample=6).sound


def test_a_run_that_was_interrupted_resumes_to_the_same_bytes(zoo, tmp_path):
    folder = tmp_path / "zoo"
    shutil.copytree(zoo.path, folder)
    (folder / "models" / "part-00001.parquet").unlink()
    make(folder, cut())
    assert files_of(folder) == files_of(zoo.path)


def test_a_zoo_that_grows_has_the_bytes_of_one_made_at_once(zoo, tmp_path):
    text = cut(count=2)
    at_once = make(tmp_path / "at_once", text)
    grown = make(tmp_path / "grown", text, reuse=[zoo.path])
    assert files_of(grown.path) == files_of(at_once.path)


def test_batches_of_one_image_are_refused_where_they_would_be_normalised(tmp_path):
    flat = {
        "name": "flat",
        "data": {"source": "synthetic", "image_shape": [1, 4, 4], "n_classes": 3, "train_size": 33, "test_size": 9},
        "architecture": {
            "name": "layers",
            "layers": [{"type": "flatten"}, {"type": "batch_norm"}, {"type": "linear", "units": 3}],
        },
        "training": {
            **{"epochs": 1, "batch_size": 8, "optimizer": "sgd", "learning_rate": 0.1},
            "initialization": "xavier_normal",
        },
        "axes": {"product": {"seed": [1]}},
    }
    with pytest.raises(
        ZooError, match=r"training\.batch_size: 8 leaves the last batch of an epoch one image, whose val"
    ):
        ZooManifest.model_validate(flat)
    with pytest.raises(ZooError, match=r"batch_size: 1 leaves a batch one image, whose values batch_norm1 cannot"):
        ZooManifest.model_validate(flat | {"training": flat["training"] | {"batch_size": 1}})
    ZooManifest.model_validate(flat | {"training": flat["training"] | {"drop_last": True}})
