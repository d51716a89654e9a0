"""Results: one JSON file an encoder, benchmark and seed, with its predictions and resamples as Parquet."""

from zoo_bench.results.results import (
    CellResult,
    Failure,
    Result,
    Score,
    ZooUsed,
    cell_name,
    read_result,
    read_results,
    result_path,
    write_result,
    write_whole,
)

__all__ = [
    "CellResult",
    "Failure",
    "Result",
    "Score",
    "ZooUsed",
    "cell_name",
    "read_result",
    "read_results",
    "result_path",
    "write_result",
    "write_whole",
]
