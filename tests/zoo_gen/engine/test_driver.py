import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import forked, waiting
from tests.conftest import files_of
from tests.reliability import bench
from tests.zoo_gen.engine.stand_ins import copy_but_die_at_shard_2, copy_from_alone, train_on_the_cpu
from zoo_gen import engine, open_zoo
from zoo_gen.engine import blocks, driver
from zoo_gen.errors import ZooError
from zoo_gen.image_data import load
from zoo_gen.machine import workers
from zoo_gen.population.cpu import convolutions
from zoo_gen.store import Store


def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path, tiny_zoo, tiny_manifest):
    engine.run(tiny_manifest, tmp_path / "tiny", workers=2)
    assert files_of(tmp_path / "tiny") == files_of(tiny_zoo)


CNN = """
name = "cnn"
[data]
source = "synthetic"
train_size = 40
test_size = 20
[architecture]
name = "cnn_small"
[training]
epochs = 2
batch_size = 10
optimizer = "adam"
learning_rate = 1e-2
initialization = "glorot_normal"
activation = "relu"
[axes.product]
dropout = [0.0, 0.5]
seed = { range = [1, 10] }
[storage]
models_per_shard = 10
"""


@pytest.fixture
def cnn_zoo(tmp_path, made_once):
    """A complete zoo of CNNs of a test's own, and its manifest beside it, cnn.toml."""

    def fill(folder: Path) -> None:
        (folder / "cnn.toml").write_text(CNN)
        engine.run(folder / "cnn.toml", folder / "zoo", workers=1)

    shutil.copytree(made_once("cnn", fill), tmp_path, dirs_exist_ok=True)
    return tmp_path / "zoo"


def test_a_model_of_convolutions_has_the_same_bytes_alone_by_another_worker_and_after_an_interruption(
    tmp_path, cnn_zoo
):
    """Ten models of a shard are two populations, some with dropout."""
    engine.run(tmp_path / "cnn.toml", tmp_path / "two", workers=2)
    expected = files_of(cnn_zoo)
    assert files_of(tmp_path / "two") == expected
    (tmp_path / "two" / "models" / "part-00001.parquet").unlink()
    engine.run(tmp_path / "cnn.toml", tmp_path / "two", workers=1)
    assert files_of(tmp_path / "two") == expected


def test_a_resumed_zoo_keeps_the_form_that_it_was_begun_with(tmp_path, cnn_zoo, monkeypatch):
    pytest.importorskip("llvmlite")
    expected = files_of(cnn_zoo)
    assert set(Store.open(cnn_zoo).attributes["forms"].values()) == {"lanes"}
    monkeypatch.setattr(driver, "choose_forms", lambda *_, **__: {"convolution1": "grouped"})  # as another rule would
    (cnn_zoo / "models" / "part-00001.parquet").unlink()
    engine.run(tmp_path / "cnn.toml", cnn_zoo, workers=1)
    assert files_of(cnn_zoo) == expected


@pytest.mark.parametrize("damage", ["the forms", "everything"])
def test_a_repair_gives_back_the_forms_that_a_zoo_was_begun_with(tmp_path, cnn_zoo, damage):
    pytest.importorskip("llvmlite")
    expected = files_of(cnn_zoo)
    path = cnn_zoo / "weights.zarr" / "zarr.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"lanes"', b'"lakes"', 1) if damage == "the forms" else content[:100])
    engine.run(tmp_path / "cnn.toml", cnn_zoo, workers=1, repair=True)
    assert files_of(cnn_zoo) == expected


def test_a_zoo_in_lanes_is_refused_where_llvmlite_is_not_installed(tmp_path, cnn_zoo, monkeypatch):
    pytest.importorskip("llvmlite")
    (cnn_zoo / "models" / "part-00001.parquet").unlink()
    monkeypatch.setattr(convolutions, "can_compile", lambda: False)
    with pytest.raises(ZooError, match=r"kernels that llvmlite compiles.*pip install 'zoo-gen\[generate\]'"):
        engine.run(tmp_path / "cnn.toml", cnn_zoo, workers=1)
    assert Store.open(cnn_zoo).complete_shards() == [0]
    engine.run(tmp_path / "cnn.toml", tmp_path / "apart", workers=1)
    assert "forms" not in Store.open(tmp_path / "apart").attributes  # begun here, by torch's convolutions
    monkeypatch.undo()
    assert engine.run(tmp_path / "cnn.toml", cnn_zoo, workers=1).trained_shards == 1


