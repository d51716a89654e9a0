"""A file of an array that is not there is one line of verify and of a reader; what was never written is NaN."""

import pickle
import shutil

import numpy as np
import pytest
import zarr

from tests.zoo_gen.engine.test_mixed import MIXED
from zoo_gen import ZooError, engine, open_zoo, open_zoos
from zoo_gen.files.schema import parse_toml
from zoo_gen.manifest import ZooManifest
from zoo_gen.store import Store
from zoo_gen.zoo.verify import verify


@pytest.fixture
def zoo(tiny_zoo, tmp_path):
    return shutil.copytree(tiny_zoo, tmp_path / "zoo")


@pytest.mark.parametrize("lost", ["weights/c/1/0/0", "test_accuracy/c/3/0", "running_loss/c/0/0"])
def test_a_lost_file_is_named_once(zoo, lost):
    (zoo / "weights.zarr" / lost).unlink()
    report = verify(zoo)
    shard = lost.split("/")[2]
    assert report.findings == (f"shard {shard}: weights.zarr/{lost}: is not there",)
    assert report.damaged_shards == (int(shard),)
    assert report.notes == ()  # the folder that it leaves empty is the zoo's


@pytest.fixture(scope="module")
def mixed_zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed") / "mixed"
    engine.run(parse_toml(MIXED, ZooManifest, where="mixed.toml"), folder, workers=1, progress=False)
    return folder


@pytest.mark.parametrize("lost", ["weights/c/2/0", "test_loss/c/1/0"])
def test_a_lost_file_of_a_mixed_zoo_is_named_once(mixed_zoo, tmp_path, lost):
    zoo = shutil.copytree(mixed_zoo, tmp_path / "zoo")
    (zoo / "weights.zarr" / lost).unlink()
    shard = lost.split("/")[2]
    assert verify(zoo, sample=0).findings == (f"shard {shard}: weights.zarr/{lost}: is not there",)


def test_values_that_were_never_there_are_not_lost(zoo):
    """A metric that is NaN in a whole shard has no file, and is not blamed for another array's damage."""
    store = Store.open(zoo)
    values = {name: np.array(store.array(name)[store.extent.models(0)]) for name in store.extent.arrays()}
    values["test_loss"][:] = np.nan
    shutil.rmtree(zoo / "weights.zarr" / "test_loss" / "c" / "0")
    store.write_shard(0, values, device="cpu")
    assert not (zoo / "weights.zarr" / "test_loss" / "c" / "0").exists()
    assert verify(zoo, sample=0).findings == ()
    (zoo / "weights.zarr" / "test_accuracy" / "c" / "0" / "0").unlink()
    assert verify(zoo, sample=0).findings == ("shard 0: weights.zarr/test_accuracy/c/0/0: is not there",)
    assert np.isnan(open_zoo(zoo).test_loss[:12]).all()  # again without a question: it is known now
    with pytest.raises(ZooError, match=r"weights\.zarr/test_accuracy/c/0/0: is missing"):
        open_zoo(zoo).test_accuracy[0]


READERS = {
    "one model": lambda zoo: zoo.weights[12],
    "all": lambda zoo: zoo.weights[:],
    "one number": lambda zoo: zoo.weights[12, 0, 0],
    "a choice": lambda zoo: zoo.weights.oindex[[0, 12], 1],
    "points": lambda zoo: zoo.weights.vindex[[0, 12], [1, 1], [2, 2]],
    "by name": lambda zoo: zoo.array("weights")[12],
    "in another process": lambda zoo: pickle.loads(pickle.dumps(zoo.weights))[12],
    "a view": lambda zoo: zoo.view([12]).weights,
    "state_dict": lambda zoo: zoo.state_dict(12),
    "module": lambda zoo: zoo.module(23, 0),
    "samples": lambda zoo: list(zoo.torch_dataset("train")),
    "samples of a large zoo": lambda zoo: list(zoo.torch_dataset("train", memory=0)),
    "several zoos": lambda zoo: open_zoos([zoo.path]).weights[12],
}


