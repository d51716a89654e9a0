"""A control: with labels that say nothing of the networks, nobody is better than who predicts the mean."""

import shutil

import numpy as np
import pytest
import zarr

from zoo_bench.evaluation import run as engine
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_gen import open_zoo

ENCODERS = ("weights", "weight_statistics", "pca", "statistics_boosting", "mlp")
ZOOS = {"cross_dataset": ("tiny", "other"), "cross_architecture": ("tiny", "third")}


@pytest.fixture(scope="module")
def permuted_zoos(tmp_path_factory, three_zoos):
    """The small zoos with their test accuracies permuted within the training and within the validation part."""
    folder = tmp_path_factory.mktemp("permuted") / "zoos"
    shutil.copytree(three_zoos, folder)
    for number, name in enumerate(("tiny", "other", "third")):
        zoo, random = open_zoo(folder / name), np.random.default_rng(number)
        array = zarr.open_array(folder / name / "weights.zarr" / "test_accuracy", mode="r+")
        values = array[:]
        for part in ("train", "validation"):
            of_part = values[zoo.split(part)]
            values[zoo.split(part)] = random.permutation(of_part.reshape(-1)).reshape(of_part.shape)
        array[:] = values
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "encoder"),
    [
        *((p, e) for p in ("standard", "cross_dataset", "unseen_epochs", "data_efficiency") for e in ENCODERS),
        *(("cross_architecture", e) for e in ("last_layer_statistics", "pooled_layer_statistics", "deep_sets_small")),
    ],
)
@pytest.mark.parametrize("reading", ["probe", "own"])
def test_who_learns_permuted_labels_is_no_better_than_the_mean(tmp_path, permuted_zoos, protocol, encoder, reading):
    manifest = BenchmarkManifest(
        name="its", protocol=protocol, zoos=ZOOS.get(protocol, ("tiny",)), targets=("test_accuracy",), reading=reading
    )
    ((result, _),) = engine.run(manifest, [encoder], zoos=permuted_zoos, results=tmp_path, seeds=[0])
    # What cannot be learned may leave one embedding for all, which is a failed cell and comes last.
    assert all("one embedding for all" in failure.message for failure in result.failures)
    ranking = [score for cell in result.cells for score in cell.scores if score.ranks]
    assert len(ranking) == len(result.cells)
    for score in ranking:  # undefined for no one: R2 of the mean is about 0
        assert score.low <= 0, score
