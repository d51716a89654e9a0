"""What the README shows is run as it stands there."""

import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from zoo_bench.cli import main as zoo_bench
from zoo_gen import engine, find_manifest
from zoo_gen.cli.main import main as zoo_gen

README = (Path(__file__).parent.parent / "README.md").read_text()


def block(language: str, containing: str) -> str:
    """Return the one code block of a language that contains a text."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    (found,) = [code for name, code in blocks if name == language and containing in code]
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that holds zoos/tetris_seed with its first eight models."""
    text = find_manifest("tetris_seed").read_text().replace("[1, 1000]", "[1, 8]")
    manifest = tmp_path / "tetris_seed.toml"
    manifest.write_text(text.replace("train = 0.70", "train = 0.50").replace("0.15", "0.25"))
    engine.run(manifest, tmp_path / "zoos" / "tetris_seed", workers=1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_eight_lines_run(folder, capsys):
    code = block("python", "open_zoo")
    assert len([line for line in code.splitlines() if line]) == 8
    exec(compile(code, "README.md", "exec"), {})
    assert "(8, 76, 100)" in capsys.readouterr().out


def test_the_manifest_of_ones_own_is_complete(tmp_path):
    path = tmp_path / "my_zoo.toml"
    path.write_text(block("toml", "my_zoo"))
    found = CliRunner().invoke(zoo_gen, ["plan", str(path)])
    assert found.exit_code == 0, found.output
    assert "models       300 in" in found.output


def test_the_encoder_of_ones_own_is_evaluated(folder, monkeypatch):
    (folder / "mymodule.py").write_text(block("python", "class MyEncoder"))
    monkeypatch.setattr(sys, "path", list(sys.path))  # it is found in the working folder
    (folder / "one.toml").write_text(
        'name = "one"\nprotocol = "standard"\nzoos = ["tetris_seed"]\ntargets = ["epoch"]\n'
    )
    found = CliRunner().invoke(zoo_bench, ["run", "one.toml", "--encoder", "mymodule:MyEncoder"])
    sys.modules.pop("mymodule", None)
    assert found.exit_code == 0, found.output


def test_every_room_of_the_tree_is_there():
    tree = block("", "manifests/zoos/           one TOML")
    root = Path(__file__).parent.parent
    for package in ("zoo_gen", "zoo_bench"):
        part = tree.split(f"\n{package}/\n")[1].split("\nzoo_bench/")[0].split("\ntests/")[0]
        named = set(re.findall(r"^  (\w+)/", part, re.MULTILINE)) | set(re.findall(r"\b(\w+)\.py\b", part))
        entries = (root / package).iterdir()
        rooms = {path.stem for path in entries if path.suffix == ".py" or (path / "__init__.py").exists()}
        assert named == rooms - {"__init__", "__main__", "errors"}
