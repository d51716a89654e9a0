"""docs/api.md is what its command makes of the docstrings, and holds every public name."""

import importlib.util
import re
from pathlib import Path

import pytest

import zoo_bench
import zoo_gen

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "api.md").read_text()


def test_the_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_api", DOCS / "make_api.py")
    make_api = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_api)
    assert make_api.page() == PAGE, "run: make api"


@pytest.mark.parametrize("package", [zoo_gen, zoo_bench])
def test_every_public_name_has_a_heading_and_a_link_to_it(package):
    headings = re.findall(rf"^### {package.__name__}\.(\w+)$", PAGE, re.MULTILINE)
    assert sorted(headings) == sorted(package.__all__)
    anchors: list[str] = []
    for heading in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE):  # as GitHub makes them
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        anchors.append(f"{anchor}-{anchors.count(anchor)}" if anchor in anchors else anchor)
    for name, link in re.findall(rf"\[(\w+)\]\(#({package.__name__}\w[\w-]*)\)", PAGE):
        assert link in anchors, name


def test_the_page_shows_arguments_and_types_as_they_are_written():
    assert "def open_zoo(path: str | Path | Remote) -> Zoo" in PAGE
    assert '- `device`: "cpu", "cuda" for all GPUs' in PAGE
    assert max(map(len, PAGE.splitlines())) <= 120
