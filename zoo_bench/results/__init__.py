"""Results: one JSON file an encoder, benchmark and seed, with its predictions and resamples as Parquet."""

from zoo_bench.results.machine import Machine, software, this_machine
from zoo_bench.results.results import (
    CellResult,
    Failure,
    Result,
    Score,
    ZooUsed,
    cell_name,
    is_outdated,
    read_result,
    result_path,
    result_paths,
    write_result,
)

__all__ = [
    "CellResult",
    "Failure",
    "Machine",
    "Result",
    "Score",
    "ZooUsed",
    "cell_name",
    "is_outdated",
    "read_result",
    "result_path",
    "result_paths",
    "software",
    "this_machine",
    "write_result",
]
