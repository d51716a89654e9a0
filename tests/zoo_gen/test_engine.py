import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import files_of
from zoo_gen import engine, store
from zoo_gen.errors import ZooError


def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path, tiny_zoo, tiny_manifest):
    engine.run(tiny_manifest, tmp_path / "tiny", workers=3)
    assert files_of(tmp_path / "tiny") == files_of(tiny_zoo)


def test_a_second_run_trains_nothing_and_changes_nothing(tmp_path, tiny_zoo, tiny_manifest, monkeypatch):
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_zoo, folder)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    monkeypatch.setattr(engine, "train_shards", None)  # would fail if it were called
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
    summary = engine.run(tiny_manifest, folder, workers=1)
    assert (summary.trained_models, summary.trained_shards) == (12, 1)
    assert files_of(folder) == files_of(tiny_zoo)


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_resumes_to_the_same_bytes(tmp_path, tiny_zoo, tiny_manifest, kill):
    folder = tmp_path / "tiny"
    command = [sys.executable, "-m", "zoo_gen", "run", str(tiny_manifest), "--out", str(folder), "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while process.poll() is None and not list(folder.glob("models/part-*.parquet")):
        time.sleep(0.005)
    os.killpg(process.pid, kill)
    _, message = process.communicate(timeout=60)
    if kill == signal.SIGINT and process.returncode != 0:
        assert process.returncode == 130
        assert message == "interrupted; what is complete is kept, the same command resumes\n"
    kept = store.complete_shards(folder)
    assert kept
    assert engine.run(tiny_manifest, folder, workers=1).trained_shards == 4 - len(kept)
    assert files_of(folder) == files_of(tiny_zoo)


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path, tiny_manifest, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ZooError, match=r"the disk has no room; 40 models need 0\.1 MB, 0\.0 MB are free"):
        engine.run(tiny_manifest, tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()
