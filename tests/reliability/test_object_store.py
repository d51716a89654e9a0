"""Zoos on a real S3 server on loopback; faults.py has the one that refuses, delays, cuts off and loses answers."""

import random
from importlib.util import find_spec

import numpy as np
import pytest
from click.testing import CliRunner

import zoo_bench
from tests.conftest import TINY, begin
from tests.reliability import bench
from tests.reliability.object_store import FLAKY, known, object_store
from zoo_gen import engine, open_zoo
from zoo_gen.cli.main import main
from zoo_gen.errors import ZooError
from zoo_gen.files.location import locate

pytestmark = pytest.mark.skipif(not (find_spec("moto") and find_spec("s3fs")), reason="needs moto and s3fs")

CNN = """
name = "cnn"
[data]
source = "synthetic"
train_size = 64
test_size = 50
image_shape = [1, 28, 28]
[architecture]
name = "cnn_small"
[training]
epochs = 49
batch_size = 16
optimizer = "adam"
learning_rate = 1e-2
initialization = "glorot_normal"
activation = "relu"
[axes.product]
seed = { range = [1, 1000] }
"""


@pytest.fixture(scope="module")
def remote(tmp_path_factory):
    with object_store(tmp_path_factory.mktemp("store")) as started:
        yield started


@pytest.fixture
def s3(remote):
    """The store without faults, which this process and those that it starts know."""
    with known(remote):
        yield remote


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.thorough)])
def test_two_runs_at_one_url_give_the_bytes_of_one_and_all_commands_read_them(s3, tiny, workers):
    url = f"s3://bucket/two-{workers}"
    other = bench.start(tiny, url, workers=workers)
    s3.wait_for(1, other)
    engine.run(tiny.manifest, locate(url), workers=1, progress=False)
    assert bench.wait(other) == 0
    assert s3.files(f"two-{workers}") == tiny.files
    for command, ending in (("info", "median"), ("verify", ": sound")):
        result = CliRunner().invoke(main, [command, url])
        assert (result.exit_code, result.stderr) == (0, "")
        assert ending in result.output.splitlines()[-1]


def test_a_store_that_refuses_cuts_off_and_loses_answers_costs_no_byte(s3, tiny):
    """faults.py also delays answers, and kills the run."""
    s3.chance, s3.faults = random.Random(0), {fault: FLAKY[fault] for fault in ("refused", "cut off", "answer lost")}
    try:
        engine.run(tiny.manifest, locate("s3://bucket/flaky"), workers=1, progress=False)
    finally:
        s3.faults = {}
    assert {fault for fault, count in s3.met.items() if count} == {"refused", "cut off", "answer lost"}
    assert s3.files("flaky") == tiny.files


def fill(folder, manifest_path, shards):
    """Make a zoo whose shards hold random numbers, which compress no better than weights."""
    store = begin(folder, manifest_path)
    extent = store.extent
    random = np.random.default_rng(0)
    for shard in shards:
        models = extent.models(shard)
        shapes = {name: (models.stop - models.start, *shape[1:]) for name, shape in extent.arrays().items()}
        arrays = {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}
        store.write_shard(shard, arrays, device="cpu")
    return extent


def test_making_a_shard_costs_the_requests_that_the_docs_state(s3, tmp_path):
    """docs/reliability.md and docs/scale.md: 33 a shard and 44 more."""
    counts = {}
    for n_shards in (4, 8):
        path = tmp_path / f"{n_shards}.toml"
        path.write_text(TINY.replace("models_per_shard = 12", f"models_per_shard = {40 // n_shards}"))
        s3.forget()
        engine.run(path, locate(f"s3://bucket/shards-{n_shards}"), workers=1, progress=False)
        counts[n_shards] = s3.requests
    per_shard = (counts[8] - counts[4]) / 4
    assert per_shard <= 33
    assert counts[4] - 4 * per_shard <= 44


def test_one_model_of_a_remote_zoo_is_less_than_300_kilobytes(s3, tmp_path):
    path = tmp_path / "cnn.toml"
    path.write_text(CNN)
    extent = fill(locate("s3://bucket/cnn"), path, [0])
    assert (extent.n_parameters, extent.n_checkpoints) == (2464, 50)
    assert extent.models_per_shard > 60
    s3.forget()
    module = open_zoo("s3://bucket/cnn").module(41)
    assert sum(tensor.numel() for tensor in module.state_dict().values()) == 2464
    assert s3.sent + s3.received < 300_000
    assert s3.requests <= 16


def test_a_store_that_is_away_is_one_line(s3, tiny, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("FSSPEC_S3", '{"config_kwargs": {"retries": {"max_attempts": 1}}}')
    assert bench.wait(bench.start(tiny, "s3://bucket/away")) == 2
    output = (tiny.manifest.parent / "said").read_text()
    assert output.startswith("error: s3://bucket/away")
    assert "EndpointConnectionError" in output
    assert output.count("\n") == 1


def test_a_bucket_that_is_not_there_is_one_line_with_its_url(s3, tiny):
    result = CliRunner().invoke(main, ["run", str(tiny.manifest), "--out", "s3://nobody/zoo", "--workers", "1"])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: s3://nobody/zoo")
    assert line.endswith("expected a bucket that is there")


def test_a_benchmark_takes_its_zoos_from_a_url(s3, tiny, tmp_path):
    engine.run(tiny.manifest, locate("s3://bucket/zoos/tiny"), workers=1, progress=False)
    manifest = zoo_bench.BenchmarkManifest(name="b", protocol="standard", zoos=("tiny",), targets=("test_accuracy",))
    there, here = (
        zoo_bench.evaluate("weight_statistics", manifest, zoos=zoos, seeds=[0])
        for zoos in ("s3://bucket/zoos", tiny.folder.parent)
    )
    assert there[0].predictions_sha256 == here[0].predictions_sha256
    with pytest.raises(ZooError, match=r"s3://bucket/zoos/tinny: no such zoo; .*did you mean 'tiny'"):
        zoo_bench.evaluate(
            "weight_statistics", manifest.model_copy(update={"zoos": ("tinny",)}), zoos="s3://bucket/zoos"
        )
