"""docs/benchmarks.md says of every shipped benchmark what ranks on it, as its manifest does."""

import re
from pathlib import Path

from zoo_bench import list_benchmarks

PAGE = (Path(__file__).parent.parent / "docs" / "benchmarks.md").read_text()
METRICS = {"tau-b": "kendall_tau", "R²": "r2", "accuracy": "r2", "squared error": "mse"}  # names rank by accuracy alone


def ranked(words):
    """Return the metric and the reading that a cell of the table names first."""
    metric = re.search("|".join(METRICS), words)
    return metric and METRICS[metric[0]], "own" if "own prediction" in words else "probe"


def documented():
    """Return what the table says ranks on each benchmark, small forms too: name -> (metric, reading)."""
    table = PAGE.split("| benchmark | after |", maxsplit=1)[1].split("\n\n", maxsplit=1)[0]
    blocks, before = {}, None
    for line in table.splitlines()[2:]:
        names, _, words, small = (cell.strip() for cell in line.strip("|").split("|"))
        before = before if words.startswith("as above") else ranked(words)
        for name in re.findall("`([^`]+)`", names):
            assert name not in blocks
            blocks[name] = before
        for name in re.findall("`([^`]+)`", small):
            metric = ranked(re.sub("`[^`]+`", "", small))[0]  # where a small form ranks by another one
            blocks.setdefault(name, (metric or before[0], before[1]))
    return blocks


def test_the_page_says_what_ranks_on_every_benchmark_as_its_manifest_does():
    shipped = {name: (benchmark.rank_by, benchmark.reading) for name, benchmark in list_benchmarks().items()}
    assert documented() == shipped
