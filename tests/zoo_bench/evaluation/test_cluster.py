"""Cells on a real Dask scheduler with real worker processes."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.reliability.hosts import THIS
from tests.reliability.test_cluster import Cluster
from zoo_bench.cli import main
from zoo_bench.evaluation import run
from zoo_bench.protocol.manifest import BenchmarkManifest

pytestmark = pytest.mark.skipif(find_spec("distributed") is None, reason="needs distributed")

ENCODER = """
class First:
    config = {"count": 20}

    def fit(self, train, validation, *, seed):
        return self

    def encode(self, view):
        return view.weights[:, 0, :20]
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    root = str(Path(__file__).parents[3])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])))
    (tmp_path / "cluster").mkdir()
    hosts = Cluster(tmp_path / "cluster", [THIS] * 2)
    yield hosts
    hosts.close()


@pytest.mark.thorough  # zoo_bench/test_face.py has the quick form; reliability/test_cluster.py has a cluster
def test_a_cluster_gives_the_same_as_this_process_and_finds_a_strangers_encoder(
    tmp_path, tiny_zoo, cluster, monkeypatch
):
    (tmp_path / "strange.py").write_text(ENCODER)
    monkeypatch.chdir(tmp_path)  # the workers of the cluster stand elsewhere
    monkeypatch.syspath_prepend(tmp_path)
    manifest = BenchmarkManifest(
        name="b", protocol="data_efficiency", zoos=("tiny",), targets=("test_accuracy",), shares=(0.5, 1.0)
    )
    cluster.add_worker(1)
    by_place = {}
    for name, scheduler in (("here", None), ("there", cluster.address)):
        by_place[name] = list(
            run.run(
                manifest,
                ["strange:First", "weight_statistics"],
                zoos=tiny_zoo.parent,
                results=Path(name),
                seeds=[0],
                scheduler=scheduler,
            )
        )
    for (local, _), (remote, _) in zip(by_place["here"], by_place["there"], strict=True):
        assert [cell.scores for cell in local.cells] == [cell.scores for cell in remote.cells]
        assert local.predictions_sha256 == remote.predictions_sha256
    assert not Path("there/.cells").exists()


@pytest.mark.parametrize("options", [["--engine", "dask"], ["--scheduler", "tcp://127.0.0.1:1"]])
def test_the_engine_and_its_scheduler_belong_together(options):
    result = CliRunner().invoke(main, ["run", "quickstart", *options])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --engine dask and --scheduler tcp://host:8786 belong together")
