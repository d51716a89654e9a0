"""Fitted encoders pushed to a Hub on loopback and loaded from there."""

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from tests.conftest import files_of
from tests.hub_server import Fault
from tests.zoo_bench.encoders.layouts import CNN, random_view
from zoo_bench.cli import main
from zoo_bench.encoders import ENCODERS, exchange, make_encoder
from zoo_bench.encoders.baselines.mlp import TRAINING, mlp
from zoo_bench.encoders.baselines.statistics_network import statistics_network
from zoo_gen.errors import ZooError

SHORT = replace(TRAINING, epochs=2, steps=20, batch_size=8)


@pytest.fixture(scope="module")
def fitted():
    return fresh().fit([random_view(CNN, models=20)], [random_view(CNN, models=8, seed=1)], seed=0)


def fresh():
    return mlp(widths=(16,), training=SHORT)


def test_a_pushed_encoder_encodes_the_same_wherever_it_is_loaded(hub, fitted):
    pushed = exchange.push_encoder(fitted, "org/mlp", name="mlp", tag="v1", fitted_to="tiny, revision 0123")
    files = hub.repositories["model", "org/mlp"].files("v1")[1]
    assert set(files) == {".gitattributes", "README.md", "encoder.json", "weights.safetensors"}
    assert pushed.url == f"{hub.endpoint}/org/mlp"
    loaded = exchange.load_encoder(fresh(), "hf://org/mlp@v1", name="mlp")
    view = random_view(CNN, models=5, seed=2)
    np.testing.assert_array_equal(loaded.encode(view), fitted.encode(view))


def test_the_card_says_how_to_load_it(hub, fitted):
    exchange.push_encoder(fitted, "org/mlp", name="mlp", tag="v1", licence="mit", fitted_to="tiny")
    card = hub.repositories["model", "org/mlp"].files("v1")[1]["README.md"].decode()
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "mit"
    assert "--encoder mlp --load hf://org/mlp@v1" in body
    assert "fitted to tiny" in body


def test_a_push_repeated_changes_nothing(hub, fitted):
    exchange.push_encoder(fitted, "org/mlp", name="mlp")
    assert not exchange.push_encoder(fitted, "org/mlp", name="mlp").changed
    assert len(hub.repositories["model", "org/mlp"].commits) == 2


def test_a_download_that_breaks_off_goes_on(hub, fitted):
    exchange.push_encoder(fitted, "org/mlp", name="mlp")
    hub.faults.append(Fault("weights.safetensors"))
    exchange.load_encoder(fresh(), "hf://org/mlp", name="mlp")
    assert not hub.faults[0].times


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://org/none", "^hf://org/none: there is no such model"),
        ("hf://org/mlp@v9", "^hf://org/mlp@v9: there is no revision 'v9'"),
        ("hf://org/empty", "is not complete; the same command resumes"),
        ("hf://org/other", "expected schema 1 of 'mlp'"),
        ("hf://datasets/org/mlp", "is no address of an encoder on the Hub"),
    ],
)
def test_what_is_no_encoder_is_named(hub, fitted, address, message):
    exchange.push_encoder(fitted, "org/mlp", name="mlp")
    hub.add("org/empty", {"README.md": b""}, kind="model")
    files = dict(hub.repositories["model", "org/mlp"].commits[-1][1])
    other = json.loads(files["encoder.json"]) | {"kind": "sne"}
    hub.add("org/other", files | {"encoder.json": json.dumps(other).encode()}, kind="model")
    with pytest.raises(ZooError, match=message):
        exchange.load_encoder(fresh(), address, name="mlp")


def test_an_encoder_that_cannot_be_saved_is_refused(hub):
    with pytest.raises(ZooError, match=r"^encoder 'pca': has no 'save'; expected a neural encoder"):
        exchange.push_encoder(make_encoder("pca"), "org/pca", name="pca")
    assert hub.log == []


def test_encode_pushes_and_loads(hub, tiny_zoo, tmp_path, monkeypatch):
    monkeypatch.setitem(ENCODERS, "statistics_network", lambda: statistics_network(training=SHORT))
    hub.add("org/tiny", files_of(tiny_zoo))

    def encode(*arguments):
        base = ["encode", "--encoder", "statistics_network", "--device", "cpu", *map(str, arguments)]
        return CliRunner().invoke(main, base)

    first = encode(tiny_zoo, "--out", tmp_path / "a.npz", "--push", "org/net", "--tag", "v1")
    assert first.exit_code == 0, first.output
    assert f"pushed: hf://org/net is {hub.endpoint}/org/net at " in first.output
    second = encode("hf://org/tiny", "--out", tmp_path / "b.npz", "--load", "hf://org/net@v1")
    assert second.exit_code == 0, second.output
    with np.load(tmp_path / "b.npz") as actual, np.load(tmp_path / "a.npz") as expected:
        np.testing.assert_array_equal(actual["embedding"], expected["embedding"])
    assert encode(tiny_zoo, "--out", tmp_path / "c.npz", "--push", "net").stderr.startswith(
        "error: repository 'net': exp"
    )
