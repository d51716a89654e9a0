"""Results: one JSON file for each encoder, benchmark and seed, with all that is needed to trust and repeat it.

What is missing, damaged or of an earlier schema is a ZooError that names the file.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pydantic
from pydantic import Field

from zoo_bench.results.machine import Machine
from zoo_gen.errors import ZooError, either
from zoo_gen.files import atomic
from zoo_gen.files.schema import Schema
from zoo_gen.manifest import Split, StoredSplit

_EXPECTED = "expected a result of zoo-bench run; delete it to have it computed again"
_LATER_FIELDS = ("operations", "networks_per_second")  # of a cell; results that were made before have other digests
_VERSION = 4  # 4: encoders learn the problem of their benchmark, probes treat heavy tails, ranks are means of ranks


class Score(Schema):
    """One metric of one target on the test models, with its 95 % interval over resampled models.

    `value`, `low` and `high` are None where the metric is undefined, as R2 is for a constant target.
    """

    target: str
    metric: Literal["r2", "kendall_tau", "kendall_tau_above_chance", "spearman", "mae", "mse", "accuracy", "macro_f1"]
    ranks: bool  # whether this metric of the target counts for the rank
    value: float | None
    low: float | None
    high: float | None
    penalty: float | None  # of the probe, chosen on the validation models; None where nothing was chosen
    # Who predicted: a probe of the embeddings, a supervised encoder, or a floor, which is told no weight.
    by: Literal["probe", "encoder", "recipe", "mean"] = "probe"
    ceiling: float | None = None  # of tau-b: what predictions without ties can reach, where the truth has ties
    left_out: int = 0  # test rows whose truth is missing


class ZooUsed(Schema):
    """The zoo and the split that were used, by their digests."""

    zoo: str
    digest: str
    revision: str
    split_sha256: str


class CellResult(Schema):
    """The scores of an encoder that was fitted on one zoo, on the test models of one zoo."""

    source: ZooUsed
    test: ZooUsed
    condition: str = ""
    test_rows_sha256: str  # of the model_ids and epochs that were tested
    chance: float | None = None  # the accuracy of guessing among the test zoo's classes; None where it is not known
    checkpoints: int
    train_models: int
    validation_models: int
    test_models: int
    excluded_models: int
    dimension: int
    fit_seconds: float
    encode_seconds: float
    probe_seconds: float
    parameters: int | None = None  # that training the encoder set; None where it does not say
    memory_bytes: int | None = None  # at most, to fit and encode, over what the process held before
    gpu_memory_bytes: int | None = None
    operations: int | None = None  # of matrix products and convolutions, to encode a network; None where none counts
    networks_per_second: float | None = None  # encoded, of this test
    machine: Machine
    scores: tuple[Score, ...] = Field(min_length=1)

    @property
    def name(self) -> str:
        """The name of its cell, which no other of its benchmark has."""
        return cell_name(self.source.zoo, self.test.zoo, self.condition)


class Failure(Schema):
    """A test that an encoder failed on."""

    source: str
    test: str
    condition: str = ""
    target: str = ""  # where an encoder that learns one target failed to learn this one; empty: the whole test failed
    message: str

    @property
    def name(self) -> str:
        """The name of its cell, which no other of its benchmark has."""
        return cell_name(self.source, self.test, self.condition)


class Trial(Schema):
    """One trial of a tuning: an encoder with some settings, and what it reached on the validation models."""

    encoder: str  # with its settings, as in pca[dimension=20]
    mean_rank: float | None = None  # among the trials, as on a leaderboard; None where it failed
    value: float | None = None  # the mean of all scores that rank; what it means depends on the benchmark
    seconds: float = 0.0
    message: str = ""  # why it failed


class Tuning(Schema):
    """A search over the settings of an encoder on the validation models of a benchmark: its budget and every trial."""

    encoder: str
    benchmark: str
    benchmark_digest: str
    search: Literal["random", "grid"]
    seed: int  # of the search
    seeds: tuple[int, ...]  # with which each trial was fitted
    ranges: dict[str, str]  # setting -> its values, as they were written
    trials: tuple[Trial, ...] = Field(min_length=1)
    best: str  # of the trials


class Result(Schema):
    """The scores of an encoder on a benchmark with one seed.

    Beside it lie two Parquet files, whose digests it holds: the predictions of all test rows, and every metric on every
    resample.
    """

    schema_version: Literal[4] = 4
    encoder: str
    encoder_config: dict[str, object]
    encoder_digest: str
    benchmark: str
    benchmark_digest: str
    protocol: str
    split: Split | StoredSplit | None = None  # of every zoo, where the benchmark has its own
    rank_by: Literal["r2", "kendall_tau", "mse"]
    reading: Literal["probe", "own"]  # whose predictions rank
    probe: Literal["standard", "paper"]  # which probes predict from embeddings
    manifest: dict[str, object]  # the benchmark: all that its digest covers
    # Which models were scored; on those that select, the result is for whoever tunes, and on no leaderboard.
    on: Literal["test", "validation"] = "test"
    tunings: tuple[Tuning, ...] = ()  # of this encoder on this benchmark, as the folder of results knows them
    seed: int
    resamples: int
    confidence: float
    cells: tuple[CellResult, ...] = Field(min_length=1)
    failures: tuple[Failure, ...] = ()
    predictions_sha256: str
    resamples_sha256: str
    versions: dict[str, str]  # of Python and of the packages that computed it
    seconds: float  # of all cells, each as it was computed; an interruption adds nothing
    sha256: str = ""  # of all fields above

    def signed(self) -> "Result":
        """Return the result with the digest of its content."""
        return self.model_copy(update={"sha256": self.content_sha256})

    @property
    def content_sha256(self) -> str:
        """SHA-256 of everything but `sha256` itself."""
        # Fields that came later are no part of the digest at their default, so that it holds for older results.
        later = {name for name in ("on", "tunings") if name not in self.model_dump(exclude_defaults=True)}
        content = self.model_dump(mode="json", exclude={"sha256", *later})
        for cell in content["cells"]:
            for field in _LATER_FIELDS:
                if cell[field] is None:
                    del cell[field]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


_TUNINGS = pydantic.TypeAdapter(tuple[Tuning, ...])


def cell_name(source: str, test: str, condition: str) -> str:
    """Return the name of a cell: its zoo, or source -> test; and its condition."""
    name = test if source == test else f"{source} → {test}"
    return f"{name}, {condition}" if condition else name


def result_path(
    folder: Path, *, benchmark: str, encoder: str, seed: int, on: Literal["test", "validation"] = "test"
) -> Path:
    """Return where a result is stored: FOLDER/BENCHMARK/ENCODER/seed-N.json, or validation-seed-N.json there."""
    name = f"seed-{seed}.json" if on == "test" else f"{on}-seed-{seed}.json"
    return folder / benchmark / re.sub(r"[^A-Za-z0-9_.-]", "__", encoder) / name


def tunings_path(folder: Path, *, benchmark: str, encoder: str) -> Path:
    """Return where the tunings of an encoder, named without settings, are stored."""
    return folder / benchmark / f"{re.sub(r'[^A-Za-z0-9_.-]', '__', encoder)}.tunings.json"


def read_tunings(path: Path) -> tuple[Tuning, ...]:
    """Return the tunings that a file holds; none, where there is no file.

    Raises:
        ZooError: it is damaged.
    """
    if not path.exists():
        return ()
    try:
        return _TUNINGS.validate_json(path.read_bytes())
    except (OSError, pydantic.ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise ZooError(f"{path}: cannot be read ({reason}); expected what zoo-bench tune wrote") from None


def write_tunings(tunings: Sequence[Tuning], path: Path) -> None:
    """Write tunings atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.replace(path, _TUNINGS.dump_json(tuple(tunings), indent=2) + b"\n")


