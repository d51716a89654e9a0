"""Results: one JSON file for each encoder, benchmark and seed, with all that is needed to trust and repeat it."""

import hashlib
import json
import re
from pathlib import Path
from typing import Literal

import pydantic
from pydantic import Field

from zoo_gen.errors import ZooError
from zoo_gen.files import atomic
from zoo_gen.files.schema import Schema
from zoo_gen.manifest import Split

_EXPECTED = "expected a result of zoo-bench run; delete it to have it computed again"


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
    penalty: float | None  # of the probe, chosen on the validation models; None where the encoder predicts itself
    by: Literal["probe", "encoder"] = "probe"  # who predicted: a probe of the embeddings, or a supervised encoder
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
    chance: float  # the accuracy of guessing among the test zoo's classes
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


class Result(Schema):
    """The scores of an encoder on a benchmark with one seed.

    Beside it lie two Parquet files, whose digests it holds: the predictions of all test rows, and every metric on every
    resample.
    """

    schema_version: Literal[3] = 3
    encoder: str
    encoder_config: dict[str, object]
    encoder_digest: str
    benchmark: str
    benchmark_digest: str
    protocol: str
    split: Split | None = None  # of every zoo, where the benchmark has its own
    rank_by: Literal["r2", "kendall_tau", "mse"]
    seed: int
    resamples: int
    confidence: float
    cells: tuple[CellResult, ...] = Field(min_length=1)
    failures: tuple[Failure, ...] = ()
    predictions_sha256: str
    resamples_sha256: str
    versions: dict[str, str]
    seconds: float  # of all cells, each as it was computed; an interruption adds nothing
    sha256: str = ""  # of all fields above

    def signed(self) -> "Result":
        """Return the result with the digest of its content."""
        return self.model_copy(update={"sha256": self.content_sha256})

    @property
    def content_sha256(self) -> str:
        """SHA-256 of everything but `sha256` itself."""
        content = self.model_dump(mode="json", exclude={"sha256"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def cell_name(source: str, test: str, condition: str) -> str:
    """Return the name of a cell: its zoo, or source -> test; and its condition."""
    name = test if source == test else f"{source} → {test}"
    return f"{name}, {condition}" if condition else name


def result_path(folder: Path, *, benchmark: str, encoder: str, seed: int) -> Path:
    """Return where a result is stored: FOLDER/BENCHMARK/ENCODER/seed-N.json."""
    return folder / benchmark / re.sub(r"[^A-Za-z0-9_.-]", "__", encoder) / f"seed-{seed}.json"


def write_result(result: Result, path: Path) -> None:
    """Write a result atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.replace(path, (result.model_dump_json(indent=2) + "\n").encode())


def read_result(path: Path) -> Result:
    """Read one result.

    Raises:
        ZooError: the file cannot be read or does not fit the schema.
    """
    try:
        return Result.model_validate_json(path.read_text(encoding="utf-8"))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"{part}: " for part in (".".join(map(str, first["loc"])),) if part)
        raise ZooError(f"{path}: {place}{first['msg']}; {_EXPECTED}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ZooError(f"{path}: cannot be read ({error}); {_EXPECTED}") from None


def result_paths(folder: Path) -> list[Path]:
    """Return the paths of all results below a folder, in order.

    Raises:
        ZooError: there is none.
    """
    paths = sorted(folder.glob("*/*/seed-*.json"))
    if not paths:
        raise ZooError(
            f"{folder}: holds no results; expected BENCHMARK/ENCODER/seed-N.json, as zoo-bench run writes them"
        )
    return paths
