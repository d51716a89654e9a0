import numpy as np

from tests.conftest import files_of
from zoo_gen import cost
from zoo_gen.manifest import read_manifest
from zoo_gen.zoo import open_zoo


def test_the_plan_counts_what_a_run_makes(tiny_zoo):
    found = cost.plan(read_manifest(tiny_zoo / "manifest.toml"), workers=2)
    zoo = open_zoo(tiny_zoo)
    assert (found.models, found.shards, found.models_per_shard) == (40, 4, 12)
    assert (found.checkpoints, found.parameters) == zoo.weights.shape[1:]
    assert found.steps == 40 * 4 * 4  # models, epochs, steps of 32 images out of 100
    arrays = (zoo.weights, zoo.train_loss, zoo.train_accuracy, zoo.test_loss, zoo.test_accuracy, zoo.test_class_f1)
    assert found.bytes == sum(np.prod(array.shape) * 4 for array in arrays)
    assert found.files == len(files_of(tiny_zoo))
    assert found.workers == 2
    assert 0 < found.seconds < 60
