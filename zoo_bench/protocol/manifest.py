"""BenchmarkManifest: which zoos are evaluated, by which protocol, on which targets."""

from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from zoo_gen.errors import ZooError, unknown_name
from zoo_gen.files import schema
from zoo_gen.files.schema import Schema
from zoo_gen.manifest import Split

# Beside these, a target may be any hyper-parameter that varies; `hyperparameters` stands for all but the seed.
TARGETS = ("epoch", "test_accuracy", "generalization_gap", "test_class_f1", "hyperparameters")


class BenchmarkManifest(Schema):
    """Everything that determines a benchmark."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=100)
    description: str = ""
    protocol: Literal["standard", "cross_dataset", "cross_architecture", "unseen_epochs", "data_efficiency"]
    zoos: tuple[str, ...] = Field(min_length=1)
    targets: tuple[str, ...] = Field(min_length=1)
    checkpoints: Literal["all", "last"] = "all"  # which of every model train, select and test
    rank_by: Literal["r2", "kendall_tau", "mse"] = "r2"  # which metric of a number counts for the rank
    shares: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 1.0)  # of the training models, in data_efficiency
    split: Split | None = None  # of every zoo by model, in place of the zoo's own
    seen_epochs: float = Field(default=0.5, gt=0, lt=1)  # the share of the checkpoints, in unseen_epochs

    @field_validator("zoos", "targets")
    @classmethod
    def _no_repetition(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} stands there twice; expected each once")
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


def read_benchmark(path: Path) -> BenchmarkManifest:
    """Read and check one manifest.

    Raises:
        ZooError: the file is missing or wrong; the message names the place.
    """
    return schema.read_toml(path, BenchmarkManifest)


def shipped_benchmarks() -> dict[str, Path]:
    """Return the benchmarks that come with the package, name -> path."""
    return schema.shipped("benchmarks", installed=Path(__file__).parent / "shipped")


def find_benchmark(name_or_path: str) -> Path:
    """Return the path of a benchmark given as a path (ending in .toml) or as the name of a shipped one.

    Raises:
        ZooError: no shipped benchmark has that name.
    """
    if name_or_path.endswith(".toml"):
        return Path(name_or_path)
    shipped = shipped_benchmarks()
    if name_or_path not in shipped:
        raise ZooError(unknown_name("benchmark", name_or_path, shipped) + ", or a path that ends in .toml")
    return shipped[name_or_path]
