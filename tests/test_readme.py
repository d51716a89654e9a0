"""What the README and the tutorial show is run as it stands there."""

import re
import shlex
import shutil
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

import zoo_gen
from zoo_bench import list_benchmarks
from zoo_bench.cli import main as zoo_bench
from zoo_bench.encoders import DEFAULT_ENCODERS, encoder_names, make_encoder
from zoo_bench.encoders.settings import split_name

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a language."""
    return [
        code for name, code in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) if name == language
    ]


def block(language: str, containing: str) -> str:
    """Return the one code block of the README that is of a language and contains a text."""
    (code,) = [code for code in blocks(README, language) if containing in code]
    return code


def run(code: str) -> dict[str, object]:
    """Run code as a script and return its variables."""
    variables: dict[str, object] = {"__name__": "__main__"}
    exec(compile(code, "README.md", "exec"), variables)
    return variables


@pytest.fixture(scope="module")
def tetris_seed(tmp_path_factory):
    """The zoo tetris_seed with its first eight models."""
    tetris = zoo_gen.list_zoos()["tetris_seed"].model_dump(mode="json", exclude_unset=True)
    tetris |= {"axes": {"product": {"seed": range(1, 9)}}, "split": {"train": 0.5, "validation": 0.25, "test": 0.25}}
    out = tmp_path_factory.mktemp("zoos") / "tetris_seed"
    return zoo_gen.run(zoo_gen.ZooManifest(**tetris), out=out, workers=1, progress=False).path


@pytest.fixture
def folder(tetris_seed, tmp_path, monkeypatch):
    """The working folder, which holds zoos/tetris_seed."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tetris_seed, tmp_path / "zoos" / "tetris_seed")
    return tmp_path


def test_a_zoo_is_made_as_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = block("python", "ZooManifest(")
    assert '"epochs": 50' in code
    assert "zoo_gen.run(manifest)" in code
    code = code.replace('"epochs": 50', '"epochs": 2').replace("[0, 1, 5, 10, 50]", "[0, 2]")
    zoo = run(code.replace("zoo_gen.run(manifest)", "zoo_gen.run(manifest, workers=1)"))["zoo"]
    assert zoo.path == Path("zoos/my_zoo")
    assert zoo.complete
    assert zoo.weights.shape[0] == 200


def test_a_zoo_is_read_as_shown(folder, capsys):
    run(block("python", "open_zoo"))
    assert "(8, 76, 100)" in capsys.readouterr().out


def test_an_encoder_is_evaluated_as_shown(folder, monkeypatch, capsys):
    (folder / "one.toml").write_text(
        'name = "one"\nprotocol = "standard"\nzoos = ["tetris_seed"]\ntargets = ["epoch"]\n'
    )
    code = block("python", "class LayerNorm")
    assert '"quickstart", seeds=[0, 1, 2]' in code
    run(code.replace('"quickstart", seeds=[0, 1, 2]', '"one.toml", seeds=[0, 1]'))
    assert "LayerNorm" in capsys.readouterr().out
    # The same class from the command line, where it is found in the working folder.
    (folder / "mymodule.py").write_text(code[: code.index("\n\nresults = ")])
    monkeypatch.setattr(sys, "path", list(sys.path))
    outcome = CliRunner().invoke(zoo_bench, ["run", "one.toml", "--encoder", "mymodule:LayerNorm"])
    sys.modules.pop("mymodule", None)
    assert outcome.exit_code == 0, outcome.output


def test_the_quickstart_ends_with_the_reference_encoders_beside_baselines():
    recipe = (ROOT / "Makefile").read_text().partition("\nquickstart:")[2].partition("\n\n")[0].replace("\\\n", " ")
    commands = [shlex.split(line)[1:] for line in recipe.splitlines() if "$(BIN)/zoo-" in line]
    zoos_made = {command[1] for command in commands if command[0] == "run" and command[1] in zoo_gen.list_zoos()}
    runs = {command[1]: command[2:] for command in commands if command[0] == "run" and command[1] not in zoos_made}
    benchmarks = list_benchmarks()
    assert set().union(*(benchmarks[name].zoos for name in runs)) == zoos_made
    *_, (last, options) = runs.items()
    chosen = [value for option, value in pairwise(options) if option == "--encoder"]
    names = encoder_names(chosen, protocol=benchmarks[last].protocol, targets=benchmarks[last].targets)
    shown = {split_name(name)[0] for name in names}
    assert shown == {"hyper_representation_small", "sne_small", "statistics_boosting", *DEFAULT_ENCODERS}
    assert all(make_encoder(name) for name in names)  # with settings that there are
    assert benchmarks[last].rank_by == "kendall_tau"
    assert commands[-1][0] == "leaderboard"


@pytest.mark.parametrize(("models", "seeds"), [(3, [0]), pytest.param(5, [0, 1], marks=pytest.mark.thorough)])
@pytest.mark.usefixtures("dry_runs_share_zoos")
def test_the_tutorial_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys, models, seeds):
    """With fewer models of each kind, and fewer seeds."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks((ROOT / "docs" / "tutorial.md").read_text(), "python"))
    assert '"range": [1, 20]' in code
    assert "zoo_gen.run(manifest)" in code
    assert "seeds=[0, 1]" in code
    code = code.replace('"range": [1, 20]', f'"range": [1, {models}]').replace("seeds=[0, 1]", f"seeds={seeds}")
    variables = run(code.replace("zoo_gen.run(manifest)", "zoo_gen.run(manifest, workers=1)"))
    assert len(variables["results"]) == 3 * len(seeds)
    printed = capsys.readouterr().out
    assert "a row depends on its own weights alone" in printed  # what its encoder is checked for
    assert "FAILED" not in printed
    assert (tmp_path / "leaderboard.html").stat().st_size > 10_000
    assert (tmp_path / "predictions.png").read_bytes().startswith(b"\x89PNG")


def test_every_room_of_the_tree_is_there():
    tree = block("", "manifests/zoos/           one TOML")
    for package in ("zoo_gen", "zoo_bench"):
        part = tree.split(f"\n{package}/\n")[1].split("\nzoo_bench/")[0].split("\ntests/")[0]
        named = set(re.findall(r"^  (\w+)/", part, re.MULTILINE)) | set(re.findall(r"\b(\w+)\.py\b", part))
        entries = (ROOT / package).iterdir()
        rooms = {path.stem for path in entries if path.suffix == ".py" or (path / "__init__.py").exists()}
        assert named == rooms - {"__init__", "__main__", "errors"}


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 130


def test_the_page_on_reading_runs_from_top_to_bottom(folder):
    run("".join(blocks((ROOT / "docs" / "reading.md").read_text(), "python")))
