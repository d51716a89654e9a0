"""zoo_bench: evaluate encoders of neural-network weights on zoos, and rank them.

The public names are imported on first use, so that commands start fast. Reading results never imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo_bench.embeddings import Embeddings, encode, fit
    from zoo_bench.encoders import Encoder, make_encoder
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
    "load_results",
    "make_encoder",
    "make_missing_zoos",
    "mock",
    "plot_embeddings",
    "plot_robustness",
    "pull_missing_zoos",
    "read_benchmark",
    "tune",
    "validate",
]

_HOME = {
    "BenchmarkManifest": "protocol.manifest",
    "Embeddings": "embeddings",
    "Encoder": "encoders",
    "Finding": "evaluation.mock",
    "Leaderboard": "standings.leaderboard",
    "Result": "results",
    "Results": "standings.collection",
    "Runtime": "encoders.training.runtime",
    "Tuned": "evaluation.tune",
    "encode": "embeddings",
    "evaluate": "evaluation.evaluate",
    "fit": "embeddings",
    "leaderboard": "standings.leaderboard",
    "list_benchmarks": "protocol.manifest",
    "list_encoders": "evaluation.candidates",
    "load_results": "standings.collection",
    "make_encoder": "encoders",
    "make_missing_zoos": "protocol.zoos",
    "mock": "evaluation.mock",
    "plot_embeddings": "plots",
    "plot_robustness": "plots",
    "pull_missing_zoos": "protocol.zoos",
    "read_benchmark": "protocol.manifest",
    "tune": "evaluation.tune",
    "validate": "evaluation.validate",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'zoo_bench' has no attribute {name!r}")
    return getattr(import_module(f"zoo_bench.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
