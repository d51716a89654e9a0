"""The rules of the house: which room may import which, that no imports go in a circle, and who owns which library."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / "zoo_gen").rglob("*.py"), *(ROOT / "zoo_bench").rglob("*.py")])
NAMES = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in FILES}

# From the ground up: a room imports from those before it, never from one after it.
ZOO_GEN = ["errors", "files", "machine", "image_data", "architecture", "manifest"]
ZOO_GEN += ["store", "population", "zoo", "engine", "published", "cli"]
ZOO_BENCH = ["protocol", "scores", "results", "standings", "encoders", "evaluation", "embeddings", "plots", "cli"]
SEEN_BY_BENCH = {"zoo", "manifest", "architecture", "machine", "files", "errors", "cli"}
# These may also train and pull zoos, or ask the registry of published ones.
MAKES_ZOOS = {"zoo_bench/protocol/zoos.py", "zoo_bench/protocol/origins.py", "zoo_bench/evaluation/mock.py"}

OWNERS = {
    "cuda": {"zoo_gen/population/gpu/resident/compiling.py"},
    "fsspec": {"zoo_gen/files/url_client.py"},
    "joblib": {"zoo_gen/machine/workers.py", "zoo_gen/machine/device_workers.py"},
    "llvmlite": {"zoo_gen/machine/vector_code.py"},
    "distributed": {"zoo_gen/machine/cluster.py"},
    "tqdm": {"zoo_gen/machine/progress.py"},
    "torchvision": {"zoo_gen/image_data/torchvision.py"},
    "datasets": {"zoo_gen/image_data/huggingface.py"},
    "PIL": {"zoo_gen/image_data/steps.py", "zoo_gen/image_data/pictures.py"},
    "huggingface_hub": {"zoo_gen/files/hub.py", "zoo_gen/files/hub_push.py"},
    "matplotlib": {"zoo_gen/zoo/plots.py", "zoo_bench/plots.py"},
    "jinja2": {"zoo_bench/standings/page/render.py"},
    "h5py": {"zoo_gen/published/formats/neural_field_arena.py"},
    "cloudpickle": {"zoo_gen/machine/pickling.py"},
    "pickle": {"zoo_gen/machine/pickling.py"},  # whatever it reads, it may run
}


def imported(path: Path) -> set[str]:
    """Return the full names of all modules that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported_modules(path: Path) -> set[str]:
    """Return which modules of ours a file imports."""
    modules = set(NAMES.values())
    return {name if name in modules else name.rpartition(".")[0] for name in imported(path)} & modules


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_keep_to_the_rules(path):
    name = str(path.relative_to(ROOT))
    package, *parts = NAMES[path].split(".")
    rooms = ZOO_GEN if package == "zoo_gen" else ZOO_BENCH
    for module in imported(path):
        top, *rest = module.split(".")
        assert name in OWNERS.get(top, {name}), f"{top} belongs to {OWNERS[top]}"
        if package == "zoo_gen":
            assert top != "zoo_bench"
        elif top == "zoo_gen" and rest[0] in ZOO_GEN:
            assert rest[0] in SEEN_BY_BENCH | ({"engine", "published"} if name in MAKES_ZOOS else set()), module
        if top == package and parts and rest and parts[0] in rooms and rest[0] in rooms:
            assert rooms.index(rest[0]) <= rooms.index(parts[0]), f"{module} is a room above {parts[0]}"


@pytest.mark.parametrize("package", ["zoo_gen", "zoo_bench"])
def test_every_room_is_named_and_there_are_few(package):
    entries = {
        path.stem for path in (ROOT / package).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    entries -= {"__init__", "__main__"}
    assert entries == set(ZOO_GEN if package == "zoo_gen" else ZOO_BENCH)
    assert len(entries - {"cli", "errors"}) <= 10


def test_imports_go_in_no_circle():
    graph = {NAMES[path]: imported_modules(path) - {NAMES[path]} for path in FILES}
    # A package's own `__init__` speaks for its files, and its files never ask it.
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_reading_a_zoo_imports_no_library_for_training(tiny_zoo):
    code = (
        "import sys; from zoo_gen import open_zoo; zoo = open_zoo(sys.argv[1]);"
        "zoo.models, zoo.weights[0], zoo.view([0]).weights, zoo.split('train');"
        "assert not {'torch', 'scipy', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tiny_zoo)], check=True, cwd=ROOT)