def test_a_second_run_trains_nothing_and_changes_nothing(tmp_path, tiny_zoo, tiny_manifest, monkeypatch):
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_zoo, folder)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    monkeypatch.setattr(driver, "train_shards", lambda *_, **__: pytest.fail("trains"))
    summary = engine.run(tiny_manifest, folder, workers=1)
    assert (summary.trained_models, summary.trained_shards, summary.n_shards) == (0, 0, 4)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times


def test_a_run_does_only_what_is_missing_and_gives_the_same_bytes(tmp_path, tiny_zoo, tiny_manifest):
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_zoo, folder)
    # As an interruption leaves it: one part not yet there, its arrays half written, a stale temporary file.
    (folder / "models" / "part-00002.parquet").unlink()
    (folder / "weights.zarr" / "weights" / "c" / "2" / "0" / "0").write_bytes(b"half")
    (folder / "weights.zarr" / "test_loss" / "c" / "2" / "0").unlink()
    (folder / "models" / ".part-00002.parquet.99999.tmp").write_bytes(b"stale")
    (folder / "weights.zarr" / "test_loss" / "c" / "2" / "0.0123456789abcdef.partial").write_bytes(b"stale")
    # The last shard is shorter than the array's shards, and is read before it is written.
    (folder / "models" / "part-00003.parquet").unlink()
    (folder / "weights.zarr" / "weights" / "c" / "3" / "0" / "0").write_bytes(b"half")
    summary = engine.run(tiny_manifest, folder, workers=1)
    assert (summary.trained_models, summary.trained_shards) == (16, 2)
    assert files_of(folder) == files_of(tiny_zoo)


def test_a_complete_zoo_needs_no_images_and_one_that_lacks_a_shard_does(tmp_path, caplog):
    """As whoever has pulled a zoo runs its manifest again."""
    random = np.random.RandomState(0)
    arrays = {name: random.rand(20, 3).astype(np.float32) for name in ("x_train", "x_test")}
    labels = {name: random.randint(0, 2, 20) for name in ("y_train", "y_test")}
    np.savez(tmp_path / "own.npz", **arrays, **labels)
    text = CNN.replace(
        'source = "synthetic"\ntrain_size = 40\ntest_size = 20', f'source = "arrays"\npath = "{tmp_path}/own.npz"'
    )
    (tmp_path / "cnn.toml").write_text(text.replace('name = "cnn_small"', 'name = "mlp"\nwidths = [3, 4, 2]'))
    engine.run(tmp_path / "cnn.toml", tmp_path / "zoo", workers=1)
    (tmp_path / "own.npz").unlink()
    load._load.cache_clear()  # as in a new process
    manifest, before = tmp_path / "zoo" / "manifest.toml", files_of(tmp_path / "zoo")
    assert engine.run(manifest, tmp_path / "zoo", workers=1).trained_shards == 0
    assert "is complete; its images were not looked at" in caplog.text
    assert files_of(tmp_path / "zoo") == before
    (tmp_path / "zoo" / "models" / "part-00001.parquet").unlink()
    with pytest.raises(ZooError, match=r"own\.npz"):
        engine.run(manifest, tmp_path / "zoo", workers=1)


def run_in_fork(manifest: Path, folder: Path, *options: str, output: Path) -> forked.Process:
    """Start `zoo-gen run` in a process group of its own; what it prints goes to a file."""
    arguments = ["run", str(manifest), "--out", str(folder), *options]
    with output.open("w") as file:
        return forked.start("zoo_gen", arguments, output=file, folder=Path.cwd(), environment=dict(os.environ))


def start(manifest: Path, folder: Path, *, workers: int, output: Path) -> forked.Process:
    """Start a run and return when its first shard is complete."""
    process = run_in_fork(manifest, folder, "--workers", str(workers), output=output)
    waiting.until(lambda: process.poll() is not None or list(folder.glob("models/part-*.parquet")))
    return process


