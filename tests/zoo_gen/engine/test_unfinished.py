"""Interruptions inside of a shard: what it had trained is trained no second time, and the zoo has the same bytes."""

import re
from functools import partial

import numpy as np
import pytest

from tests.conftest import TINY, files_of
from tests.zoo_gen.engine.test_batch_norm import cut
from tests.zoo_gen.engine.test_mixed import MIXED
from zoo_gen import engine
from zoo_gen.engine import blocks
from zoo_gen.files import atomic
from zoo_gen.manifest import read_manifest
from zoo_gen.population.population import Population
from zoo_gen.store import Extent, Store
from zoo_gen.store.unfinished import Unfinished, state_name

OWN = "tests.zoo_gen.population."
CNN = """
name = "cnn"
[data]
source = "synthetic"
train_size = 30
test_size = 20
[architecture]
name = "cnn_small"
[training]
epochs = 3
learning_rate = 1e-2
initialization = "glorot_normal"
activation = "relu"
crop_padding = 1
flip = 0.5
schedule = "cosine"
momentum = 0.9
[axes.product]
optimizer = ["momentum", "rmsprop"]
dropout = [0.0, 0.5]
batch_size = [10, 16]
seed = { range = [1, 3] }
[storage]
models_per_shard = 24
"""
MODULE = f"""
name = "module"
[data]
source = "synthetic"
image_shape = [1, 8, 8]
train_size = 64
test_size = 20
[architecture]
name = "module"
module = "{OWN}own_networks:Residual"
[training]
epochs = 3
batch_size = 32
learning_rate = 1e-2
initialization = "module"
[axes.product]
optimizer = ["{OWN}own_training:Lion", "{OWN}own_training:adam", "nesterov"]
momentum = [0.9]
seed = {{ range = [1, 4] }}
[storage]
models_per_shard = 12
"""
ZOOS = {
    "two shards of MLPs, some frozen": TINY.replace("models_per_shard = 12", "models_per_shard = 20").replace(
        "epochs = 4", "epochs = 4\nstop_loss = 1.0"
    ),
    "CNNs in four populations": CNN,
    "batch norm in lanes": cut(epochs=2).replace("models_per_shard = 2", "models_per_shard = 4"),
    "a module with optimisers of one's own": MODULE,
    "several architectures, one after the other": MIXED.replace("[1, 3] }", "[1, 1] }"),
}


class Interrupted(BaseException):
    """Stands for Ctrl-C, which a test run is ended by."""


@pytest.fixture
def epochs(monkeypatch):
    """Counts the epochs that populations train, and ends one before the number that `epochs.last` says."""

    class Epochs:
        trained, last = 0, 0

    train_epoch = Population.train_epoch

    def counted(population, epoch):
        if Epochs.last and Epochs.trained == Epochs.last:
            raise Interrupted
        Epochs.trained += 1
        train_epoch(population, epoch)

    monkeypatch.setattr(Population, "train_epoch", counted)
    return Epochs


# Batch norm in lanes is a zoo of CNNs too.
THOROUGH = ("CNNs in four populations",)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.thorough if kind in THOROUGH else ()) for kind in ZOOS]
)
def test_an_interrupted_shard_goes_on_where_it_was_to_the_same_bytes(tmp_path, epochs, kind):
    manifest = tmp_path / "zoo.toml"
    manifest.write_text(ZOOS[kind])
    engine.run(manifest, tmp_path / "whole", workers=1, progress=False)
    in_all = epochs.trained
    folder = tmp_path / "interrupted"
    for number in range(1, in_all):  # after each epoch
        epochs.trained, epochs.last = 0, 1
        with pytest.raises(Interrupted):
            engine.run(manifest, folder, workers=1, progress=False, save_seconds=0)
        assert len(list(folder.glob("models/.*"))) == 1, number
    epochs.trained, epochs.last = 0, 0
    engine.run(manifest, folder, workers=1, progress=False, save_seconds=0)
    assert epochs.trained == 1
    assert files_of(folder) == files_of(tmp_path / "whole")


def interrupt(manifest, folder, epochs, *, after: int, **options):
    epochs.trained, epochs.last = 0, after
    with pytest.raises(Interrupted):
        engine.run(manifest, folder, workers=1, progress=False, save_seconds=0, **options)
    epochs.trained, epochs.last = 0, 0


