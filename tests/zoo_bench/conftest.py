"""A benchmark on the tiny zoo, and its results."""

from pathlib import Path

import pytest

from zoo_bench.encoders import DEFAULT_ENCODERS
from zoo_bench.evaluation import run
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.results import Result
from zoo_bench.standings.boards import Loaded, load

TARGETS = ("epoch", "test_accuracy", "generalization_gap", "test_class_f1", "hyperparameters")


@pytest.fixture(scope="session")
def tiny_benchmark() -> BenchmarkManifest:
    """The standard protocol on the tiny zoo."""
    return BenchmarkManifest(name="tiny_standard", protocol="standard", zoos=("tiny",), targets=TARGETS)


@pytest.fixture(scope="session")
def tiny_results(tiny_benchmark, tiny_zoo, tmp_path_factory) -> tuple[Path, list[Result]]:
    """The folder and the results of all baselines; tests only read them."""
    folder = tmp_path_factory.mktemp("results")
    found = run.run(tiny_benchmark, list(DEFAULT_ENCODERS), zoos=tiny_zoo.parent, results=folder, seeds=[0])
    return folder, [result for result, _ in found]


@pytest.fixture(scope="session")
def tiny_loaded(tiny_results) -> list[Loaded]:
    """The results of all baselines with their resamples."""
    return load(tiny_results[0])