def workers_of(group: int) -> list[int]:
    """Return the processes of a process group that still run."""
    processes = subprocess.run(["ps", "-eo", "pid,pgid,stat"], capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in processes.splitlines()[1:])
    return [int(pid) for pid, pgid, state in rows if int(pgid) == group and not state.startswith("Z")]


@pytest.mark.parametrize(
    ("workers", "number", "send"),
    [
        (1, signal.SIGINT, os.killpg),
        pytest.param(2, signal.SIGINT, os.killpg, marks=pytest.mark.thorough),  # Ctrl-C reaches the workers too
        pytest.param(2, signal.SIGTERM, os.kill, marks=pytest.mark.thorough),
        pytest.param(2, signal.SIGINT, os.kill, marks=pytest.mark.slow),
        pytest.param(2, signal.SIGTERM, os.killpg, marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("interruptible")
def test_an_interruption_ends_the_workers_and_is_one_line(tmp_path, tiny_manifest, workers, number, send):
    tiny_manifest.write_text(tiny_manifest.read_text().replace("[1, 5]", "[1, 500]"))  # no machine is done soon
    process = start(tiny_manifest, tmp_path / "zoo", workers=workers, output=tmp_path / "output")
    send(process.pid, number)
    assert process.wait(waiting.LIMIT) == 128 + number
    assert (tmp_path / "output").read_text() == "interrupted; what is complete is kept, the same command resumes\n"
    waiting.until(lambda: not workers_of(process.pid), pause=0.1)
    assert open_zoo(tmp_path / "zoo").complete_shards


@pytest.mark.slow
def test_a_worker_that_dies_does_not_end_the_run(tmp_path, tiny_manifest):
    # Of so many shards some are left to train when the first is complete.
    tiny_manifest.write_text(tiny_manifest.read_text().replace("[1, 5]", "[1, 60]"))
    process = start(tiny_manifest, tmp_path / "zoo", workers=2, output=tmp_path / "output")
    os.kill(bench.group_of(process)[0], signal.SIGKILL)
    assert process.wait(waiting.LIMIT) == 0
    message = (tmp_path / "output").read_text()
    assert "a worker died; the shards that were being trained are tried again" in message
    assert "Traceback" not in message
    engine.run(tiny_manifest, tmp_path / "undisturbed", workers=1)
    assert files_of(tmp_path / "zoo") == files_of(tmp_path / "undisturbed")


def lose_shard_2(task, blocks, begun, processes, **options):
    """Train here, and say what joblib does where the worker of shard 2 dies, before it writes more than its try."""
    for shards in list(blocks):
        begun.append(shards)
        if shards == [2]:
            with (task.args[0].parent / "tries").open("a") as tries:
                tries.write("2\n")
            raise BrokenProcessPool
        yield task(shards)


@pytest.mark.parametrize("parallel", [lose_shard_2, pytest.param(workers._parallel, marks=pytest.mark.thorough)])
def test_a_shard_whose_worker_always_dies_is_reported_and_the_rest_is_complete(
    tmp_path, tiny_zoo, tiny_manifest, monkeypatch, caplog, capfd, parallel
):
    folder = tmp_path / "tiny"
    monkeypatch.setattr(workers, "_parallel", parallel)
    monkeypatch.setattr(driver, "train_shards", partial(copy_but_die_at_shard_2, source=tiny_zoo))
    with pytest.raises(ZooError, match=r"the worker of shard 2 died three times"):
        engine.run(tiny_manifest, folder, workers=2)
    assert "Traceback" not in capfd.readouterr().err
    assert Store.open(folder).complete_shards() == [0, 1, 3]
    assert (tmp_path / "tries").read_text().split().count("2") == 3
    assert "a worker died" in caplog.text
    monkeypatch.undo()
    assert engine.run(tiny_manifest, folder, workers=1).trained_shards == 1
    assert files_of(folder) == files_of(tiny_zoo)


# While it imports, a worker is like one that cannot run Python, which the next test makes sure of.
@pytest.mark.parametrize("at_work", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_workers_end_when_the_driver_is_killed(tmp_path, tiny_manifest, at_work):
    tiny_manifest.write_text(tiny_manifest.read_text().replace("[1, 5]", "[1, 500]"))  # no machine is done soon
    process = run_in_fork(tiny_manifest, tmp_path / "zoo", "--workers", "2", output=tmp_path / "output")
    # The driver, the tracker of its semaphores, and two workers, which first import for a while.
    waiting.until(lambda: len(workers_of(process.pid)) >= 4, pause=0.1)
    if at_work:
        waiting.until(lambda: list((tmp_path / "zoo").glob("models/part-*.parquet")))
    os.kill(process.pid, signal.SIGKILL)
    process.wait(waiting.LIMIT)
    waiting.until(lambda: not workers_of(process.pid), pause=0.1)


# Holding the interpreter stands for a library that is being loaded: no other thread of the worker can run.
HOLD = """
import ctypes
from pathlib import Path
from zoo_gen.machine.workers import train_all

def hold_the_interpreter(shards):
    Path(f"begun{shards[0]}").touch()
    ctypes.PyDLL(None).sleep(3600)
    return shards

if __name__ == "__main__":
    list(train_all(hold_the_interpreter, [[0], [1]], [], processes=2))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread of the worker watches")
def test_a_worker_that_cannot_run_python_ends_when_the_driver_is_killed(tmp_path):
    (tmp_path / "hold.py").write_text(HOLD)
    root = str(Path(__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    command, options = [sys.executable, "hold.py"], {"start_new_session": True, "cwd": tmp_path, "env": environment}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **options)
    waiting.until(lambda: len(list(tmp_path.glob("begun*"))) == 2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(waiting.LIMIT)
    waiting.until(lambda: not workers_of(process.pid), pause=0.1)


def test_two_runs_on_one_folder_give_the_bytes_of_one(tmp_path, tiny_zoo, tiny_manifest):
    folder = tmp_path / "tiny"
    outputs = [tmp_path / f"output{number}" for number in range(2)]
    runs = [run_in_fork(tiny_manifest, folder, "--workers", "1", output=output) for output in outputs]
    assert [run.wait(waiting.LIMIT) for run in runs] == [0, 0]
    assert all(output.read_text().startswith("tiny: ") for output in outputs)
    assert all(output.read_text().count("\n") == 1 for output in outputs)
    assert files_of(folder) == files_of(tiny_zoo)


def test_a_card_that_an_interruption_left_out_is_written_later(tmp_path, tiny_zoo, tiny_manifest):
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_zoo, folder)
    (folder / "README.md").unlink()
    engine.run(tiny_manifest, folder, workers=1)
    assert files_of(folder) == files_of(tiny_zoo)


@pytest.mark.parametrize("kill", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_run_resumes_to_the_same_bytes(tmp_path, tiny_zoo, tiny_manifest, kill):
    folder = tmp_path / "tiny"
    process = start(tiny_manifest, folder, workers=1, output=tmp_path / "output")
    os.killpg(process.pid, kill)
    process.wait(waiting.LIMIT)
    complete = Store.open(folder).complete_shards()
    assert complete
    assert engine.run(tiny_manifest, folder, workers=1).trained_shards == 4 - len(complete)
    assert files_of(folder) == files_of(tiny_zoo)


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path, tiny_manifest, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ZooError, match=r"the disk has no room; 40 models need 0\.1 MB, 0\.0 MB are free"):
        engine.run(tiny_manifest, tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


def test_parts_of_an_array_job_make_the_zoo_together(tmp_path, tiny_zoo, tiny_manifest):
    folder = tmp_path / "tiny"
    complete = []
    for number in (3, 1, 2):
        engine.run(tiny_manifest, folder, workers=1, part=(number, 3))
        complete.append(Store.open(folder).complete_shards())
        # Which shards are its own does not depend on what is there.
        assert engine.run(tiny_manifest, folder, workers=1, part=(number, 3)).trained_shards == 0
    assert complete == [[2], [0, 2, 3], [0, 1, 2, 3]]
    assert files_of(folder) == files_of(tiny_zoo)


def test_parts_that_run_at_once_give_the_bytes_of_one_run(tmp_path, tiny_zoo, tiny_manifest):
    folder = tmp_path / "tiny"
    first = run_in_fork(tiny_manifest, folder, "--workers", "1", "--part", "1/2", output=tmp_path / "output")
    waiting.until(lambda: first.poll() is not None or (folder / "manifest.toml").exists())
    engine.run(tiny_manifest, folder, workers=1, part=(2, 2))
    assert first.wait(waiting.LIMIT) == 0
    assert (tmp_path / "output").read_text().count("\n") == 1  # what it has made
    assert files_of(folder) == files_of(tiny_zoo)


@pytest.fixture
def gpus(monkeypatch):
    """A machine with some GPUs, as it looks from outside."""

    def pretend(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "a GPU")
        monkeypatch.setattr(blocks, "models_on_device", lambda manifest, *, device: (24, 1000))
        monkeypatch.setattr(driver, "train_shards", train_on_the_cpu)

    return pretend


@pytest.fixture
def one_gpu_zoo(tmp_path, tiny_manifest, gpus):
    """The files of the tiny zoo as one GPU makes it."""
    gpus(1)
    engine.run(tiny_manifest, tmp_path / "alone", device="cuda")
    return files_of(tmp_path / "alone")


@pytest.mark.parametrize(
    ("count", "device", "tasks"),
    [
        (1, "cuda", ["cuda:0 0 1", "cuda:0 2 3"]),
        (2, "cuda:1", ["cuda:1 0 1", "cuda:1 2 3"]),
        # The next test has two GPUs at once too.
        pytest.param(2, "cuda", ["cuda:0 0 1", "cuda:1 2 3"], marks=pytest.mark.thorough),
        pytest.param(4, "cuda", ["cuda:0 0", "cuda:1 1", "cuda:2 2", "cuda:3 3"], marks=pytest.mark.slow),
    ],
)
def test_a_zoo_has_the_same_bytes_whatever_the_number_of_gpus(tmp_path, one_gpu_zoo, gpus, count, device, tasks):
    """Four shards of 12 models, of which a GPU takes two at once."""
    gpus(count)
    summary = engine.run(tmp_path / "tiny.toml", tmp_path / "zoo", device=device)
    assert (summary.trained_models, summary.trained_shards) == (40, 4)
    assert sorted(path.name.partition(" ")[2] for path in tmp_path.glob("zoo *")) == tasks
    assert files_of(tmp_path / "zoo") == one_gpu_zoo


# A process that copies models imports no torch.
@pytest.mark.parametrize("train", [copy_from_alone, pytest.param(train_on_the_cpu, marks=pytest.mark.thorough)])
def test_what_a_gpu_was_at_when_it_failed_is_trained_again(tmp_path, one_gpu_zoo, gpus, monkeypatch, caplog, train):
    """One of two chosen GPUs fails at its first task."""
    gpus(3)
    monkeypatch.setattr(driver, "train_shards", train)
    (tmp_path / "cuda:2 fails").touch()
    summary = engine.run(tmp_path / "tiny.toml", tmp_path / "zoo", device="cuda:0,2")
    assert (summary.trained_models, summary.trained_shards) == (40, 4)
    assert {"zoo cuda:0 0 1", "zoo cuda:2 2 3"} <= {path.name for path in tmp_path.glob("zoo *")}
    assert files_of(tmp_path / "zoo") == one_gpu_zoo
    assert "cuda:2: failed at shard 2 (RuntimeError: CUDA error: the GPU has fallen off the bus)" in caplog.text


def test_parts_of_a_zoo_that_fits_one_gpu_share_it_evenly(tmp_path, tiny_zoo, tiny_manifest, gpus):
    gpus(1)
    trained = [
        engine.run(tiny_manifest, tmp_path / "zoo", device="cuda", part=(n, 3)).trained_models for n in (1, 2, 3)
    ]
    assert trained == [16, 12, 12]
    assert engine.run(tiny_manifest, tmp_path / "zoo", device="cuda").trained_models == 0


@pytest.mark.parametrize(
    ("shards", "at_once", "devices", "lengths"),
    [
        (16, 100, 1, [16]),
        (16, 100, 4, [4, 4, 4, 4]),
        (20, 3, 4, [2, 3, 2, 3, 2, 3, 2, 3]),
        (3, 1, 8, [1, 1, 1]),
        (0, 5, 2, []),
    ],
)
def test_every_gpu_has_as_many_blocks_and_none_is_larger_than_fills_one(shards, at_once, devices, lengths):
    cut = blocks.cut(range(shards), at_once=at_once, devices=devices)
    assert [shard for block in cut for shard in block] == list(range(shards))
    assert [len(block) for block in cut] == lengths
