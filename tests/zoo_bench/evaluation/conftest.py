"""Small zoos for protocols across zoos."""

import shutil

import pytest

from zoo_gen import engine as zoo_engine


@pytest.fixture(scope="session")
def three_zoos(made_once, tiny_zoo):
    """The tiny zoo, one with more noise, and one of another architecture."""

    def fill(folder):
        shutil.copytree(tiny_zoo, folder / "tiny")
        text = (tiny_zoo / "manifest.toml").read_text().replace("range = [1, 5]", "range = [1, 3]")
        for name, old, new in (("other", "noise = 0.1", "noise = 0.3"), ("third", "[16, 5, 4]", "[16, 7, 4]")):
            manifest = folder / f"{name}.toml"
            manifest.write_text(text.replace('"tiny"', f'"{name}"').replace(old, new))
            zoo_engine.run(manifest, folder / name, workers=1)

    return made_once("three", fill)