def test_nothing_is_written_half_way_before_it_is_due(tmp_path, tiny_manifest, epochs):
    epochs.last = 3
    with pytest.raises(Interrupted):
        engine.run(tiny_manifest, tmp_path / "tiny", workers=1, progress=False)
    assert not list(tmp_path.glob("tiny/models/.*"))


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [flipped, lambda content: content[:-10], lambda _: b""])
def test_a_damaged_state_is_named_and_not_used(tmp_path, tiny_zoo, tiny_manifest, epochs, caplog, damage):
    folder = tmp_path / "tiny"
    interrupt(tiny_manifest, folder, epochs, after=3)
    path = folder / "models" / state_name(0)
    path.write_bytes(damage(path.read_bytes()))
    engine.run(tiny_manifest, folder, workers=1, progress=False)
    assert epochs.trained == 4 * 4
    assert "is damaged; its shard is trained from the start" in caplog.text
    assert files_of(folder) == files_of(tiny_zoo)


def test_a_state_of_another_version_or_of_other_models_is_not_used(tmp_path, tiny_zoo, tiny_manifest, epochs):
    folder = tmp_path / "tiny"
    interrupt(tiny_manifest, folder, epochs, after=3)
    path, manifest = folder / "models" / state_name(0), read_manifest(tiny_manifest)
    other = Unfinished(folder, 0, training={"models": list(range(12))}, seconds=0)
    other.write({"epoch": np.array(2)})
    engine.run(tiny_manifest, folder, workers=1, progress=False)
    assert epochs.trained == 4 * manifest.training.epochs
    assert not path.exists()
    assert files_of(folder) == files_of(tiny_zoo)


def test_models_that_are_copied_and_models_that_are_trained_half_way_stay_apart(tmp_path, tiny_zoo, epochs):
    """The first shard copies models of one zoo, is interrupted, and would then copy others."""
    manifest = tmp_path / "tiny.toml"
    for name, seeds in (("first", "[1, 2]"), ("last", "[4, 5]")):
        manifest.write_text(re.sub(r"\[1, 5\]", seeds, TINY))
        engine.run(manifest, tmp_path / name, workers=1, progress=False)
    manifest.write_text(TINY)
    interrupt(manifest, tmp_path / "tiny", epochs, after=2, reuse=[tmp_path / "first"])
    engine.run(manifest, tmp_path / "tiny", workers=1, progress=False, reuse=[tmp_path / "last"])
    assert files_of(tmp_path / "tiny") == files_of(tiny_zoo)


def test_a_state_that_cannot_be_written_ends_nothing(tmp_path, tiny_zoo, tiny_manifest, monkeypatch, caplog):
    replace = atomic.replace

    def full(path, content):
        if path.name in map(state_name, range(4)):
            raise OSError(28, "No space left on device")
        replace(path, content)

    monkeypatch.setattr("zoo_gen.store.unfinished.atomic.replace", full)
    engine.run(tiny_manifest, tmp_path / "tiny", workers=1, progress=False, save_seconds=0)
    assert caplog.text.count("cannot be written ([Errno 28] No space left on device)") == 4  # a line a shard
    assert files_of(tmp_path / "tiny") == files_of(tiny_zoo)


def test_a_store_tells_complete_shards_from_those_trained_half_way(tmp_path, tiny_manifest, epochs):
    folder = tmp_path / "tiny"
    interrupt(tiny_manifest, folder, epochs, after=6)
    assert Store.open(folder).shards_on_disk() == ([0], frozenset([1]))


def test_on_gpus_shards_that_were_trained_together_half_way_stay_together(tmp_path, monkeypatch):
    (tmp_path / "tiny.toml").write_text(TINY.replace("models_per_shard = 12", "models_per_shard = 5"))
    manifest = read_manifest(tmp_path / "tiny.toml")
    monkeypatch.setattr(blocks, "models_on_device", lambda manifest, *, device: (15, 0))
    cut = partial(blocks.blocks, manifest, Extent.of(manifest), range(8), devices=["cuda:0"])
    assert cut() == [[0, 1], [2, 3, 4], [5, 6, 7]]
    assert cut(pending=range(1, 8)) == [[1, 2], [3, 4], [5, 6, 7]]
    assert cut(pending=range(1, 8), begun={2}) == [[2, 3, 4], [1, 5], [6, 7]]
    assert cut(pending=[1, 2, 3, 5, 6, 7], begun={2, 5}) == [[5, 6, 7], [1, 2, 3]]  # 4 was complete after all
