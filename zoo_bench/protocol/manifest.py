"""BenchmarkManifest: which zoos are evaluated, by which protocol, on which targets."""

from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from zoo_bench.protocol.origins import PUBLISHED, ZoosFrom, any_published, published_names
from zoo_bench.protocol.problem import Loss
from zoo_gen.errors import ZooError, unknown_name
from zoo_gen.files import schema
from zoo_gen.files.schema import Schema
from zoo_gen.manifest import Split, StoredSplit


class BenchmarkManifest(Schema):
    """Everything that determines a benchmark; docs/benchmarks.md explains each field.

    >>> import zoo_bench
    >>> zoo_bench.BenchmarkManifest(
    ...     name="mine", protocol="standard", zoos=["tiny"], targets=["test_accuracy"], checkpoints="last"
    ... ).digest[:12]
    '701f3919d605'
    """

    name: str = Field(pattern=schema.DOTTED_NAME, max_length=100)
    description: str = ""
    protocol: Literal[
        "standard",
        "cross_dataset",
        "cross_architecture",
        "unseen_epochs",
        "data_efficiency",
        "accuracy_thresholds",
        "robustness",
    ]
    zoos: tuple[str, ...] = Field(min_length=1)
    # "published": those zoos that somebody published are taken as they were, under names that end so; never mixed.
    zoos_from: ZoosFrom = "regenerated"
    sources: tuple[str, ...] = ()  # of the zoos, those that train, in cross_*; all of them if none is named
    families: tuple[tuple[str, ...], ...] = ()  # of the zoos, in cross_*: which count as of one architecture
    # Any metric or hyper-parameter of the zoos, epoch, or what stands for several: see protocol/targets.py.
    targets: tuple[str, ...] = Field(min_length=1)
    checkpoints: Literal["all", "last"] = "all"  # which of every model train, select and test
    rank_by: Literal["r2", "kendall_tau", "mse"] = "r2"  # which metric of a number counts for the rank
    # Whose predictions rank: the probe's of every embedding, or the encoder's own where it predicts the target.
    reading: Literal["probe", "own"] = "probe"
    loss: Loss = "auto"  # of encoders that learn a target
    probe: Literal["standard", "paper"] = "standard"  # "paper": as Schürholt et al. (NeurIPS 2021) trained theirs
    shares: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 1.0)  # of the training models, in data_efficiency
    # The least test accuracies of models that take part, in accuracy_thresholds; those of Tran et al. (ICLR 2025).
    thresholds: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8)
    split: Split | StoredSplit | None = None  # of every zoo by model, in place of the zoo's own
    published_split: StoredSplit | None = None  # in place of `split` where the zoos are the published ones
    seen_epochs: float = Field(default=0.5, gt=0, lt=1)  # the share of the checkpoints, in unseen_epochs

    @model_validator(mode="before")
    @classmethod
    def _names_of_published_zoos(cls, document: Any) -> Any:
        if not isinstance(document, dict) or document.get("zoos_from") != "published":
            return document
        renamed = {key: published_names(document[key]) for key in ("zoos", "sources", "families") if key in document}
        return document | renamed | ({"split": document["published_split"]} if document.get("published_split") else {})

    @field_validator("zoos", "sources", "targets")
    @classmethod
    def _no_repetition(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} is listed twice; expected each once")
        return names

    @field_validator("split", mode="before")
    @classmethod
    def _of_one_kind(cls, split: Any) -> Any:
        if not isinstance(split, dict):
            return split
        return schema.checked(split, StoredSplit if "table" in split else Split, where="split")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        published = [name for name in self.zoos if name.endswith(PUBLISHED)]
        if self.zoos_from == "regenerated" and published:
            raise ValueError(f'zoos: {published[0]} is a published zoo; expected zoos_from = "published"')
        if self.zoos_from == "published" and not published:
            raise ValueError(f'zoos: nobody published {", ".join(self.zoos)}; expected zoos_from = "regenerated"')
        return self

    @model_validator(mode="after")
    def _sources_and_families(self) -> Self:
        members = [name for family in self.families for name in family]
        for key, names in (("sources", self.sources), ("families", members)):
            if names and not self.protocol.startswith("cross_"):
                raise ValueError(f"{key}: expected only in cross_dataset and cross_architecture")
            for name in names:
                if name not in self.zoos:
                    raise ValueError(f"{key}: {unknown_name('zoo', name, self.zoos)}")
        for name in self.zoos if self.families else ():
            if members.count(name) != 1:
                raise ValueError(f"families: {name} is in {members.count(name)} of them; expected every zoo in one")
        return self

    @model_validator(mode="after")
    def _suits_the_protocol(self) -> Self:
        if self.protocol.startswith("cross_") and len(self.zoos) < 2:
            raise ValueError(f"zoos: {self.protocol} needs two or more")
        if self.protocol == "cross_architecture" and len(self.families) == 1:
            raise ValueError("families: cross_architecture needs two or more, or none")
        if self.protocol == "unseen_epochs" and self.checkpoints != "all":
            raise ValueError("checkpoints: unseen_epochs needs all of them")
        if self.protocol == "accuracy_thresholds" and self.checkpoints != "last":
            raise ValueError('checkpoints: accuracy_thresholds chooses models by their last; expected "last"')
        if not self.thresholds or any(not 0 <= least < 1 for least in self.thresholds):
            raise ValueError("thresholds: expected numbers from 0 on and below 1")
        if not self.shares or any(not 0 < share <= 1 for share in self.shares):
            raise ValueError("shares: expected numbers above 0 and up to 1")
        return self

    def with_zoos_from(self, origin: ZoosFrom) -> "BenchmarkManifest":
        """Return this benchmark on the published zoos of its populations, or on those that are trained here.

        On published zoos it has a name of its own, so that no board holds both.

        Raises:
            ZooError: nobody published any of its zoos; or it is on published zoos alone.

        >>> import zoo_bench
        >>> benchmark = zoo_bench.read_benchmark("nfn_final_checkpoint").with_zoos_from("published")
        >>> benchmark.name, benchmark.zoos[0], benchmark.split.table[0]
        ('nfn_final_checkpoint_published', 'small_cnn_zoo_cifar10_published', 'nfn')
        """
        if origin == self.zoos_from:
            return self
        if origin == "regenerated":
            raise ZooError(f"{self.name}: is on published zoos; expected another benchmark for those trained here")
        content = self.model_dump(exclude_defaults=True) | {"name": self.name + PUBLISHED, "zoos_from": "published"}
        return schema.checked(content, type(self), where=self.name)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...] | None:
        """The zoos that train and test in each cell, as far as the manifest alone says; None where layouts do."""
        if not self.protocol.startswith("cross_"):
            return tuple((name, name) for name in self.zoos)
        across = self.protocol == "cross_architecture"
        if across and not self.families:
            return None
        return tuple(
            (source, test)
            for source in self.sources or self.zoos
            for test in self.zoos
            if (not self.families or test in self.family_of(source)) != across
        )

    def family_of(self, zoo: str) -> tuple[str, ...]:
        """Return the zoos that count as of one architecture with a zoo, itself too; none if there are no families."""
        return next((family for family in self.families if zoo in family), ())

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything but the description."""
        return schema.digest(self, exclude={"description"})


def read_benchmark(benchmark: str | Path | BenchmarkManifest) -> BenchmarkManifest:
    """Return a benchmark by its name, or from a TOML file; a BenchmarkManifest is returned as it is.

    Args:
        benchmark: the name of one that comes with the package (see `list_benchmarks`), with `_published` behind it for
            the same on published zoos, or a path that ends in .toml.

    Raises:
        ZooError: no benchmark has that name, or the file is missing or wrong; the message names the key.

    >>> import zoo_bench
    >>> zoo_bench.read_benchmark("standard_small").zoos
    ('mini_mnist_cnn', 'mini_fashion_cnn', 'mini_digits_cnn')
    """
    if isinstance(benchmark, BenchmarkManifest):
        return benchmark
    name = str(benchmark)
    base = name.removesuffix(PUBLISHED)
    if base != name and base in _shipped():
        return read_benchmark(base).with_zoos_from("published")
    return schema.read_toml(schema.find("benchmark", name, _shipped()), BenchmarkManifest)


def list_benchmarks() -> dict[str, BenchmarkManifest]:
    """Return the benchmarks that come with the package, by name.

    >>> import zoo_bench
    >>> zoo_bench.list_benchmarks()["quickstart"].protocol
    'standard'
    """
    return {name: read_benchmark(path) for name, path in _shipped().items()}


def shipped_benchmark(name: str) -> BenchmarkManifest | None:
    """Return the benchmark of that name that comes with the package, on published zoos too; None if there is none."""
    base = name.removesuffix(PUBLISHED)
    if name in _shipped():
        return read_benchmark(name)
    published = base in _shipped() and any_published(read_benchmark(base).zoos)
    return read_benchmark(name) if published else None


def _shipped() -> dict[str, Path]:
    return schema.shipped("benchmarks", installed=Path(__file__).parent / "shipped")