def write_result(result: Result, path: Path) -> None:
    """Write a result atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.replace(path, (result.model_dump_json(indent=2) + "\n").encode())


def read_result(path: Path) -> Result:
    """Read one result.

    Raises:
        ZooError: the file cannot be read, is of an earlier schema, or does not fit the schema.
    """
    try:
        content = path.read_text(encoding="utf-8")
        if _version_of(content) < _VERSION:
            raise ZooError(
                f"{path}: is of schema {_version_of(content)}, whose scores other probes and ranks made; "
                f"expected {_VERSION}, as zoo-bench run writes it: run it again"
            )
        return Result.model_validate_json(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"{part}: " for part in (".".join(map(str, first["loc"])),) if part)
        raise ZooError(f"{path}: {place}{first['msg']}; {_EXPECTED}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ZooError(f"{path}: cannot be read ({error}); {_EXPECTED}") from None


def is_outdated(path: Path) -> bool:
    """Return whether a file is a result of an earlier schema, which zoo-bench run replaces."""
    try:
        return _version_of(path.read_text(encoding="utf-8")) < _VERSION
    except (OSError, UnicodeDecodeError):
        return False


def encoder_of(path: Path) -> str | None:
    """Return the name of the encoder that a file is a result of, of any schema; None where it does not say it."""
    try:
        return str(json.loads(path.read_bytes())["encoder"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _version_of(content: str) -> int:
    """Return the schema version of a result's text; that of today if it says none."""
    try:
        version = json.loads(content)["schema_version"]
    except (ValueError, KeyError, TypeError):
        return _VERSION
    return version if isinstance(version, int) else _VERSION


def validation_paths(folder: Path) -> list[Path]:
    """Return the paths of all results on validation models below a folder, in order."""
    return sorted(folder.glob("*/*/validation-seed-*.json"))


def result_paths(folder: Path, *, validation_too: bool = False) -> list[Path]:
    """Return the paths of all results on test models below a folder, in order, or those on validation models too."""
    on_validation = validation_paths(folder)
    paths = sorted([*folder.glob("*/*/seed-*.json"), *(on_validation if validation_too else [])])
    if on_validation and not paths:
        raise ZooError(
            f"{folder}: holds results on validation models alone, which are on no leaderboard; expected "
            + either(command="zoo-bench run without --on validation", python="an evaluation without on='validation'")
        )
    if not paths:
        raise ZooError(
            f"{folder}: holds no results; expected BENCHMARK/ENCODER/seed-N.json, as zoo-bench run writes them"
        )
    return paths