@pytest.mark.parametrize("reader", READERS)
def test_lost_weights_are_read_by_nobody_as_nan(zoo, reader):
    (zoo / "weights.zarr" / "weights" / "c" / "1" / "0" / "0").unlink()
    opened = open_zoo(zoo)
    with pytest.raises(ZooError, match=r"weights/c/1/0/0: is missing; delete models/part-00001\.parquet") as raised:
        READERS[reader](opened)
    assert "\n" not in str(raised.value)
    assert np.isfinite(opened.weights[:12]).all()  # the other shards are well


def test_lost_metrics_are_read_by_nobody_as_nan(zoo):
    (zoo / "weights.zarr" / "test_class_f1" / "c" / "3" / "0" / "0").unlink()
    (zoo / "weights.zarr" / "running_loss" / "c" / "0" / "0").unlink()
    opened = open_zoo(zoo)
    for read, lost in (
        (lambda: opened.test_class_f1[:], "test_class_f1/c/3/0/0"),
        (opened.to_pandas, "running_loss/c/0/0"),
    ):
        with pytest.raises(ZooError, match=f"{lost}: is missing"):
            read()


def test_lost_weights_of_a_mixed_zoo_are_not_read_as_nan(mixed_zoo, tmp_path):
    zoo = shutil.copytree(mixed_zoo, tmp_path / "zoo")
    (zoo / "weights.zarr" / "weights" / "c" / "2" / "0").unlink()
    opened = open_zoo(zoo)
    for read in (
        lambda: opened.array("weights")[2],
        lambda: opened.view([opened.extent.models(2).start]).weights,
    ):
        with pytest.raises(ZooError, match=r"weights/c/2/0: is missing"):
            read()


def test_models_that_are_not_trained_yet_read_as_nan(tiny_manifest, tmp_path):
    engine.run(tiny_manifest, tmp_path / "half", part=(1, 2), workers=1, progress=False)
    zoo = open_zoo(tmp_path / "half")
    is_nan = np.isnan(zoo.weights[:]).all(axis=(1, 2))
    assert np.flatnonzero(~is_nan).tolist() == [*range(12), *range(24, 36)]
    assert np.isnan(zoo.test_accuracy[12:24]).all()


def test_weights_of_models_that_all_diverged_at_once_read_as_nan(zoo):
    store = Store.open(zoo)
    values = {name: np.full((12, *array.shape[1:]), np.nan) for name, array in arrays_of(store).items()}
    shutil.rmtree(zoo / "weights.zarr" / "weights" / "c" / "2")
    store.write_shard(2, values, device="cpu")
    assert set(open_zoo(zoo).models["status"][24:36].to_pylist()) == {"diverged"}
    assert np.isnan(open_zoo(zoo).weights[24:36]).all()


def arrays_of(store):
    return {name: store.array(name) for name in store.extent.arrays()}


def test_what_is_written_while_it_is_looked_for_is_not_lost(zoo, tmp_path, monkeypatch):
    chunk = zoo / "weights.zarr" / "weights" / "c" / "1" / "0" / "0"
    chunk.rename(tmp_path / "chunk")

    def write_it(*arguments):
        (tmp_path / "chunk").rename(chunk)
        return True

    monkeypatch.setattr("zoo_gen.store.store.had_values", write_it)
    opened = open_zoo(zoo)
    assert np.isnan(opened.weights[12]).all()
    assert np.isfinite(opened.weights[12]).all()


def test_the_pipeline_of_another_package_reads_with_its_own_speed(tiny_zoo, recwarn):
    """It reads what is lost as NaN too; it would leave files that go through Python to zarr's pipeline, and warn."""
    pytest.importorskip("zarrs")
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        assert np.isfinite(open_zoo(tiny_zoo).weights[:]).all()
    assert not recwarn
