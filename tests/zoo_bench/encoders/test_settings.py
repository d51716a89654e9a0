"""Settings of encoders by name: typed, refused with the names there are, and part of the encoder's name."""

import dataclasses
import sys
import types
from functools import partial
from typing import Literal

import pytest

from zoo_bench.encoders import ENCODERS, encoder_settings, make_encoder
from zoo_bench.encoders.ranges import RANGES, drawn, grid, parsed_range
from zoo_bench.encoders.settings import configured, settings_of, split_name, with_settings
from zoo_gen.errors import ZooError


@dataclasses.dataclass(frozen=True)
class Training:
    epochs: int = 3
    rate: float | None = 0.1


class Mine:
    def __init__(
        self, hidden: int = 4, words=("a", "b"), kind: Literal["x", "y"] = "x", training: Training = Training()
    ):
        self.config = {"hidden": hidden, "words": tuple(words), "kind": kind, **dataclasses.asdict(training)}

    def fit(self, train, validation, *, seed):
        return self

    def encode(self, view):
        return view.weights[:, 0]


@pytest.fixture
def mine(monkeypatch):
    module = types.ModuleType("of_mine")
    module.Mine, module.small = Mine, partial(Mine, hidden=2)
    monkeypatch.setitem(sys.modules, "of_mine", module)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hidden=7", {"hidden": 7}),
        ("kind=y,epochs=5", {"kind": "y", "epochs": 5}),
        ("rate=1", {"rate": 1.0}),
        ('words=["c","d,e"]', {"words": ("c", "d,e")}),
    ],
)
def test_settings_have_the_types_that_the_encoder_says(mine, text, expected):
    assert make_encoder(f"of_mine:Mine[{text}]").config == Mine().config | expected


def test_a_partial_keeps_what_it_set(mine):
    assert make_encoder("of_mine:small[epochs=9]").config == Mine(hidden=2, training=Training(epochs=9)).config


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("of_mine:Mine[hiden=3]", "unknown setting 'hiden'; did you mean 'hidden'?"),
        ("of_mine:Mine[hidden=many]", "hidden=many: input should be a valid integer"),
        ("of_mine:Mine[hidden=0.5]", "hidden=0.5: input should be a valid integer"),
        ("of_mine:Mine[kind=z]", "kind=z: input should be 'x' or 'y'"),
        ("of_mine:Mine[hidden]", "'hidden': expected KEY=VALUE"),
        ("of_mine:Mine[hidden=1,hidden=2]", "hidden: is set twice"),
        ("of_mine:Mine[hidden=1", "expected NAME or NAME[KEY=VALUE,KEY=VALUE]"),
        ("weights[a=1]", "encoder 'weights': has no settings"),
        ("pcaa[dimension=1]", "unknown encoder 'pcaa'"),
        ("sne_small[width=33]", "width 33 with heads 2"),
    ],
)
def test_what_is_no_setting_is_refused_in_one_line(mine, name, message):
    with pytest.raises(ZooError) as raised:
        make_encoder(name)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_names_with_settings_are_the_same_whatever_their_order():
    assert with_settings("mlp[steps=5]", {"epochs": "2"}) == with_settings("mlp", {"steps": "5", "epochs": "2"})
    assert split_name("mlp[epochs=2,steps=5]") == ("mlp", {"epochs": "2", "steps": "5"})
    assert with_settings("pca", {}) == "pca"


@pytest.mark.parametrize("name", ["pca", "mlp", "deep_sets_small", "sne", "sne_small", "hyper_representation_small"])
def test_a_setting_at_its_default_changes_nothing(name):
    plain = make_encoder(name).config
    for key, setting in encoder_settings(name).items():
        if isinstance(setting.default, int | float) and setting.default is not None:
            text = str(setting.default).lower()
            assert make_encoder(f"{name}[{key}={text}]").config == plain, key


def test_every_shipped_encoder_can_be_asked_for_its_settings():
    assert all(isinstance(encoder_settings(name), dict) for name in ENCODERS)


@pytest.mark.parametrize("family", RANGES)
def test_declared_ranges_are_of_settings_and_hold_values_that_fit(family):
    ranges = {name: parsed_range(name, text) for name, text in RANGES[family].items()}
    plain = make_encoder(family).config
    assert any(make_encoder(with_settings(family, choice)).config != plain for choice in drawn(ranges, 3, seed=0))


def test_two_arguments_with_one_field_are_told_apart():
    def maker(first: Training = Training(epochs=1), second: Training = Training(epochs=2)):
        return first, second

    assert set(settings_of(maker)) == {"epochs", "rate", "second.epochs", "second.rate"}
    first, second = configured("maker", maker, {"epochs": "5", "second.rate": "0.5"})()
    assert (first, second) == (Training(5, 0.1), Training(2, 0.5))


def test_draws_lie_in_their_ranges_and_follow_from_the_seed():
    ranges = {"a": parsed_range("a", "1e-4..1e-2 log"), "b": parsed_range("b", "2..5"), "c": parsed_range("c", "x,y")}
    choices = drawn(ranges, 200, seed=1)
    assert choices == drawn(ranges, 200, seed=1) != drawn(ranges, 200, seed=2)
    assert all(1e-4 <= float(choice["a"]) <= 1e-2 for choice in choices)
    assert 0.35 < sum(float(choice["a"]) < 1e-3 for choice in choices) / 200 < 0.65  # as logarithms
    assert {choice["b"] for choice in choices} == {"2", "3", "4", "5"}
    assert {choice["c"] for choice in choices} == {"x", "y"}
    assert len(drawn({"c": ranges["c"]}, 10, seed=0)) == 2  # there are no more


def test_a_grid_holds_every_combination_once():
    ranges = {"a": parsed_range("a", "1,2,3"), "b": parsed_range("b", "x,y")}
    assert [tuple(choice.values()) for choice in grid(ranges, 6)] == [(a, b) for a in "123" for b in "xy"]
    with pytest.raises(ZooError, match="the grid has 6 combinations for 5 trials"):
        grid(ranges, 5)
    with pytest.raises(ZooError, match="a: is no list of values"):
        grid({"a": parsed_range("a", "1..3")}, 5)


@pytest.mark.parametrize("text", ["1..", "2..1", "0..1 log", "1..2 lin", "1,1", "1,,2", ""])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(ZooError, match="expected"):
        parsed_range("a", text)
