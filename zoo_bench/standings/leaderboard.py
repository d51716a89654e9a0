"""The leaderboard as an object: text, Markdown, HTML, a data frame, and the files for a repository of the Hub."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_bench.standings import hub, page, text
from zoo_bench.standings.collection import Results, load_results
from zoo_gen.errors import ZooError
from zoo_gen.files.location import on_disk
from zoo_gen.zoo.frame import data_frame

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False, eq=False)
class Leaderboard:
    """Encoders ranked on benchmarks; `print` shows what ranks, a notebook shows it as a table."""

    results: Results

    def __str__(self) -> str:
        return text.text(self.results.boards, self.results.loaded)

    def __repr__(self) -> str:
        return f"<Leaderboard of {self.results!r}>"

    def _repr_html_(self) -> str:
        return self.results._repr_html_()

    def markdown(self) -> str:
        """Return Markdown tables, with what failed."""
        return text.markdown(self.results.boards, self.results.loaded)

    def html(self) -> str:
        """Return the whole page, which needs no other file."""
        return page.html(self.results.boards, self.results.loaded)

    def json(self) -> str:
        """Return standings, scores and failures as JSON; numbers that are undefined are null."""
        order = self.results.standings
        content = {
            "benchmarks": order.benchmarks,
            "compared_on": order.common,
            "standings": [dataclasses.asdict(row) for row in order.rows],
            "scores": text.score_table(self.results.boards).to_pylist(),
            "failures": [
                {"benchmark": result.benchmark, "encoder": result.encoder, "seed": result.seed, **failure.model_dump()}
                for result, failure in self.results.failures
            ],
        }
        return json.dumps(content, indent=2, allow_nan=False)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return every score as a row: means and intervals over seeds, rank, difference from the best, costs."""
        return data_frame(text.score_table(self.results.boards))

    def write_parquet(self, path: str | Path) -> None:
        """Write the rows of `to_pandas` as a Parquet file, which needs no pandas."""
        import pyarrow.parquet as pq

        pq.write_table(text.score_table(self.results.boards), path)

    def export(self, encoder: str, folder: str | Path, *, owner: str, source_url: str | None = None) -> list[Path]:
        """Write an encoder's scores in the Hub's format, `.eval_results/BENCHMARK.yaml` beside its weights.

        Args:
            encoder: whose scores.
            folder: of the trained encoder.
            owner: of the zoos on the Hub, whose data sets are called OWNER/ZOO.
            source_url: where a reader finds the evaluation.

        Returns:
            The paths of the files.

        Raises:
            ZooError: the encoder has no results, or the owner is no name of the Hub.
        """
        return hub.export(self.results.boards, encoder, on_disk(folder), owner=owner, source_url=source_url)


def leaderboard(results: Results | str | Path) -> Leaderboard:
    """Return the leaderboard of results, or of all results below a folder.

    Raises:
        ZooError: there are none, one is damaged, or they come from different revisions or splits of the zoos.

    >>> import zoo_bench
    >>> board = zoo_bench.leaderboard("results")
    >>> print(board)  # doctest: +ELLIPSIS
    tiny_standard / tiny: 24 models train, 8 select, 8 test; 95 % intervals over models and seeds; ...
    >>> board.to_pandas().query("ranks").groupby("encoder").size().to_dict()
    {'pca': 7, 'weight_statistics': 7}
    >>> board.export("pca", "encoder", owner="my-lab")[0].name
    'tiny_standard.yaml'
    """
    loaded = results if isinstance(results, Results) else load_results(results)
    for result in loaded:
        if result.on != "test":
            raise ZooError(f"{result.encoder}: was scored on {result.on} models; expected results on test models")
    loaded.boards  # noqa: B018 results that do not belong together are an error now
    return Leaderboard(loaded)
