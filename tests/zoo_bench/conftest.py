"""A benchmark on the tiny zoo, and its results."""

from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

import pytest

from zoo_bench.encoders import DEFAULT_ENCODERS, digest
from zoo_bench.evaluation import run
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.results import Result, read_result, result_path
from zoo_bench.standings.boards import Loaded, load

TARGETS = ("epoch", "test_accuracy", "generalization_gap", "test_class_f1", "hyperparameters")


@pytest.fixture(scope="session", autouse=True)
def _shipped_code_is_read_once() -> Iterator[None]:
    """Digests of encoders parse the files of this package a thousand times, and no test changes one of them."""
    read, read_once = digest.module_statements, cache(digest.module_statements)

    def module_statements(module: str, *, also: Collection[str] = ()) -> dict[str, set[str]]:
        return (read_once if module.startswith("zoo_bench.") else read)(module, also=frozenset(also))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digest, "module_statements", module_statements)
        yield


@pytest.fixture(scope="session", autouse=True)
def _zoos_of_dry_runs_are_trained_once(dry_runs_share_zoos) -> None:
    """In evaluation/test_mock.py the zoos are those of this process."""


@pytest.fixture(scope="session")
def tiny_benchmark() -> BenchmarkManifest:
    """The standard protocol on the tiny zoo."""
    return BenchmarkManifest(name="tiny_standard", protocol="standard", zoos=("tiny",), targets=TARGETS)


@pytest.fixture(scope="session")
def tiny_results(tiny_benchmark, tiny_zoo, made_once) -> tuple[Path, list[Result]]:
    """The folder and the results of all baselines; tests only read them."""

    def fill(folder: Path) -> None:
        list(run.run(tiny_benchmark, DEFAULT_ENCODERS, zoos=tiny_zoo.parent, results=folder, seeds=[0]))

    folder = made_once("results", fill)
    paths = [
        result_path(folder, benchmark=tiny_benchmark.name, encoder=encoder, seed=0) for encoder in DEFAULT_ENCODERS
    ]
    return folder, [read_result(path) for path in paths]


@pytest.fixture(scope="session")
def tiny_loaded(tiny_results) -> list[Loaded]:
    """The results of all baselines with their resamples."""
    return load(tiny_results[0])
