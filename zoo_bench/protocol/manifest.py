"""BenchmarkManifest: which zoos are evaluated, by which protocol, on which targets."""

from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from zoo_bench.protocol.problem import Loss
from zoo_gen.errors import unknown_name
from zoo_gen.files import schema
from zoo_gen.files.schema import Schema
from zoo_gen.manifest import Split

# Beside these, a target may be any hyper-parameter that varies; `hyperparameters` stands for all but the seed.
TARGETS = ("epoch", "test_accuracy", "generalization_gap", "test_class_f1", "hyperparameters")


class BenchmarkManifest(Schema):
    """Everything that determines a benchmark; docs/benchmarks.md explains each field.

    >>> import zoo_bench
    >>> zoo_bench.BenchmarkManifest(
    ...     name="mine", protocol="standard", zoos=["tiny"], targets=["test_accuracy"], checkpoints="last"
    ... ).digest[:12]
    '701f3919d605'
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=100)
    description: str = ""
    protocol: Literal["standard", "cross_dataset", "cross_architecture", "unseen_epochs", "data_efficiency"]
    zoos: tuple[str, ...] = Field(min_length=1)
    targets: tuple[str, ...] = Field(min_length=1)
    checkpoints: Literal["all", "last"] = "all"  # which of every model train, select and test
    rank_by: Literal["r2", "kendall_tau", "mse"] = "r2"  # which metric of a number counts for the rank
    # Whose predictions rank: the probe's of every embedding, or the encoder's own where it predicts the target.
    reading: Literal["probe", "own"] = "probe"
    loss: Loss = "auto"  # of encoders that learn a target
    probe: Literal["standard", "paper"] = "standard"  # "paper": as Schürholt et al. (NeurIPS 2021) trained theirs
    shares: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 1.0)  # of the training models, in data_efficiency
    split: Split | None = None  # of every zoo by model, in place of the zoo's own
    seen_epochs: float = Field(default=0.5, gt=0, lt=1)  # the share of the checkpoints, in unseen_epochs

    @field_validator("zoos", "targets")
    @classmethod
    def _no_repetition(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} is listed twice; expected each once")
        return names

    @field_validator("targets")
    @classmethod
    def _known_targets(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        for position, target in enumerate(targets):
            if target not in TARGETS:
                raise ValueError(f"[{position}]: {unknown_name('target', target, TARGETS)}")
        return targets

    @model_validator(mode="after")
    def _suits_the_protocol(self) -> Self:
        if self.protocol.startswith("cross_") and len(self.zoos) < 2:
            raise ValueError(f"zoos: {self.protocol} needs two or more")
        if self.protocol == "unseen_epochs" and self.checkpoints != "all":
            raise ValueError("checkpoints: unseen_epochs needs all of them")
        if not self.shares or any(not 0 < share <= 1 for share in self.shares):
            raise ValueError("shares: expected numbers above 0 and up to 1")
        return self

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything but the description."""
        return schema.digest(self, exclude={"description"})


def read_benchmark(benchmark: str | Path | BenchmarkManifest) -> BenchmarkManifest:
    """Return a benchmark by its name, or from a TOML file; a BenchmarkManifest is returned as it is.

    Args:
        benchmark: the name of one that comes with the package (see `list_benchmarks`), or a path that ends in .toml.

    Raises:
        ZooError: no benchmark has that name, or the file is missing or wrong; the message names the key.

    >>> import zoo_bench
    >>> zoo_bench.read_benchmark("standard_small").zoos
    ('mini_mnist_cnn', 'mini_fashion_cnn', 'mini_digits_cnn')
    """
    if isinstance(benchmark, BenchmarkManifest):
        return benchmark
    return schema.read_toml(schema.find("benchmark", str(benchmark), _shipped()), BenchmarkManifest)


def list_benchmarks() -> dict[str, BenchmarkManifest]:
    """Return the benchmarks that come with the package, by name.

    >>> import zoo_bench
    >>> zoo_bench.list_benchmarks()["quickstart"].protocol
    'standard'
    """
    return {name: read_benchmark(path) for name, path in _shipped().items()}


def _shipped() -> dict[str, Path]:
    return schema.shipped("benchmarks", installed=Path(__file__).parent / "shipped")
