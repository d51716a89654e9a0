import itertools
import json
import logging
from pathlib import Path

import pytest

from tests.zoo_gen.engine.test_driver import CNN
from zoo_gen import find_manifest, read_manifest
from zoo_gen.architecture.registry import CNNSmall, layers
from zoo_gen.machine.compiling import can_compile
from zoo_gen.population.cpu import convolutions as forms_module
from zoo_gen.population.cpu import wisdom
from zoo_gen.population.cpu.convolutions import LANES, forms
from zoo_gen.population.cpu.wisdom import fastest, remembered

SEQUENCE = layers(CNNSmall(name="cnn_small"), (1, 28, 28), 10)
KEY = {"layers": "some"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """What is remembered in a test; nothing before it."""
    monkeypatch.setenv("ZOO_FORMS_ROOT", str(tmp_path / "forms"))
    return tmp_path / "forms"


def measured(start: float) -> dict[str, float]:
    return {name: start + number for number, name in enumerate([*forms(), "into lanes", "out of lanes"])}


def not_again() -> dict[str, float]:
    pytest.fail("measures again")


def test_the_first_answer_stays(folder):
    first = remembered(KEY, lambda: measured(1.0))
    assert remembered(KEY, not_again) == first == measured(1.0)
    assert remembered({"layers": "others"}, lambda: measured(2.0)) == measured(2.0)
    assert len(list(folder.iterdir())) == 2
    assert all(json.loads(path.read_text())["layers"] in ("some", "others") for path in folder.iterdir())


def test_of_two_that_measure_at_once_the_first_to_finish_is_right():
    def while_another_finishes() -> dict[str, float]:
        remembered(KEY, lambda: measured(1.0))
        return measured(2.0)

    assert remembered(KEY, while_another_finishes) == measured(1.0)


@pytest.mark.parametrize("content", [b"", b'{"seconds": {"grou', b"[]", b'{"seconds": {"grouped": 1.0}}', b"\xff"])
def test_a_damaged_memory_is_replaced(folder, content):
    remembered(KEY, lambda: measured(1.0))
    (path,) = folder.iterdir()
    path.write_bytes(content)
    assert remembered(KEY, lambda: measured(2.0)) == measured(2.0)
    assert remembered(KEY, not_again) == measured(2.0)
    assert list(folder.iterdir()) == [path]


def test_where_nothing_can_be_written_the_measurement_counts_and_is_said_to_be_lost(folder, caplog):
    folder.write_text("no folder")
    with caplog.at_level(logging.WARNING):
        assert remembered(KEY, lambda: measured(1.0)) == measured(1.0)
    assert "cannot be written" in caplog.text


@pytest.mark.skipif(not can_compile(), reason="needs llvmlite")
@pytest.mark.parametrize("seed", range(20))
def test_the_forms_are_the_fastest_together_with_the_changes_of_order_between_them(seed, monkeypatch):
    """Against all combinations."""
    from random import Random

    random = Random(seed)
    stages = [
        {name: random.random() for name in [*forms(), "into lanes", "out of lanes"]}
        for layer in SEQUENCE
        if layer.name.startswith("convolution")
    ]
    following = iter(stages)
    monkeypatch.setattr(wisdom, "remembered", lambda *_: next(following))

    def cost(chosen: tuple[str, ...]) -> float:
        total, inside = 0.0, False
        for number, (form, seconds) in enumerate(zip(chosen, stages, strict=True)):
            if inside != (form == LANES):
                total += seconds["into lanes"] if form == LANES else stages[number - 1]["out of lanes"]
            inside = form == LANES
            total += seconds[form]
        return total + (stages[-1]["out of lanes"] if inside else 0.0)

    best = min(itertools.product(forms(), repeat=len(stages)), key=cost)
    found = fastest(SEQUENCE, (1, 28, 28), batch_size=10, n_models=16)
    assert tuple(found.values()) == best
    assert list(found) == ["convolution1", "convolution2", "convolution3"]


def test_a_timing_measures_every_form_of_every_convolution(folder):
    chosen = fastest(SEQUENCE, (1, 28, 28), batch_size=4, n_models=16)
    assert set(chosen.values()) <= set(forms())
    kept = [json.loads(path.read_text()) for path in folder.iterdir()]
    assert sorted(each["layers"][0]["outputs"] for each in kept) == [4, 6, 8]
    assert all(set(each["seconds"]) >= set(forms()) and min(each["seconds"].values()) > 0 for each in kept)
    assert fastest(SEQUENCE, (1, 28, 28), batch_size=4, n_models=16) == chosen
    assert [json.loads(path.read_text()) for path in folder.iterdir()] == kept


def test_without_llvmlite_the_forms_are_torchs(monkeypatch):
    monkeypatch.setattr(forms_module, "can_compile", lambda: False)
    chosen = fastest(SEQUENCE, (1, 28, 28), batch_size=4, n_models=8)
    assert set(chosen.values()) <= {"grouped", "single", "patches"}


def test_a_small_zoo_is_begun_without_a_timing_and_a_large_one_with_one(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(wisdom, "fastest", lambda *_, **settings: asked.append(settings) or {"convolution1": "lanes"})
    small = tmp_path / "cnn.toml"
    small.write_text(CNN)
    assert wisdom.forms_of(read_manifest(small), models_per_shard=10) == {}
    assert asked == []
    large = read_manifest(find_manifest("modelzoos_mnist_seed"))
    assert wisdom.forms_of(large, models_per_shard=63) == {"convolution1": "lanes"}
    assert asked == [{"n_models": 16, "batch_size": 10}]


@pytest.mark.parametrize(
    ("axis", "models_per_shard", "expected"),
    [
        ("product.seed = { range = [1, 60] }", 30, 16),  # more than train together
        ("product.seed = { range = [1, 60] }", 10, 8),  # rounded down, so that few sizes are timed
        ("product = { seed = { range = [1, 20] }, train_fraction = [0.3, 0.5, 1.0] }", 30, 8),
        (
            "random = { count = 60, seed = 1, draw = { seed.uniform = [0, 9], train_fraction.uniform = [0.3, 1.0] } }",
            30,
            1,
        ),
    ],
)
def test_forms_are_timed_with_as_many_models_as_train_together(axis, models_per_shard, expected, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(wisdom, "fastest", lambda *_, **settings: asked.append(settings["n_models"]) or {})
    path = tmp_path / "large.toml"
    path.write_text(CNN.partition("[axes")[0].replace("epochs = 2", "epochs = 10_000") + f"[axes]\n{axis}\n")
    wisdom.forms_of(read_manifest(path), models_per_shard=models_per_shard)
    assert asked == [expected]


def test_operations_are_those_of_the_products():
    # A convolution of 3x3 kernels is, a pixel and pair of channels, 9 products and sums in each of three passes.
    assert wisdom.operations(SEQUENCE[:1], (1, 28, 28)) == 3 * 2 * 25 * 8 * 24 * 24
