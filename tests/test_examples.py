"""Every `>>>` example of a docstring gives what it shows, in a folder that holds `zoos/tiny` and `tiny.toml`.

Examples that push and pull speak to a Hub on loopback.
"""

import doctest
import importlib
import shutil
from pathlib import Path

import pytest

import zoo_bench

ROOT = Path(__file__).parent.parent
PUBLIC = frozenset(getattr(zoo_bench, "__all__", ()))  # tests/zoo_bench/test_face.py runs theirs beside results
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in ("zoo_gen", "zoo_bench")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", MODULES)
def test_every_example_gives_what_it_shows(name, tmp_path, tiny_zoo, tiny_manifest, monkeypatch, hub):
    shutil.copytree(tiny_zoo, tmp_path / "zoos" / "tiny")
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestFinder().find(importlib.import_module(name), name)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for example in examples:
        if not (name.startswith("zoo_bench") and example.name.removeprefix(f"{name}.").split(".")[0] in PUBLIC):
            runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
