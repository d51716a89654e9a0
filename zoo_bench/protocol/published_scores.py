"""Published scores: what papers report on a benchmark's zoos, as data with their sources.

They were computed elsewhere, by other code and often on other seeds, so they are never ranked among computed ones. What
reached us through somebody else's transcription is marked as secondary, and what was only remembered is not here.
"""

from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from zoo_bench.protocol.manifest import BenchmarkManifest, read_benchmark
from zoo_gen.errors import unknown_name
from zoo_gen.files import schema
from zoo_gen.files.schema import Schema


class PublishedScore(Schema):
    """One number of a method, on the test models of one zoo."""

    method: str = Field(min_length=1)
    test: str
    source: str = ""  # the zoo that it was fitted to; empty: the zoo that tests
    target: str
    metric: Literal["r2", "kendall_tau", "mse", "accuracy"]
    value: float
    deviation: Annotated[float, Field(ge=0)] | None = None


class PublishedScores(Schema):
    """The numbers that one source reports on a benchmark.

    Attributes:
        benchmark: its name.
        source: where the numbers stand, as a reader would look it up.
        date: of the source.
        status: whether the source is the method's own, ran it again, or was read in a transcription by others.
        note: what a reader must know beside.
        rows: the numbers.
    """

    benchmark: str
    source: str = Field(min_length=1)
    date: str = Field(pattern=r"^\d{4}(-\d\d(-\d\d)?)?$")
    status: Literal["as published", "run by others", "secondary"]
    note: str = ""
    rows: tuple[PublishedScore, ...] = Field(min_length=1)

    @cached_property
    def manifest(self) -> BenchmarkManifest:
        """The benchmark."""
        return read_benchmark(self.benchmark)

    @model_validator(mode="after")
    def _of_its_zoos(self) -> Self:
        for row in self.rows:
            for zoo in filter(None, (row.test, row.source)):
                if zoo not in self.manifest.zoos:
                    raise ValueError(f"{row.method}: {unknown_name('zoo', zoo, self.manifest.zoos)}")
        return self


def list_published_scores() -> dict[str, tuple[PublishedScores, ...]]:
    """Return what papers report, by the name of the benchmark: an entry a source, the earliest first.

    Raises:
        ZooError: a file is wrong; the message names the place.

    >>> from zoo_bench.protocol.published_scores import list_published_scores
    >>> scores = list_published_scores()["nfn_final_checkpoint_published"][0]
    >>> scores.source, scores.rows[0].method, scores.rows[0].value
    ('Zhou et al., Permutation equivariant neural functionals, NeurIPS 2023', 'StatNN', 0.915)
    """
    scores: dict[str, list[PublishedScores]] = defaultdict(list)
    for path in schema.shipped("scores", installed=Path(__file__).parent / "scores").values():
        of_source = schema.read_toml(path, PublishedScores)
        scores[of_source.benchmark].append(of_source)
    return {name: tuple(sorted(sources, key=lambda each: each.date)) for name, sources in scores.items()}
