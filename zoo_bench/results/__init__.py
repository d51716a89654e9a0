"""Results: one JSON file an encoder, benchmark and seed, with its predictions and resamples as Parquet."""

from zoo_bench.results.results import (
    CellResult,
    Failure,
    Result,
    Score,
    ZooUsed,
    cell_name,
    read_result,
    result_path,
    result_paths,
    write_result,
)

__all__ = [
    "CellResult",
    "Failure",
    "Result",
    "Score",
    "ZooUsed",
    "cell_name",
    "read_result",
    "result_path",
    "result_paths",
    "write_result",
]
