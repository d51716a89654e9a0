"""The rules of the house: who may import whom, and which file owns which library."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / "zoo_gen").rglob("*.py"), *(ROOT / "zoo_bench").rglob("*.py")])

# What zoo_bench may see of zoo_gen. errors, schema and command are how both read TOML and speak to people, manifest is
# what a zoo says of itself, workers is how both spread work, compiling and vector_code are how both write kernels,
# allocator is how both hold memory.
SEEN_BY_BENCH = {"zoo", "layout", "architectures", "hub", "errors", "schema", "command", "manifest", "workers"}
SEEN_BY_BENCH |= {"compiling", "vector_code", "allocator"}
MAKES_ZOOS = {"zoo_bench/zoos.py", "zoo_bench/mock.py"}  # only where that is asked for

OWNERS = {
    "cuda": {"zoo_gen/population/gpu/resident/compiling.py"},
    "fsspec": {"zoo_gen/location.py"},
    "joblib": {"zoo_gen/workers.py"},
    "llvmlite": {"zoo_gen/vector_code.py"},
    "distributed": {"zoo_gen/workers.py"},
    "torchvision": {"zoo_gen/image_data/torchvision.py"},
    "datasets": {"zoo_gen/image_data/huggingface.py"},
    "PIL": {"zoo_gen/image_data/steps.py"},
    "huggingface_hub": {"zoo_gen/hub.py"},
    "matplotlib": {"zoo_gen/plots.py", "zoo_bench/plots.py"},
    "jinja2": {"zoo_bench/page/render.py"},
    "sklearn": {
        "zoo_gen/image_data/digits.py",
        "zoo_bench/probes.py",
        "zoo_bench/encoders/statistics.py",
        "zoo_bench/encoders/statistics_boosting.py",
    },
    "click": {"zoo_gen/cli.py", "zoo_gen/cli_published.py", "zoo_gen/command.py", "zoo_bench/cli.py"},
    "safetensors": {"zoo_bench/encoders/saving.py", "zoo_gen/published/folder.py"},
    "h5py": {"zoo_gen/published/neural_field_arena.py"},
    "pickle": {"zoo_gen/published/isolated.py", "zoo_gen/published/pickles.py"},
    "tqdm": {"zoo_gen/engine.py", "zoo_gen/pulling.py", "zoo_bench/engine.py", "zoo_bench/encoders/training.py"},
}


def imports(path: Path) -> set[str]:
    """Return the full names of all modules that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_keep_to_the_rules(path):
    name = str(path.relative_to(ROOT))
    for module in imports(path):
        top, *rest = module.split(".")
        if name.startswith("zoo_gen/"):
            assert top != "zoo_bench"
        elif top == "zoo_gen":
            assert rest[0] in SEEN_BY_BENCH | ({"engine", "pulling", "published"} if name in MAKES_ZOOS else set())
        assert name in OWNERS.get(top, {name}), f"{top} belongs to {OWNERS[top]}"


@pytest.mark.parametrize(
    "name",
    [
        "zoo",
        "zoo_view",
        "model_table",
        "store",
        "commit",
        "grid",
        "axes",
        "manifest",
        "card",
        "layout",
        "cli",
        "engine",
        "regime",
        "cost",
        "workers",
        "sums",
        "location",
        "claim",
        "hub",
        "release",
        "pulling",
        "converted",
        "ragged",
    ],
)
def test_torch_is_not_imported_at_the_top(name):
    tree = ast.parse((ROOT / "zoo_gen" / f"{name}.py").read_text())
    for node in tree.body:
        modules = [alias.name for alias in getattr(node, "names", [])] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not any(module.split(".")[0] == "torch" or ".population" in module for module in modules)
