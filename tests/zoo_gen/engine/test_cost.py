import numpy as np

from tests.conftest import files_of
from zoo_gen.engine import cost
from zoo_gen.manifest import read_manifest
from zoo_gen.zoo import open_zoo


def test_the_plan_counts_what_a_run_makes(tiny_zoo):
    found = cost.plan(read_manifest(tiny_zoo / "manifest.toml"))
    zoo = open_zoo(tiny_zoo)
    assert (found.models, found.shards, found.models_per_shard) == (40, 4, 12)
    assert (found.checkpoints, found.parameters) == zoo.weights.shape[1:]
    assert found.steps == 40 * 4 * 4  # models, epochs, steps of 32 images out of 100
    arrays = [zoo.weights, *map(zoo.metric, zoo.metrics)]
    assert found.bytes == sum(np.prod(array.shape) * 4 for array in arrays)
    assert found.files == len(files_of(tiny_zoo))


def test_the_estimate_is_of_the_right_size(tiny_zoo):
    found = cost.estimate(read_manifest(tiny_zoo / "manifest.toml"), workers=2)
    assert found.workers == 2
    assert 0 < found.seconds < 60


def test_models_that_see_fewer_images_or_larger_batches_take_fewer_steps(tiny_manifest):
    text = tiny_manifest.read_text().replace("batch_size = 32\n", "")
    tiny_manifest.write_text(
        text.replace("[axes.product]", "[axes.product]\nbatch_size = [10, 30]\ntrain_fraction = [0.5, 1.0]")
    )
    found = cost.plan(read_manifest(tiny_manifest))
    steps = [5, 10, 2, 4]  # 50 and 100 images in batches of 10 and 30
    assert found.steps == 40 * 4 * sum(steps)
