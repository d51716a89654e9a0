import ast
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import zoo_bench
import zoo_gen
from zoo_gen.cli.main import main
from zoo_gen.errors import ZooError, unknown_name


def raised() -> ZooError:
    try:
        raise ZooError("zoo.toml: name: is missing")
    except ZooError as error:
        return error


def test_a_notebook_shows_one_line_unless_the_traceback_is_asked_for(monkeypatch):
    assert raised()._render_traceback_() == ["ZooError: zoo.toml: name: is missing"]
    monkeypatch.setattr(ZooError, "show_traceback", True)
    lines = raised()._render_traceback_()
    assert lines[0] == "Traceback (most recent call last):"
    assert any("in raised" in line for line in lines)
    assert lines[-1].endswith("ZooError: zoo.toml: name: is missing")


def test_an_unknown_name_answers_with_the_nearest_and_with_all_where_a_line_has_the_room():
    keys = [f"key_{number}" for number in range(30)]
    near = unknown_name("key", "key_7x", keys)
    assert near == "unknown key 'key_7x'; did you mean 'key_7'? valid: key_7 and 29 more"
    far = unknown_name("key", "lr", keys)
    assert far == f"unknown key 'lr'; valid: {', '.join(sorted(keys))}"
    of_many = unknown_name("key", "lr", [f"key_{number}" for number in range(60)])
    assert of_many.endswith(" and 55 more")


def test_a_message_names_an_argument_as_its_reader_writes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZooError, match=r"^classes=3: the format nws says it itself; expected it with format='folder'$"):
        zoo_gen.convert("archive", format="nws", classes=3)
    result = CliRunner().invoke(main, ["convert", "archive", "--format", "nws", "--classes", "3"])
    assert result.stderr == "error: --classes 3: the format nws says it itself; expected it with --format folder\n"
    with pytest.raises(ZooError, match=r"^classes=3"):  # nor does a command that has ended leave its words behind
        zoo_gen.convert("archive", format="nws", classes=3)


PACKAGES = [Path(zoo_gen.__file__).parent, Path(zoo_bench.__file__).parent]
# A whole command, which a shell takes, may stand in a message of either; options of other programs are theirs.
WHOLE = re.compile(r"zoo-(gen|bench) \w+|rsync|--gpu-architecture|--std=|sha256sum|--file ARCHIVE")


@pytest.mark.parametrize(
    "path",
    [path for package in PACKAGES for path in sorted(package.rglob("*.py")) if path.parent.name != "cli"],
    ids=lambda path: "/".join(path.parts[-3:]),
)
def test_no_message_below_the_commands_names_an_option_alone(path):
    tree = ast.parse(path.read_text())
    told = [
        key for call in ast.walk(tree) if isinstance(call, ast.Call) for key in call.keywords if key.arg == "command"
    ]
    of_commands = {id(node) for key in told for node in ast.walk(key.value)}
    pieces = {id(piece) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for piece in node.values}
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            text = ast.unparse(node)
            is_option = re.search(r"(?<![\w-])--[a-z]", text) and not WHOLE.search(text)
            assert not is_option or id(node) in of_commands | pieces | docstrings, f"{path.name}:{node.lineno}: {text}"
