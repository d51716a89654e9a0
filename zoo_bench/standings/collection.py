"""Results: what encoders reached on benchmarks, as a sequence that gives data frames, the best encoder and HTML."""

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, overload

import pyarrow as pa

from zoo_bench.results import Failure, Result
from zoo_bench.results.records import prediction_table
from zoo_bench.results.scoring import FLOORS
from zoo_bench.standings.boards import Board, Loaded, boards, failures, load, load_readable
from zoo_bench.standings.html_tables import html_tables
from zoo_bench.standings.order import Standings, standings
from zoo_gen.errors import ZooError, unknown_name
from zoo_gen.files.location import on_disk
from zoo_gen.zoo.frame import data_frame

_logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False, eq=False)
class Results(Sequence[Result]):
    """Results of encoders on benchmarks, one an encoder, benchmark and seed.

    A sequence of `Result`, each with all that its JSON file holds. In a notebook it shows as a table with intervals.

    >>> import zoo_bench
    >>> results = zoo_bench.load_results("results")
    >>> len(results)
    2
    >>> [(result.encoder, result.seed) for result in results]
    [('pca', 0), ('weight_statistics', 0)]
    """

    loaded: tuple[Loaded, ...]  # with the resamples and predictions

    @overload
    def __getitem__(self, index: int) -> Result: ...
    @overload
    def __getitem__(self, index: slice) -> "Results": ...
    def __getitem__(self, index: int | slice) -> "Result | Results":
        return Results(self.loaded[index]) if isinstance(index, slice) else self.loaded[index].result

    def __iter__(self) -> Iterator[Result]:
        return (one.result for one in self.loaded)

    def __len__(self) -> int:
        return len(self.loaded)

    def __repr__(self) -> str:
        benchmarks, encoders = ({getattr(result, name) for result in self} for name in ("benchmark", "encoder"))
        return f"<Results: {len(self)} of {len(encoders)} encoders on {', '.join(sorted(benchmarks))}>"

    def _repr_html_(self) -> str:
        return html_tables(self.boards, self.standings, self.loaded)

    def only(self, *, benchmarks: Collection[str] = (), encoders: Collection[str] = ()) -> "Results":
        """Return the results of some benchmarks and encoders, so that these alone are compared; empty means all.

        Raises:
            ZooError: there are no results of one of them.

        >>> import zoo_bench
        >>> zoo_bench.load_results("results").only(encoders=["pca"])
        <Results: 1 of 1 encoders on tiny_standard>
        """
        benchmarks, encoders = ([names] if isinstance(names, str) else names for names in (benchmarks, encoders))
        for kind, names in (("benchmark", benchmarks), ("encoder", encoders)):
            known = sorted({getattr(result, kind) for result in self})
            for name in names:
                if name not in known:
                    raise ZooError(f"{unknown_name(kind, name, known)}; expected one with results")
        chosen = tuple(
            one
            for one in self.loaded
            if (not benchmarks or one.result.benchmark in benchmarks)
            and (not encoders or one.result.encoder in encoders)
        )
        if not chosen:
            raise ZooError(
                "no result is of these benchmarks and of these encoders; expected some that were run together"
            )
        return Results(chosen)

    @cached_property
    def boards(self) -> list[Board]:
        """One table for each cell of each benchmark, encoders in the order of their mean rank.

        Raises:
            ZooError: results of one cell come from different zoos, splits or benchmarks.
        """
        return boards(self.loaded)

    @cached_property
    def standings(self) -> Standings:
        """The order of the encoders: one a benchmark, and one over the benchmarks that all of them ran."""
        return standings(self.boards, self.loaded)

    @property
    def best(self) -> str:
        """The encoder with the best mean rank, as on the leaderboard: over targets, then cells, then benchmarks.

        Raises:
            ZooError: there is no benchmark that all encoders ran.
        """
        if not self.standings.common:
            raise ZooError("no benchmark was run with all of these encoders; expected results that can be compared")
        return self.standings.rows[0].encoder

    @property
    def failures(self) -> list[tuple[Result, Failure]]:
        """What failed in some cells of a result."""
        return failures(self.loaded)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return every score as a row: benchmark, cell, encoder, seed, target, metric, value, its 95 % interval, ...

        `ranks` says whether the score counts for the rank, `by` whether a probe or the encoder itself predicted.

        >>> import zoo_bench
        >>> scores = zoo_bench.load_results("results").to_pandas()
        >>> scores[scores.ranks].groupby("encoder")["value"].size().to_dict()
        {'pca': 7, 'weight_statistics': 7}
        """
        rows = [
            {
                "benchmark": result.benchmark,
                "cell": cell.name,
                "source": cell.source.zoo,
                "test": cell.test.zoo,
                "condition": cell.condition,
                "encoder": result.encoder,
                "seed": result.seed,
                **score.model_dump(),
            }
            for result in self
            for cell in result.cells
            for score in cell.scores
        ]
        return data_frame(pa.Table.from_pylist(rows))

    def predictions(self) -> "pandas.DataFrame":
        """Return every prediction of a test model as a row: benchmark, encoder, seed, cell, target, model_id, ...

        Numbers are in `truth` and `predicted`, names in `true_name` and `predicted_name`. What floors predict, which no
        encoder does, is left out.

        >>> import zoo_bench
        >>> predictions = zoo_bench.load_results("results").predictions()
        >>> accuracy = predictions.query("target == 'test_accuracy' and encoder == 'pca'")
        >>> accuracy[["model_id", "epoch", "truth", "predicted"]].shape  # 8 test models x 5 checkpoints
        (40, 4)
        """
        tables = []
        for one in self.loaded:
            for prediction in one.predictions:
                if prediction.by in FLOORS:
                    continue
                table = prediction_table(prediction)
                for name in ("seed", "encoder", "benchmark"):
                    table = table.add_column(0, name, pa.array([getattr(one.result, name)] * len(table)))
                tables.append(table)
        return data_frame(pa.concat_tables(tables))


def load_results(*folders: str | Path, skip_damaged: bool = False) -> Results:
    """Return all results below folders, ordered by benchmark, encoder and seed.

    Args:
        folders: of results.
        skip_damaged: whether results that cannot be read are left out; a warning names each.

    Raises:
        ZooError: no folder is given, none holds a result that can be read, or one is damaged; the message names it.

    >>> import zoo_bench
    >>> zoo_bench.load_results("results")
    <Results: 2 of 2 encoders on tiny_standard>
    """
    if not folders:
        raise ZooError("no folder of results is given; expected one or several")
    places = [on_disk(folder) for folder in folders]
    if not skip_damaged:
        return Results(tuple(load(*places)))
    loaded, problems = load_readable(*places)
    if not loaded:
        raise problems[0]
    for problem in problems:
        _logger.warning("left out: %s", problem)
    return Results(tuple(loaded))
