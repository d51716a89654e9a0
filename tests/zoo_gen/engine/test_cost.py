import numpy as np
import pytest

from tests.conftest import files_of
from zoo_gen.engine import cost
from zoo_gen.manifest import read_manifest
from zoo_gen.population.population import Population
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


def test_the_estimate_adds_up_steps_and_evaluations_of_all_shards(tiny_zoo, monkeypatch):
    """With known seconds of a step and of an evaluation, by hand: 4 shards of 12, 12, 12 and 4 models, 2 at once."""
    populations = []

    def seconds_of_a_step(population):
        populations.append(len(population))
        return 0.01 * len(population)

    monkeypatch.setattr(cost, "_time_steps", seconds_of_a_step)
    monkeypatch.setattr(cost, "_time_evaluation", lambda population: 1e-4 * len(population) * population.task.n_train)
    found = cost.estimate(read_manifest(tiny_zoo / "manifest.toml"), workers=2)
    assert populations == [12]
    # 4 epochs of 4 steps; 5 checkpoints measured on 100 training and 60 test images
    each = 4 * 4 * 0.01 + 5 * (100 + 60) * 1e-4
    assert (found.workers, found.seconds) == (2, pytest.approx(40 * each / 4 * 2))


def test_steps_and_evaluations_are_timed_by_taking_them(tiny_zoo, monkeypatch):
    """A clock that only the population moves: 3 seconds an epoch, 5 an evaluation."""
    now = 0.0

    def moved(method, seconds):
        def call(population, argument):
            nonlocal now
            now += seconds
            return method(population, argument)

        return call

    monkeypatch.setattr(Population, "train_epoch", moved(Population.train_epoch, 3.0))
    monkeypatch.setattr(Population, "evaluate", moved(Population.evaluate, 5.0))
    monkeypatch.setattr(cost.time, "perf_counter", lambda: now)
    found = cost.estimate(read_manifest(tiny_zoo / "manifest.toml"), workers=1)
    step, image = 3.0 / (2048 / 32) / 12, 5.0 / 2048 / 12  # of one model of 12
    assert found.seconds == pytest.approx(40 * (4 * 4 * step + 5 * (100 + 60) * image))


def test_models_that_see_fewer_images_or_larger_batches_take_fewer_steps(tiny_manifest):
    text = tiny_manifest.read_text().replace("batch_size = 32\n", "")
    tiny_manifest.write_text(
        text.replace("[axes.product]", "[axes.product]\nbatch_size = [10, 30]\ntrain_fraction = [0.5, 1.0]")
    )
    found = cost.plan(read_manifest(tiny_manifest))
    steps = [5, 10, 2, 4]  # 50 and 100 images in batches of 10 and 30
    assert found.steps == 40 * 4 * sum(steps)
