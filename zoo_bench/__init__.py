"""zoo_bench: evaluate encoders of neural-network weights on zoos, and rank them.

The public names are imported on first use, so that commands start fast. Reading results never imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo_bench.embeddings import Embeddings, encode, fit
    from zoo_bench.encoders import Encoder, make_encoder
    from zoo_bench.encoders.exchange import load_encoder, push_encoder
    from zoo_bench.encoders.training.runtime import Runtime
    from zoo_bench.evaluation.candidates import list_encoders
    from zoo_bench.evaluation.evaluate import evaluate
    from zoo_bench.evaluation.mock import Finding, mock
    from zoo_bench.evaluation.tune import Tuned, tune
    from zoo_bench.evaluation.validate import validate
    from zoo_bench.plots import plot_embeddings, plot_robustness
    from zoo_bench.protocol.manifest import BenchmarkManifest, list_benchmarks, read_benchmark
    from zoo_bench.protocol.zoos import make_missing_zoos, pull_missing_zoos
    from zoo_bench.results import Result
    from zoo_bench.standings.collection import Results, load_results
    from zoo_bench.standings.leaderboard import Leaderboard, leaderboard

__all__ = [
    "BenchmarkManifest",
    "Embeddings",
    "Encoder",
    "Finding",
    "Leaderboard",
    "Result",
    "Results",
    "Runtime",
    "Tuned",
    "encode",
    "evaluate",
    "fit",
    "leaderboard",
    "list_benchmarks",
    "list_encoders",
    "load_encoder",
    "load_results",
    "make_encoder",
    "make_missing_zoos",
    "mock",
    "plot_embeddings",
    "plot_robustness",
    "pull_missing_zoos",
    "push_encoder",
    "read_benchmark",
    "tune",
    "validate",
]

_HOMES = {  # module -> the public names that it has
    "embeddings": ("Embeddings", "encode", "fit"),
    "encoders": ("Encoder", "make_encoder"),
    "encoders.exchange": ("load_encoder", "push_encoder"),
    "encoders.training.runtime": ("Runtime",),
    "evaluation.candidates": ("list_encoders",),
    "evaluation.evaluate": ("evaluate",),
    "evaluation.mock": ("Finding", "mock"),
    "evaluation.tune": ("Tuned", "tune"),
    "evaluation.validate": ("validate",),
    "plots": ("plot_embeddings", "plot_robustness"),
    "protocol.manifest": ("BenchmarkManifest", "list_benchmarks", "read_benchmark"),
    "protocol.zoos": ("make_missing_zoos", "pull_missing_zoos"),
    "results": ("Result",),
    "standings.collection": ("Results", "load_results"),
    "standings.leaderboard": ("Leaderboard", "leaderboard"),
}


def __getattr__(name: str) -> object:
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'zoo_bench' has no attribute {name!r}")
    return getattr(import_module(f"zoo_bench.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
