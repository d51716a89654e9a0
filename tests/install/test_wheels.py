"""The wheel in fresh environments, of the base, each extra alone and all: every command works or names an extra.

Slow: pip makes each environment from the registry that it is set up with. To have a smaller torch than the default,
set PIP_CONSTRAINT to a file that pins it.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from tests.install import commands
from tests.install.test_missing_packages import IN_THE_BASE, advice, works

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
EXTRAS = list(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_ENDPOINT": "http://127.0.0.1:1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_MAX_ATTEMPTS": "1",
}
# What each extra is for: works with it alone.
PURPOSE = {
    "": IN_THE_BASE,
    "generate": {"plan", "run", "run, two workers", "verify", "export --format pt"},
    "bench": {"bench run", "bench run pca", "tune", "encode", "leaderboard", "validate", "bench export"},
    "convert": {"convert"},
    "plots": {"info --plots"},
    "onnx": {"export --format onnx"},
    "cluster": IN_THE_BASE,
    "remote": {"info s3://"},
    "hub": {"pull", "push"},
    "zarrs": IN_THE_BASE,
}
ALL = {name for names in PURPOSE.values() for name in names}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(_pip(command), check=True)
    return next(folder.glob("zoo_gen-*.whl"))


def _pip(command):
    """Return a command of pip for an interpreter that may lack it."""
    has_pip = subprocess.run([command[0], "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
    return command if has_pip else [sys._base_executable, *command[1:]]


def test_the_wheel_has_the_types_and_the_files_that_are_not_python(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"zoo_gen/py.typed", "zoo_bench/py.typed", "zoo_bench/standings/page/page.css"} <= names
    assert "zoo_gen/manifest/shipped/tetris_seed.toml" in names
    assert not [name for name in names if name.startswith("tests")]


@pytest.mark.parametrize("extra", ["", *(extra for extra in EXTRAS if extra != "dev")])
def test_every_command_works_or_names_the_extra_that_it_needs(wheel, extra, tiny_zoo, tmp_path):
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    target = f"{wheel}[{extra}]" if extra else str(wheel)
    pip = [sys._base_executable, "-m", "pip", "--python", str(python), "install", "--quiet", target]
    subprocess.run(pip, check=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | OFFLINE
    for program in ("zoo-gen", "zoo-bench"):
        shown = subprocess.run(
            [str(python.with_name(program)), "--help"], capture_output=True, text=True, check=True, env=environment
        ).stdout
        listed = shown[shown.index("Commands:") :].splitlines()[1:]
        for name in [line.split()[0] for line in listed if re.match(r"  \w", line)]:
            subprocess.run(
                [str(python.with_name(program)), name, "--help"], capture_output=True, check=True, env=environment
            )
    done = subprocess.run(
        [str(python), "-I", commands.__file__, str(tiny_zoo), str(tmp_path / "out")],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    for name in ALL if extra == "all" else PURPOSE[extra]:
        assert works(name, *answers[name]), (name, answers[name])
    for name, answer in answers.items():
        if not works(name, *answer):
            assert advice(name, *answer) != extra, (name, answer)
