"""A real Dask scheduler and real workers, on this machine and on three hosts; what dies in the middle costs nothing."""

import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests import forked, waiting
from tests.conftest import files_of
from tests.reliability import bench
from tests.reliability.hosts import THIS, CannotIsolate, Host, three_hosts
from tests.zoo_gen.engine.stand_ins import tell_process
from zoo_gen import engine
from zoo_gen.cli.main import main
from zoo_gen.errors import ZooError
from zoo_gen.machine import cluster as clusters
from zoo_gen.machine.workers import train_all

pytestmark = pytest.mark.skipif(find_spec("distributed") is None, reason="needs distributed")


class Cluster:
    """A scheduler and its workers, each a process; the scheduler is on the first host, workers on the others."""

    def __init__(self, place: Path, hosts: list[Host]) -> None:
        self.place, self.hosts = place, hosts
        self.processes: list[forked.Process] = []
        address = place / "scheduler.json"
        self.start(hosts[0], "scheduler", "--port", "0", "--scheduler-file", str(address))
        waiting.until(lambda: address.exists() and address.read_text().endswith("}"))
        self.address = json.loads(address.read_text())["address"]

    def start(self, host: Host, kind: str, *options: str) -> forked.Process:
        arguments = [kind, "--host", host.address, "--no-dashboard", *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process: forked.Process
        with (self.place / f"{kind}.log").open("a") as log:
            if host.prefix:
                command = [*host.prefix, sys.executable, "-m", "dask", *arguments]
                process = subprocess.Popen(command, stdout=log, stderr=log, text=True, cwd=self.place, env=environment)
            else:
                process = forked.start("dask", arguments, output=log, folder=self.place, environment=environment)
        self.processes.append(process)
        return process

    def add_worker(self, host: int, *more: str) -> forked.Process:
        """Start a worker and wait until the scheduler knows it."""
        log = self.place / "worker.log"
        before = log.read_text().count("Registered to") if log.exists() else 0
        options = ("--nthreads", "1", "--no-nanny", "--local-directory", str(self.place / "spill"), *more)
        process = self.start(self.hosts[host], "worker", self.address, *options)
        waiting.until(lambda: log.read_text().count("Registered to") > before)
        return process

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def hosts(request):
    if request.param == "one machine":
        yield [THIS] * 3
        return
    try:
        with three_hosts() as started:
            yield started
    except CannotIsolate as error:
        pytest.skip(f"no rights for networks of one's own ({error})")


@pytest.fixture
def cluster(tmp_path, monkeypatch, hosts):
    root = str(Path(__file__).parent.parent.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])))
    (tmp_path / "cluster").mkdir()
    hosts_started = Cluster(tmp_path / "cluster", hosts)
    yield hosts_started
    hosts_started.close()


def parts(folder: Path) -> int:
    return len(list(folder.glob("models/part-*.parquet")))


def wait_for_parts(folder: Path, count: int, client: forked.Process) -> None:
    waiting.until(lambda: parts(folder) >= count or client.poll() is not None)


def killed_in_the_middle(zoo: bench.Zoo, place: Path, **options: tuple[str, ...]) -> Path:
    """Kill a run when some of its 48 shards are complete; return a folder in which enough are left for another."""
    for attempt in count():
        folder = place / f"zoo{attempt}"
        client = bench.start(zoo, folder, **options)
        wait_for_parts(folder, 4, client)
        client.kill()
        code = bench.wait(client)
        if code == -signal.SIGKILL and parts(folder) <= 40:  # on a busy machine it may come too late
            return folder
    raise AssertionError


on_one_machine = pytest.mark.parametrize("hosts", ["one machine"], indirect=True)


@on_one_machine
def test_a_cluster_makes_the_bytes_of_one_process(tmp_path, tiny, cluster):
    cluster.add_worker(1)
    engine.run(tiny.manifest, tmp_path / "zoo", scheduler=cluster.address, progress=False)
    assert files_of(tmp_path / "zoo") == tiny.files


@pytest.mark.parametrize(
    "hosts",
    [
        pytest.param("one machine", marks=pytest.mark.thorough),
        pytest.param("three hosts", marks=pytest.mark.slow),
    ],
    indirect=True,
)
def test_a_worker_dies_another_comes_the_client_is_killed_and_no_byte_differs(tmp_path, many_shards, cluster):
    options = {
        "options": ("--engine", "dask", "--scheduler", cluster.address),
        "prefix": cluster.hosts[0].prefix,
    }
    first, _ = cluster.add_worker(1), cluster.add_worker(2)
    folder = killed_in_the_middle(many_shards, tmp_path, **options)
    client = bench.start(many_shards, folder, **options)
    wait_for_parts(folder, parts(folder) + 4, client)
    first.kill()
    cluster.add_worker(1)
    assert bench.wait(client) == 0
    output = (many_shards.manifest.parent / "said").read_text()
    assert "Traceback" not in output
    assert bench.outcome(many_shards, folder) == bench.Outcome(lost=False, bytes_that_differ=0)


