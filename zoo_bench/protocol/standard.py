"""The standard protocol on a zoo of one's own: a benchmark that is made from the zoo, with all that it can be asked.

Whoever has only a zoo's folder or URL gives it where a benchmark's name would stand.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from zoo_bench.protocol.manifest import BenchmarkManifest, read_benchmark, shipped_benchmark
from zoo_bench.protocol.origins import PUBLISHED
from zoo_bench.protocol.targets import UNASKED
from zoo_gen.errors import ZooError
from zoo_gen.files.location import Folder
from zoo_gen.zoo import JOIN, AnyZoo, open_any

_ACCURACIES = ("test_accuracy", "generalization_gap")
_NO_TARGETS = {"max_abs"}  # what the weights say themselves, without learning


def benchmark_or_zoo(
    benchmark: str | Path | BenchmarkManifest | AnyZoo, zoos: str | Folder | Sequence[AnyZoo]
) -> tuple[BenchmarkManifest, str | Folder | Sequence[AnyZoo]]:
    """Return a benchmark and where its zoos are; of a zoo, its folder or its URL, the standard one and the zoo.

    Args:
        benchmark: a name, the path of a TOML file, a BenchmarkManifest; or an opened zoo, its folder or its URL.
        zoos: the folder of zoos, or the opened zoos; of no account where a zoo is given in place of a benchmark.

    Raises:
        ZooError: there is no such benchmark and no such zoo, or the zoo has nothing that can be predicted.
    """
    if isinstance(benchmark, BenchmarkManifest):
        return benchmark, zoos
    if not isinstance(benchmark, AnyZoo):
        text = str(benchmark)
        if not _is_zoo(text):
            if "/" in text and not text.endswith(".toml"):
                raise ZooError(f"{text}: no such folder; expected a zoo, or the path of a benchmark that ends in .toml")
            return read_benchmark(benchmark), zoos
        benchmark = open_any(text)
    return standard_benchmark(benchmark), [benchmark]


def standard_benchmark(zoo: AnyZoo) -> BenchmarkManifest:
    """Return the standard protocol on one zoo: every checkpoint, its own split, all targets that it has.

    Targets are the epoch; test accuracy and the generalisation gap, or where there is no accuracy every metric; and the
    hyper-parameters that vary, except the architecture and names that each belong to one model.

    Raises:
        ZooError: nothing varies between the checkpoints or models of the zoo.

    >>> import zoo_gen
    >>> from zoo_bench.protocol.standard import standard_benchmark
    >>> standard_benchmark(zoo_gen.open_zoo("zoos/tiny")).targets
    ('epoch', 'test_accuracy', 'generalization_gap', 'optimizer', 'activation', 'learning_rate')
    """
    metrics = [name for name in zoo.metrics if name not in _NO_TARGETS and zoo.metric(name).ndim == 2]
    measured = [name for name in _ACCURACIES if name in metrics]
    if {"train_accuracy", "test_accuracy"} <= set(metrics):
        measured = list(_ACCURACIES)
    chosen = ["epoch"] * (len(zoo.epochs) > 1)
    chosen += measured or [name for name in metrics if _varies(np.asarray(zoo.metric(name)[:]))]
    chosen += [name for name in zoo.varying if name not in UNASKED and _can_be_learned(zoo.models[name])]
    if not chosen:
        raise ZooError(f"{zoo.path}: has nothing to predict; expected metrics or hyper-parameters that vary")
    name = zoo.name.replace(JOIN, "-and-")
    name = name if shipped_benchmark(name) is None else f"{name}_zoo"
    return BenchmarkManifest(
        name=name,
        description=f"The standard protocol on {zoo.name}: every checkpoint, the zoo's own split, all its targets.",
        protocol="standard",
        zoos=(zoo.name,),
        zoos_from="published" if zoo.name.endswith(PUBLISHED) else "regenerated",
        targets=tuple(chosen),
    )


def _is_zoo(text: str) -> bool:
    """Say whether a text names a zoo and no benchmark, which comes first where both are there."""
    if text.endswith(".toml") or shipped_benchmark(text) is not None:
        return False
    return "://" in text or all(
        Path(path).is_dir() for path in (text.split(JOIN) if not Path(text).is_dir() else [text])
    )


def _varies(values: np.ndarray) -> bool:
    return len(np.unique(values[np.isfinite(values)])) > 1


def _can_be_learned(column: pa.ChunkedArray) -> bool:
    """Say whether a hyper-parameter has two values or more, and, if they are names, models that share them."""
    count = len(column.unique())
    return count > 1 and (not pa.types.is_string(column.type) or count <= len(column) // 2)
