import os
import re
import resource
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tests.conftest import files_of
from zoo_gen.cli.main import main


def invoke(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_list_shows_the_shipped_zoos():
    result = invoke("list")
    assert result.exit_code == 0
    assert re.search(r"tetris_hyp +3,600 +76 +100 +tetris", result.output)


def test_plan_says_what_it_costs_and_writes_nothing(tmp_path, tiny_manifest, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = files_of(tmp_path)
    result = invoke("plan", tiny_manifest)
    assert result.exit_code == 0
    for line in ("models       40 in 4 shards of 12", "steps        640 over all", "bytes        88,000", "files"):
        assert line in result.output
    assert files_of(tmp_path) == before


def test_run_makes_a_zoo_under_its_name_and_then_finds_it_complete(tmp_path, tiny_manifest, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = invoke("run", tiny_manifest, "--workers", 1), invoke("run", tiny_manifest, "--workers", 1)
    assert re.match(r"tiny: trained 40 models in .* models/s\); complete in zoos/tiny\n", first.stdout)
    assert second.output == "tiny: complete in zoos/tiny, nothing to train\n"
    assert first.stderr == ""  # no progress bar where there is no terminal


def test_info_shows_the_zoo(tiny_zoo):
    result = invoke("info", tiny_zoo)
    assert result.exit_code == 0
    assert re.search(r"models +40 of 40 \(4 of 4 shards\)", result.output)
    assert re.search(r"learning_rate +0\.01, 0\.03", result.output)
    assert re.search(r"test accuracy after the last epoch: 0\.\d+ to 0\.\d+, median .*: [ ▁-█]{60}\n", result.output)
    assert re.search(r"on disk +[1-9]\d*\.\d kB\n", result.output)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "tetris_sed"], "unknown zoo 'tetris_sed'; did you mean 'tetris_seed'?"),
        (["run", "tetris_seed", "--part", "0/4"], "--part '0/4': expected i/n with i from 1 to n, such as 3/16"),
        (["run", "tetris_seed", "--part", "4"], "--part '4': expected i/n with i from 1 to n, such as 3/16"),
        (["run", "tetris_seed", "--engine", "dask"], "--engine dask: expected --scheduler too"),
        (["run", "tetris_seed", "--scheduler", "tcp://h:1"], "--scheduler: expected --engine dask too"),
        (["plan", "missing.toml"], "missing.toml: cannot be read"),
        (["info", "missing"], "missing: no such folder; expected a zoo"),
        (["info", "."], ".: is not a zoo; it has no manifest.toml"),
        (["run", "tetris_seed", "--workers", "0"], "Invalid value for '--workers': 0 is not in the range x>=1."),
        (["run", "tetris_seed", "--wrokers", "2"], "No such option '--wrokers'."),
        (["rnu"], "No such command 'rnu'."),
        (["plan"], "Missing argument 'MANIFEST'."),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


def test_a_folder_with_another_zoo_is_refused_on_the_command_line(tmp_path, tiny_zoo, tiny_manifest):
    tiny_manifest.write_text(tiny_manifest.read_text().replace("epochs = 4", "epochs = 3"))
    before = files_of(tiny_zoo)
    result = invoke("run", tiny_manifest, "--out", tiny_zoo)
    assert result.exit_code == 2
    assert "of another manifest" in result.stderr
    assert files_of(tiny_zoo) == before


def run_with_small_files(*arguments, most_bytes):
    """Run a command in a process that may write no larger files, so that a real write fails in the middle."""
    return subprocess.run(
        [sys.executable, "-m", "zoo_gen", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes)),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def test_a_write_that_fails_is_one_line_and_keeps_what_is_complete(tmp_path, tiny_zoo, tiny_manifest):
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_zoo, folder)
    (folder / "models" / "part-00001.parquet").unlink()
    before = files_of(folder / "models")
    completed = run_with_small_files("run", tiny_manifest, "--out", folder, "--workers", 1, most_bytes=9000)
    assert completed.returncode == 2, completed.stderr
    assert completed.stderr.startswith(f"error: {folder}")
    assert completed.stderr.count("\n") == 1
    assert "what is complete is kept, the same command resumes" in completed.stderr
    assert "Traceback" not in completed.stderr
    assert files_of(folder / "models") == before


def test_a_manifest_larger_than_the_memory_is_one_line(tmp_path, tiny_manifest):
    text = (
        tiny_manifest.read_text()
        + "\n[axes.random]\ncount = 999999999999\nseed = 0\ndraw.momentum.uniform = [0, 0.9]\n"
    )
    tiny_manifest.write_text(text)
    result = invoke("run", tiny_manifest, "--out", tmp_path / "zoo")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "zoo").exists()


def test_a_part_that_cannot_be_read_is_one_line(tmp_path, tiny_zoo):
    """Arrow's own message has several lines."""
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_zoo, folder)
    part = folder / "models" / "part-00001.parquet"
    content = bytearray(part.read_bytes())
    content[60] ^= 4  # in the first page, whose checksum then differs
    part.write_bytes(content)
    result = invoke("info", folder)
    assert result.exit_code == 2
    assert "part-00001.parquet" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["info", "{zoo}", "--plots", "{out}"], ["split", "{zoo}", "-o", "{out}/zoo", "--share", "0.5"]]
)
def test_a_full_disk_is_one_line_that_names_a_file(tmp_path, tiny_zoo, arguments):
    """Even the first file fails."""
    command = [each.format(zoo=tiny_zoo, out=tmp_path / "out") for each in arguments]
    completed = run_with_small_files(*command, most_bytes=300)
    assert completed.returncode == 2, completed.stderr
    assert completed.stderr.startswith(f"error: {tmp_path / 'out'}/")
    assert "File too large" in completed.stderr
    assert completed.stderr.count("\n") == 1
