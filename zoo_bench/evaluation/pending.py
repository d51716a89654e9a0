"""Kept cells: what was evaluated and waits for the others of its result, so that nothing is computed twice.

A cell's files are named by a digest of all that determines it (encoder, benchmark, zoos, splits, seed, versions), and
its JSON is written last: it is there whole, or the cell is computed again.
"""

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pydantic import Field

from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.evaluation.cell import Evaluated, used
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.protocols import Cell
from zoo_bench.results import CellResult, Failure, records, write_whole
from zoo_gen.files.schema import Schema


class KeptCell(Schema):
    """One cell that was evaluated, or tried."""

    results: tuple[CellResult, ...] = ()
    failures: tuple[Failure, ...] = ()
    error: str = ""  # why there are no results at all
    encoder_config: dict[str, object] = Field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Setting:
    """What all cells of one encoder and seed share; it travels to worker processes."""

    benchmark: BenchmarkManifest
    encoder: str
    digest: str
    seed: int
    zoos: Path
    folder: Path  # of kept cells
    runtime: Runtime | None
    code: Path  # the folder in which an encoder of one's own is also looked for


def keep(setting: Setting, cell: Cell, found: Evaluated, *, config: dict[str, object], seconds: float) -> None:
    """Write what came out of a cell."""
    path = _path(setting, cell)
    records.write_predictions(found.predictions, records.predictions_path(path))
    records.write_resamples(found.resamples, records.resamples_path(path))
    kept = KeptCell(results=found.results, failures=found.failures, encoder_config=config, seconds=seconds)
    write_whole(path, kept.model_dump_json())


def keep_error(setting: Setting, cell: Cell, error: str) -> None:
    """Write why nothing came out of a cell."""
    write_whole(_path(setting, cell), KeptCell(error=error).model_dump_json())


def read(setting: Setting, cell: Cell) -> KeptCell | None:
    """Return a cell as it was kept, failures and all; None if it was not."""
    path = _path(setting, cell)
    return KeptCell.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else None


def read_tables(setting: Setting, cell: Cell) -> tuple[list[records.TargetPrediction], list[records.Resampled]]:
    """Return the predictions and resamples of a cell that was kept with results."""
    path = _path(setting, cell)
    return records.read_predictions(records.predictions_path(path)), records.read_resamples(
        records.resamples_path(path)
    )


def forget(setting: Setting, cell: Cell) -> None:
    """Remove a cell's files, its JSON first, as it came last; and folders that are empty then."""
    path = _path(setting, cell)
    for file in (path, records.predictions_path(path), records.resamples_path(path)):
        file.unlink(missing_ok=True)
    for folder in (setting.folder, setting.folder.parent):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _path(setting: Setting, cell: Cell) -> Path:
    zoos = [used(zoo).model_dump() for zoo in (cell.zoo, *(test.zoo for test in cell.tests))]
    identity = [
        setting.digest,
        setting.benchmark.digest,
        cell.name,
        setting.seed,
        zoos,
        version("zoo-gen"),
        version("numpy"),
    ]
    content = json.dumps(identity, sort_keys=True)
    return setting.folder / f"{hashlib.sha256(content.encode()).hexdigest()[:24]}.json"
