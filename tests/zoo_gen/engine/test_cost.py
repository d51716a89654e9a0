import re

import numpy as np
import pytest
import torch

import zoo_gen
from tests.conftest import files_of
from zoo_gen.engine import cost, timing
from zoo_gen.engine.timing import Speed
from zoo_gen.manifest import read_manifest
from zoo_gen.population.population import Population
from zoo_gen.zoo import open_zoo


def test_the_plan_counts_what_a_run_makes(tiny_zoo):
    plan = cost.plan(read_manifest(tiny_zoo / "manifest.toml"))
    zoo = open_zoo(tiny_zoo)
    assert (plan.models, plan.shards, plan.models_per_shard) == (40, 4, 12)
    assert (plan.checkpoints, plan.parameters) == zoo.weights.shape[1:]
    assert plan.steps == 40 * 4 * 4  # models, epochs, steps of 32 images out of 100
    arrays = [zoo.weights, *map(zoo.metric, zoo.metrics)]
    assert plan.bytes == sum(np.prod(array.shape) * 4 for array in arrays)
    assert plan.files == len(files_of(tiny_zoo))


def test_the_estimate_adds_up_steps_and_evaluations_of_all_shards(tiny_zoo, monkeypatch):
    """With a known speed, by hand: 4 shards of 12, 12, 12 and 4 models; two workers, each with two shards."""
    speed = Speed(np.array([32.0]), np.array([0.01 / 32]), evaluation=1e-4, beginning=0.5, start=7.0)
    tasks = []
    monkeypatch.setattr(timing, "measure", lambda manifest, models, rows, *, device: tasks.extend(rows) or speed)
    estimate = cost.estimate(read_manifest(tiny_zoo / "manifest.toml"), workers=2)
    assert [list(rows) for rows in tasks] == [[*range(12)], [*range(12, 24)], [*range(24, 36)], [*range(36, 40)]]
    # 4 epochs of 4 steps; 5 checkpoints measured on 100 training and 60 test images
    each = 0.5 + 4 * 4 * 0.01 + 5 * (100 + 60) * 1e-4
    assert (estimate.workers, estimate.models_at_risk) == (2, 12)
    assert estimate.seconds == pytest.approx(7 + 24 * each, rel=1e-3)  # and what writing takes
    assert estimate.at_risk == pytest.approx(12 * each, rel=1e-3)


def test_a_plan_says_which_workers_would_have_no_shard_and_how_all_of_them_have_one(tiny_zoo):
    manifest = read_manifest(tiny_zoo / "manifest.toml")  # 40 models in 4 shards
    assert "idle" not in zoo_gen.plan(manifest, workers=4).durations()
    duration = zoo_gen.plan(manifest, workers=7).durations()["idle"]
    assert duration.startswith("3 of 7 workers, ")
    size = int(re.search(r"models_per_shard = (\d+)", duration)[1])
    smaller = manifest.model_copy(update={"storage": manifest.storage.model_copy(update={"models_per_shard": size})})
    assert "idle" not in zoo_gen.plan(smaller, workers=7).durations()


def test_an_interruption_loses_no_more_than_what_was_not_saved(tiny_zoo, monkeypatch):
    """A hundred seconds a step: shards of 12 models and 4 epochs, saved after the first epoch that ends too late."""
    speed = Speed(np.array([32.0]), np.array([100 / 32]), evaluation=0.0, beginning=0.0, start=0.0)
    monkeypatch.setattr(timing, "measure", lambda *arguments, **options: speed)
    estimate = cost.estimate(read_manifest(tiny_zoo / "manifest.toml"), workers=1)
    assert estimate.seconds == pytest.approx(40 * 4 * 4 * 100, rel=1e-3)
    assert estimate.at_risk == pytest.approx(120 + 12 * 4 * 100, rel=1e-3)  # an epoch of 4 steps


def test_a_step_of_a_batch_size_between_those_timed_is_in_proportion():
    speed = Speed(np.array([10.0, 50.0]), np.array([3.0, 1.0]), evaluation=0, beginning=0, start=0)
    assert list(speed.step(np.array([5, 10, 30, 50, 100]))) == [15, 30, 60, 50, 100]


@pytest.mark.parametrize("budget", [400.0, 0.1])
def test_steps_and_evaluations_are_timed_by_taking_them(tiny_zoo, monkeypatch, budget):
    """A clock that only the populations move: 100 seconds for the first epoch, then 3 each, and 5 an evaluation.

    The first epoch compiles: however little time there is, it does not stand for the others.
    """
    now = 0.0

    def moved(method, seconds):
        def call(population, argument):
            nonlocal now
            now += seconds(argument)
            return method(population, argument)

        return call

    monkeypatch.setattr(timing, "BUDGET", budget)
    monkeypatch.setattr(Population, "train_epoch", moved(Population.train_epoch, lambda e: 103.0 if e == 1 else 3.0))
    monkeypatch.setattr(Population, "evaluate", moved(Population.evaluate, lambda _: 5.0))
    monkeypatch.setattr(timing.time, "thread_time", lambda: now)
    monkeypatch.setattr(timing, "_start", lambda device: 11.0)
    manifest = read_manifest(tiny_zoo / "manifest.toml")
    models = manifest.rows(slice(0, 40))
    speed = timing.measure(manifest, models, [np.arange(12), np.arange(28, 40)], device="cpu")
    images = 512 * 12  # of an epoch that is timed
    assert speed.samples == pytest.approx(3 / images)
    assert speed.evaluation == pytest.approx(5 / images)
    assert speed.start == pytest.approx(11 + 100)


def test_a_plan_takes_a_bounded_time_where_a_single_epoch_is_long(tiny_zoo, monkeypatch):
    """An epoch and an evaluation of a population take an hour: two of each are taken, as the first may compile."""
    now, taken = 0.0, []

    def hour(population, argument):
        nonlocal now
        now += 3600
        taken.append(argument)
        return {"loss": torch.zeros(len(population))}

    for name in ("train_epoch", "evaluate"):
        monkeypatch.setattr(Population, name, hour)
    monkeypatch.setattr(timing.time, "thread_time", lambda: now)
    monkeypatch.setattr(timing, "_start", lambda device: 0.0)
    manifest = read_manifest(tiny_zoo / "manifest.toml")
    speed = timing.measure(manifest, manifest.rows(slice(0, 40)), [np.arange(12)], device="cpu")
    assert taken == [1, 2, "train", "train"]
    assert speed.samples == pytest.approx(3600 / (512 * 12))


def test_models_that_see_fewer_images_or_larger_batches_take_fewer_steps(tiny_manifest):
    text = tiny_manifest.read_text().replace("batch_size = 32\n", "")
    tiny_manifest.write_text(
        text.replace("[axes.product]", "[axes.product]\nbatch_size = [10, 30]\ntrain_fraction = [0.5, 1.0]")
    )
    plan = cost.plan(read_manifest(tiny_manifest))
    steps = [5, 10, 2, 4]  # 50 and 100 images in batches of 10 and 30
    assert plan.steps == 40 * 4 * sum(steps)
