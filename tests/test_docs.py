"""What docs/ shows is parsed and run as it stands there."""

import re
from pathlib import Path

import pytest

from zoo_gen.files.schema import Schema, parse_toml
from zoo_gen.image_data import DataSource

PAGE = (Path(__file__).parent.parent / "docs" / "image_data.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
TABLES = [code for language, code in BLOCKS if language == "toml"]


class Manifest(Schema):
    data: DataSource


@pytest.mark.parametrize("text", TABLES)
def test_every_source_of_the_page_is_valid(text):
    source = parse_toml(text, Manifest, where="docs/image_data.md").data
    assert min(*source.input_shape, source.n_classes, source.n_train) > 0
    assert source.n_test > 0 or source.source == "image_fields"


def test_the_page_shows_every_source():
    shown = {parse_toml(text, Manifest, where="docs/image_data.md").data.source for text in TABLES}
    assert shown == {
        "torchvision",
        "huggingface",
        "idx",
        "folder",
        "tetris",
        "digits",
        "synthetic",
        "sine",
        "image_fields",
    }


def test_the_python_of_the_page_prints_what_it_says(capsys):
    (code,) = (code for language, code in BLOCKS if language == "python")
    exec(compile(code, "image_data.md", "exec"), {})
    written = [re.split(", uint8", line.split("# ")[1])[0] for line in code.splitlines() if line.startswith("print")]
    assert capsys.readouterr().out.splitlines() == written
