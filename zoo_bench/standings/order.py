"""The order of encoders: one a benchmark, and one over the benchmarks that all of them ran, if there are any.

An encoder that ran few benchmarks, or easy ones, is never compared over sets of benchmarks that differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo_bench.standings.boards import Board, Costs, Loaded

PROTOCOLS = {
    "standard": "Fitted, selected and tested on models of one zoo.",
    "cross_dataset": "Fitted and selected on models of one zoo, tested on those of every zoo: one architecture, other "
    "images.",
    "cross_architecture": "Fitted and selected on models of one zoo, tested on those of zoos of other architectures.",
    "unseen_epochs": "Fitted and selected on the first checkpoints of models, tested on the later ones of others.",
    "accuracy_thresholds": "Fitted, selected and tested on models of one zoo whose test accuracy reaches a threshold.",
    "data_efficiency": "Fitted on a share of the training models, selected on the same share of the validation models, "
    "tested on all test models.",
    "robustness": "Fitted and selected on models of one zoo, tested on others of it, and in their place on networks "
    "that compute the same function.",
}


@dataclass(frozen=True)
class Standing:
    """One encoder over all benchmarks."""

    encoder: str
    rank: float | None  # the mean over the benchmarks that all encoders ran; None where there are none
    ranks: tuple[float | None, ...]  # the mean over the cells of each benchmark; None where it has no result
    cells: tuple[int, ...]  # of each benchmark on which it has a score
    seeds: tuple[tuple[int, ...], ...]  # on each benchmark
    costs: Costs | None


@dataclass(frozen=True)
class Standings:
    """All encoders: in the order of their ranks over the benchmarks in common, or of their names without any."""

    benchmarks: tuple[str, ...]
    common: tuple[str, ...]  # which all encoders ran
    rows: tuple[Standing, ...]

    def of(self, benchmark: str) -> list[tuple[str, float]]:
        """Return the encoders with results of a benchmark and their mean ranks over its cells, the best first."""
        position = self.benchmarks.index(benchmark)
        ranks = [(row.encoder, row.ranks[position]) for row in self.rows]
        return sorted(((name, rank) for name, rank in ranks if rank is not None), key=lambda pair: (pair[1], pair[0]))


def protocols(loaded: Sequence[Loaded]) -> dict[str, str]:
    """Return the benchmarks and their protocols, those within a zoo first."""
    names = {one.result.benchmark: one.result.protocol for one in loaded}
    order = list(PROTOCOLS)
    return dict(sorted(names.items(), key=lambda pair: (order.index(pair[1]), pair[0])))


def standings(boards: Sequence[Board], loaded: Sequence[Loaded]) -> Standings:
    """Return the standings of the encoders of all boards."""
    benchmarks = tuple(protocols(loaded))
    encoders = sorted({encoder for board in boards for encoder in board.encoders})
    of_benchmark = {name: [board for board in boards if board.benchmark == name] for name in benchmarks}
    common = tuple(name for name in benchmarks if set(of_benchmark[name][0].encoders) == set(encoders))
    rows = [_standing(encoder, of_benchmark, common) for encoder in encoders]
    rows.sort(key=lambda row: (0.0 if row.rank is None else row.rank, row.encoder))
    return Standings(benchmarks, common, tuple(rows))


def _standing(encoder: str, of_benchmark: dict[str, list[Board]], common: Sequence[str]) -> Standing:
    ranks: dict[str, float] = {}
    cells: dict[str, int] = {}
    seeds: dict[str, tuple[int, ...]] = {}
    costs: list[Costs] = []
    for name, boards in of_benchmark.items():
        columns = [(board, board.encoders.index(encoder)) for board in boards if encoder in board.encoders]
        if columns:
            ranks[name] = float(np.mean([board.mean_ranks[column] for board, column in columns]))
            seeds[name] = columns[0][0].seeds[columns[0][1]]
        known_costs = [cost for board, column in columns if (cost := board.costs[column]) is not None]
        cells[name] = len(known_costs)
        costs += known_costs
    return Standing(
        encoder=encoder,
        rank=float(np.mean([ranks[name] for name in common])) if common else None,
        ranks=tuple(ranks.get(name) for name in of_benchmark),
        cells=tuple(cells[name] for name in of_benchmark),
        seeds=tuple(seeds.get(name, ()) for name in of_benchmark),
        costs=Costs.together(costs) if costs else None,
    )
