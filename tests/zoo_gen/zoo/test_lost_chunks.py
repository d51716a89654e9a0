"""A file of an array that is not there is one line of verify, and what was never written, NaN alone, is none."""

import shutil

import numpy as np
import pytest

from tests.zoo_gen.engine.test_mixed import MIXED
from zoo_gen import engine
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
