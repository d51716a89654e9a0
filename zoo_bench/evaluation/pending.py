"""Pending cells: outcomes on the disk that wait for the other cells of their result, so that none is computed twice.

A cell's files are named by a digest of all that determines it (encoder, benchmark, zoos, splits, seed, versions), and
its JSON is written last. A cell with a file that is missing or damaged is computed again.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import pydantic

from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.evaluation.candidate import Candidate
from zoo_bench.evaluation.cell import CellRecord, Outcome, used
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.protocols import Cell, On
from zoo_bench.protocol.zoos import ZooAddress
from zoo_bench.results import records
from zoo_gen.errors import ZooError
from zoo_gen.files import atomic

_ATTEMPTS = 20  # to write into a folder that another run, as it ends, may remove


@dataclass(frozen=True)
class Setting:
    """What all cells of one encoder and seed share; worker processes get it whole."""

    benchmark: BenchmarkManifest
    candidate: Candidate
    seed: int
    zoos: tuple[ZooAddress, ...]
    folder: Path  # of pending cells
    runtime: Runtime | None
    code: Path  # where modules with encoders are also looked for
    on: On = "test"  # the models that are scored


def write(setting: Setting, cell: Cell, outcome: Outcome) -> None:
    """Write the outcome of a cell."""
    path = _path(setting, cell)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            if outcome.record.results:
                records.write_predictions(outcome.predictions, path)
                records.write_resamples(outcome.resamples, records.resamples_path(path))
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.replace(path, outcome.record.model_dump_json().encode())
            return
        except FileNotFoundError:
            if attempt == _ATTEMPTS:
                raise


def read(setting: Setting, cell: Cell) -> Outcome | None:
    """Return the outcome of a cell, failures included; None if it is not there or is damaged."""
    path = _path(setting, cell)
    try:
        outcome = Outcome(CellRecord.model_validate_json(path.read_bytes()))
        if outcome.record.results:
            predictions = records.read_predictions(path)
            resamples = records.read_resamples(records.resamples_path(path))
            outcome = replace(outcome, predictions=tuple(predictions), resamples=tuple(resamples))
        return outcome
    except (OSError, pydantic.ValidationError, ZooError):
        return None


def remove(setting: Setting, cells: Sequence[Cell]) -> None:
    """Remove the files of cells, JSON first, what killed writers of them left, and the folders that are empty then."""
    for path in (_path(setting, cell) for cell in cells):
        for file in records.files_of(path):
            file.unlink(missing_ok=True)
            atomic.tidy_file(file)
    for folder in (setting.folder, setting.folder.parent):
        with suppress(OSError):  # it is not there, or not empty
            folder.rmdir()


def name(setting: Setting, cell: Cell) -> str:
    """Return the name of a cell's files: a digest of all that determines its outcome."""
    zoos = [used(zoo).model_dump() for zoo in (cell.zoo, *(test.zoo for test in cell.tests))]
    identity = [
        setting.candidate.digest,
        setting.benchmark.digest,
        cell.name,
        setting.seed,
        zoos,
        version("zoo-gen"),
        version("numpy"),
        *([setting.on] if setting.on != "test" else []),
    ]
    content = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def _path(setting: Setting, cell: Cell) -> Path:
    return setting.folder / f"{name(setting, cell)}.json"
