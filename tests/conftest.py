"""Small zoos that many tests read, made once a run, and where the real images are."""

import gc
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hypothesis import HealthCheck, settings

from tests import files_server, hub_server
from zoo_gen import engine
from zoo_gen.engine import timing
from zoo_gen.files.location import Folder
from zoo_gen.manifest import read_manifest
from zoo_gen.store import Store, untrained
from zoo_gen.zoo import Zoo, open_zoo

gc.disable()  # while tests are collected, which makes a million objects that all stay
# The tests' models are so small that a second thread only waits, for very long where cores are busy.
torch.set_num_threads(1)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # of scikit-learn's trees
# Power does not fail while tests run, and every flush waits for the disk. Processes that tests start do flush.
os.fsync = lambda file: None
# Without a GPU, kernels are run by Triton's interpreter, which is chosen before they are imported.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# No generated example is judged by the clock; one that fails says how to run it again, on any machine.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("no clock")

TINY = """
name = "tiny"
description = "a zoo for tests"

[data]
source = "tetris"
noise = 0.1
train_size = 100
test_size = 60

[architecture]
name = "mlp"
widths = [16, 5, 4]
bias = false

[training]
epochs = 4
batch_size = 32
initialization = "xavier_uniform"

[axes.product]
optimizer = ["adam", "sgd"]
activation = ["relu", "tanh"]
learning_rate = [1e-2, 3e-2]
seed = { range = [1, 5] }

[split]
train = 0.6
validation = 0.2
test = 0.2

[storage]
models_per_shard = 12
"""


@pytest.fixture
def tiny_manifest(tmp_path: Path) -> Path:
    """The manifest of 40 models in four shards, the last one smaller."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """What makes a folder that tests only read: by a name and a function that fills it, once for all test processes."""
    place = tmp_path_factory.getbasetemp()
    place = place.parent if "PYTEST_XDIST_WORKER" in os.environ else place  # that of the whole run

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, complete = place / f"shared-{name}", place / f"shared-{name}.complete"
        with FileLock(place / f"shared-{name}.lock"):
            if not complete.exists():
                shutil.rmtree(folder, ignore_errors=True)  # a process failed at it before
                folder.mkdir()
                fill(folder)
                complete.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_zoo(made_once) -> Path:
    """The complete tiny zoo; tests only read it."""

    def fill(folder: Path) -> None:
        manifest = folder / "tiny.toml"
        manifest.write_text(TINY)
        engine.run(manifest, folder / "tiny", workers=1)

    return made_once("zoos", fill) / "tiny"


@pytest.fixture(scope="session")
def dry_runs_share_zoos(made_once) -> Iterator[None]:
    """Every dry run of an encoder trains the same three zoos, which it only reads: they are trained once."""
    from zoo_bench.evaluation import mock

    train = mock.make_zoos

    def make_zoos(folder: Path) -> dict[str, Zoo]:
        trained = made_once("mock", train)
        return {name: open_zoo(trained / name) for name, *_ in mock._ZOOS}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mock, "make_zoos", make_zoos)
        yield


def pytest_collection_finish() -> None:
    """Leave what the libraries and the tests themselves hold out of every later garbage collection."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)  # by default collections are a fortieth of the time
    gc.enable()


@pytest.fixture(autouse=True)
def _quick_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans time few steps: tests are of what a plan counts and says; test_cost.py has its own clocks."""
    monkeypatch.setattr(timing, "BUDGET", 0.02)
    monkeypatch.setattr(timing, "_start", lambda device: 2.0)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with the real data sets."""
    if "ZOO_DATA_ROOT" not in os.environ:
        pytest.skip("ZOO_DATA_ROOT is not set")
    return Path(os.environ["ZOO_DATA_ROOT"])


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Processes that a test starts heed the signals that those in a shell's background or behind nohup ignore."""
    heeded = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in heeded.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[files_server.Files]:
    """A server on loopback of an empty folder, which tests fill."""
    (tmp_path / "served").mkdir()
    with files_server.serve(tmp_path / "served") as started:
        yield started


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.Hub]:
    """An empty Hub on loopback, which this process's client then speaks to with a valid token."""
    constants = pytest.importorskip("huggingface_hub.constants")
    # The Hub's other storage protocol is its own servers'; the client falls back to LFS as where hf_xet cannot be had.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with hub_server.serve() as started:
        monkeypatch.setenv("HF_ENDPOINT", started.endpoint)
        monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
        yield started


def begin(folder: Folder, manifest: Path, *, data_sha256: str = "") -> Store:
    """Make the empty zoo of a manifest."""
    return Store.create(folder, untrained(read_manifest(manifest), data_sha256=data_sha256, device="cpu"))


def files_of(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