def answer_of(zoo: bench.Zoo, folder: Path, scheduler: str) -> str:
    """Return the line with which a run on a cluster is refused."""
    words = ["run", str(zoo.manifest), "--out", str(folder), "--engine", "dask", "--scheduler", scheduler]
    outcome = CliRunner().invoke(main, words)
    assert outcome.exit_code == 2
    (line,) = [line for line in outcome.output.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense", "", "foo://127.0.0.1:8786"])
def test_a_scheduler_that_is_not_there_is_one_line(tmp_path, tiny, monkeypatch, address):
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 1)
    line = answer_of(tiny, tmp_path / "zoo", address)
    assert line.startswith(f"error: scheduler '{address}': ")
    assert "expected one such as tcp://host:8786" in line
    assert not (tmp_path / "zoo").exists()


def test_another_server_at_the_address_is_one_line(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        assert answer_of(tiny, tmp_path / "zoo", address).startswith(f"error: scheduler '{address}': ")


@on_one_machine
def test_a_single_worker_of_one_thread_is_who_trains(cluster):
    """joblib would train in this process, which may have no GPU, and leave out workers that come later."""
    worker = cluster.add_worker(1)
    with clusters.cluster(cluster.address) as client:
        answers = list(train_all(tell_process, [[0], [1]], [], processes=1, client=client))
    assert sorted(answers, key=list) == [{0: worker.pid}, {1: worker.pid}]


@on_one_machine
def test_a_scheduler_that_dies_in_the_middle_is_one_line_and_the_zoo_resumes(tmp_path, many_shards, cluster):
    cluster.add_worker(1)
    folder = tmp_path / "zoo"
    client = bench.start(many_shards, folder, options=("--engine", "dask", "--scheduler", cluster.address))
    wait_for_parts(folder, 4, client)
    cluster.processes[0].kill()
    assert bench.wait(client) == 2
    (line,) = [
        line for line in (many_shards.manifest.parent / "said").read_text().splitlines() if "model/s" not in line
    ]
    assert line.startswith(f"error: scheduler '{cluster.address}': is gone; ")
    engine.run(many_shards.manifest, folder, workers=1, progress=False)
    assert files_of(folder) == many_shards.files


# What a worker does before it starts, so that it looks as if it stood where another package, or none, is installed.
PRELOAD = """
import importlib.metadata
def version(name, installed=importlib.metadata.version):
    if name == "{package}":
        {instead}
    return installed(name)
importlib.metadata.version = version
"""


@on_one_machine
@pytest.mark.parametrize(
    ("package", "instead", "expected"),
    [
        ("torch", 'return "1.0"', r"error: worker on .*: has torch 1\.0; expected \d"),
        (
            "zoo-gen",
            "raise importlib.metadata.PackageNotFoundError(name)",
            r"error: scheduler .*: its worker .* lacks",
        ),
    ],
)
def test_a_worker_with_other_packages_is_one_line(tmp_path, tiny, cluster, package, instead, expected):
    (tmp_path / "other.py").write_text(PRELOAD.format(package=package, instead=instead))
    cluster.add_worker(1, "--preload", str(tmp_path / "other.py"))
    assert re.match(expected, answer_of(tiny, tmp_path / "zoo", cluster.address))


@on_one_machine
def test_a_cluster_that_loses_its_last_worker_says_what_it_waits_for(cluster, monkeypatch, caplog):
    monkeypatch.setattr(clusters, "LOOK_SECONDS", 0.05)
    worker = cluster.add_worker(1)
    with clusters.cluster(cluster.address):
        worker.kill()
        waiting.until(lambda: caplog.messages)
    assert caplog.messages == [f"scheduler '{cluster.address}': has no worker any more; waiting for one to come"]


def test_a_task_carries_paths_and_numbers_only(tmp_path):
    task = partial(engine.train_shards, tmp_path, device="cpu", data_root=None)
    assert len(pickle.dumps((task, [3]))) < 500


def test_without_distributed_the_extra_is_named(tmp_path, tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ZooError, match=r"distributed is not installed; expected pip install 'zoo-gen\[cluster\]'"):
        engine.run(tiny.manifest, tmp_path / "zoo", scheduler="tcp://127.0.0.1:9")
    assert not (tmp_path / "zoo").exists()
