import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from zoo_bench.cli import main
from zoo_bench.evaluation.mock import check, make_zoos

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
MODULE = """
import numpy as np

class Means:
    config = {}

    def fit(self, train, validation, *, seed):
        return self

    def encode(self, view):
        rows = view.weights.reshape(-1, view.layout.size)
        return np.stack([rows.mean(axis=1), rows.std(axis=1)], axis=1)

class LooksAtTheOthers(Means):
    def encode(self, view):
        rows = Means.encode(self, view)
        return (rows - rows.mean(axis=0)) / rows.std(axis=0)

class Forgets(Means):
    def fit(self, train, validation, *, seed):
        self.shift = np.random.default_rng().normal()
        return self

    def encode(self, view):
        return Means.encode(self, view) * self.shift

class Stumbles(Means):
    def encode(self, view):
        return Means.encode(self, view) + np.random.default_rng().normal(size=(len(view.weights), 2))

class PredictsTheWeather(Means):
    config = {"target": "weather"}

    def predict(self, view):
        return np.zeros(len(view.weights))

class CannotFit(Means):
    def fit(self, train, validation, *, seed):
        raise ValueError("no convergence")

class OneArchitecture(Means):
    def encode(self, view):
        return view.weights[:, 0, :109] * np.ones(109)
"""


@pytest.fixture(scope="module")
def zoos(tmp_path_factory):
    """The tiny zoos, made once."""
    return make_zoos(tmp_path_factory.mktemp("mock"))


@pytest.fixture(autouse=True)
def strangers(tmp_path, monkeypatch):
    (tmp_path / "strangers.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    yield
    for name in ("strangers", "layer_norms"):
        sys.modules.pop(name, None)


def test_an_encoder_that_keeps_to_the_protocol_conforms(zoos):
    findings = list(check("strangers:Means", zoos))
    assert {finding.state for finding in findings} == {"ok", "note"}
    assert next(finding.state for finding in findings if finding.what == "cross-architecture protocol") == "ok"


@pytest.mark.parametrize(
    ("name", "what", "detail"),
    [
        ("LooksAtTheOthers", "a row depends on its own weights alone", "it changed without other rows beside it, by "),
        ("Forgets", "fitting again with the seed gives the same", "it changed by "),
        ("Stumbles", "encoding again gives the same", "it changed by "),
        ("PredictsTheWeather", "predict", "config['target'] is 'weather'; expected one of epoch, test_accuracy"),
        ("CannotFit", "the checks after this one", "fit: ValueError: no convergence (strangers.py, line "),
    ],
)
def test_what_an_encoder_does_wrong_is_named(zoos, name, what, detail):
    failed = {finding.what: finding.detail for finding in check(f"strangers:{name}", zoos) if finding.state == "FAILED"}
    assert detail in failed[what]


def test_an_encoder_of_one_architecture_conforms_with_a_note(zoos):
    findings = {finding.what: finding for finding in check("strangers:OneArchitecture", zoos)}
    assert "FAILED" not in {finding.state for finding in findings.values()}


def test_the_command_says_so_and_fails_where_something_is_wrong():
    right = CliRunner().invoke(main, ["run", "--mock", "--encoder", "strangers:Means"])
    assert right.exit_code == 0
    assert right.stdout.splitlines()[-1] == "conforms"
    wrong = CliRunner().invoke(main, ["run", "--mock", "--encoder", "strangers:LooksAtTheOthers"])
    assert wrong.exit_code == 2
    assert "  FAILED  a row depends on its own weights alone: " in wrong.stdout
    assert "when other rows stood beside it" in wrong.stdout  # as `run` refuses it
    assert wrong.stderr.startswith("error: 2 checks failed")
    with_name = CliRunner().invoke(main, ["run", "quickstart", "--mock"])
    assert with_name.stderr.startswith("error: --mock: takes no benchmark, got quickstart")


def test_the_documented_example_is_short_conforms_and_is_evaluated(tmp_path, zoos, tiny_zoo, monkeypatch):
    assert len((EXAMPLES / "layer_norms.py").read_text().splitlines()) <= 35
    states = {each.what: each.state for each in check("layer_norms:LayerNorms", zoos)}
    assert "FAILED" not in states.values()
    monkeypatch.chdir(EXAMPLES)
    (tmp_path / "its.toml").write_text(
        'name = "its"\nprotocol = "standard"\nzoos = ["tiny"]\ntargets = ["epoch", "test_accuracy"]\n'
    )
    arguments = ["run", tmp_path / "its.toml", "--encoder", "layer_norms:LayerNorms", "--zoos", tiny_zoo.parent]
    done = CliRunner().invoke(main, [str(each) for each in [*arguments, "--results", tmp_path / "results"]])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("its: layer_norms:LayerNorms, seed 0: evaluated in ")
