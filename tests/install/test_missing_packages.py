"""Installs that lack packages: every command works, or says in one line which extra it needs, and then works with it.

Packages are hidden from Python and from every process that it starts, by a hook that a `sitecustomize` sets. What an
extra brings, its own requirements and theirs, is read from the metadata of what is installed here.
"""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.install import commands
from zoo_gen.errors import EXTRAS

HOOK = """
import os, sys

class Without:
    def __init__(self, finder):
        self.finder = finder
        self.names = frozenset(os.environ["HIDDEN_PACKAGES"].split(","))

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in self.names else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
OPTIONAL = PROJECT["optional-dependencies"]
ADVICE = re.compile(r"pip install 'zoo-gen\[(\w+)\]'")
# What a machine without network, token or cluster answers, whatever is installed.
OUT_OF_REACH = {"pull", "push", "info s3://", "run --engine dask"}
# Reading needs the base alone.
IN_THE_BASE = {
    *("list", "list --published", "info", "info --json", "diff", "split", "merge", "bench list"),
}


def requirements(name: str, extras: frozenset[str], seen: set[str]) -> set[str]:
    """Return the names of all packages that one needs with some extras, itself included, as far as they are here."""
    name = re.sub(r"[-_.]+", "-", name).lower()
    if name == "zoo-gen":
        needed = [*PROJECT["dependencies"], *(each for extra in extras for each in OPTIONAL.get(extra, ()))]
    else:
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            return seen
    seen.add(name)
    for text in needed:
        match = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", text)
        of_extra = re.search(r"extra == ['\"]([\w-]+)['\"]", text)
        other = re.sub(r"[-_.]+", "-", match[1]).lower()
        if (of_extra is None or of_extra[1] in extras) and (other not in seen or (other == "zoo-gen" and match[2])):
            requirements(match[1], frozenset((match[2] or "").split(",")), seen)
    return seen


def hidden(*extras: str) -> set[str]:
    """Return the names of modules that an install with some extras does not have."""
    visible = requirements("zoo-gen", frozenset(extras), set())
    packages = importlib.metadata.packages_distributions()
    modules = {
        module
        for module, owners in packages.items()
        if not visible & {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners}
    }
    # zarr finds zarrs by its metadata, which stay.
    return modules - {"zoo_gen", "zoo_bench", "sitecustomize", "zarrs"}


def answers(zoo, out, extras, only=()):
    """Run commands where only some extras are there."""
    (out / "hook").mkdir(parents=True)
    (out / "hook" / "sitecustomize.py").write_text(HOOK)
    environment = os.environ | {
        "HIDDEN_PACKAGES": ",".join(sorted(hidden(*extras))),
        "PYTHONPATH": os.pathsep.join([str(out / "hook"), str(Path(__file__).parents[2])]),
        "HF_HUB_OFFLINE": "1",
        "HF_ENDPOINT": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_MAX_ATTEMPTS": "1",
    }
    done = subprocess.run(
        [sys.executable, commands.__file__, str(zoo), str(out), *only],
        env=environment, cwd=out, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def works(name: str, code: int, text: str) -> bool:
    """Say whether a command did what it is for, or all that it can without a network."""
    return code == 0 or (name in OUT_OF_REACH and not ADVICE.search(text) and text.startswith("error: "))


def advice(name: str, code: int, text: str) -> str:
    """Return the extra that a command asks for, in one line."""
    lines = text.strip().splitlines()
    assert code == 2, (name, code, text)
    match = ADVICE.search(lines[-1])
    assert match, (name, text)
    assert lines[-1].startswith("error: "), (name, text)
    return match[1]


@pytest.fixture(scope="module")
def base(tiny_zoo, tmp_path_factory):
    """What every command answers where no extra is installed."""
    return answers(tiny_zoo, tmp_path_factory.mktemp("installs") / "base", ())


def test_with_the_base_alone_what_reads_works_and_the_rest_names_an_extra_in_one_line(base):
    assert {name for name, (code, _) in base.items() if code == 0} >= IN_THE_BASE
    named = {name: advice(name, *answer) for name, answer in base.items() if not works(name, *answer)}
    assert {"run", "verify", "bench run", "encode", "tune", "convert", "info --plots", "push"} <= set(named)
    assert set(named.values()) <= set(OPTIONAL) - {"all", "dev"}


@pytest.mark.slow
def test_every_advice_ends_in_a_command_that_works(base, tiny_zoo, tmp_path):
    waiting = {name: frozenset([advice(name, *answer)]) for name, answer in base.items() if not works(name, *answer)}
    for _ in range(3):  # a command may need several
        again: dict[str, frozenset[str]] = {}
        for extras in sorted(set(waiting.values()), key=sorted):
            names = [name for name, needed in waiting.items() if needed == extras]
            # Commands over results need some.
            only = [*names, *(["bench run"] if {"leaderboard", "validate", "bench export"} & set(names) else [])]
            answered = answers(tiny_zoo, tmp_path / "_".join(sorted(extras)), sorted(extras), only)
            for name in names:
                if not works(name, *answered[name]):
                    more = advice(name, *answered[name])
                    assert more not in extras, (name, answered[name])
                    again[name] = extras | {more}
        if not again:
            return
        waiting = again
    pytest.fail(f"still not enough: {waiting}")


def test_the_extras_that_messages_name_are_those_of_the_project():
    names = {"PIL": "pillow", "sklearn": "scikit-learn", "distributed": "dask"}
    extras_of = {names.get(module, module): set(extras) for module, extras in EXTRAS.items()}
    brought: dict[str, set[str]] = {}
    for extra, needed in OPTIONAL.items():
        for text in needed if extra not in ("all", "dev") else ():
            brought.setdefault(re.match(r"[\w.-]+", text)[0], set()).add(extra)
    assert extras_of == brought
