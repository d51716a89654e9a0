"""The commands of zoo-bench over results that are there: leaderboard, export and validate."""

from dataclasses import dataclass
from pathlib import Path

import click

from zoo_bench.cli.options import RESULTS, ZOOS, search_working_folder
from zoo_gen.cli.command import OnDisk, gathered
from zoo_gen.errors import ZooError
from zoo_gen.files.location import Folder


@dataclass(frozen=True)
class LeaderboardFiles:
    """The files that a leaderboard is also written to."""

    html: Path | None
    markdown: Path | None
    parquet: Path | None


@click.command()
@click.option(
    "--results",
    "folders",
    type=OnDisk(),
    multiple=True,
    default=[Path("results")],
    show_default=True,
    help="Folder of results; repeatable.",
)
@click.option("--benchmark", "benchmarks", multiple=True, help="Only these benchmarks; repeatable.")
@click.option("--encoder", "encoders", multiple=True, help="Only these encoders; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print standings, scores and failures as JSON.")
@click.option("--html", type=OnDisk(dir_okay=False), help="Also write the leaderboard as one HTML page.")
@click.option("--markdown", type=OnDisk(dir_okay=False), help="Also write it as Markdown.")
@click.option("--parquet", type=OnDisk(dir_okay=False), help="Also write every score as a table.")
@gathered(files=LeaderboardFiles)
def leaderboard(
    folders: tuple[Path, ...],
    benchmarks: tuple[str, ...],
    encoders: tuple[str, ...],
    as_json: bool,
    files: LeaderboardFiles,
) -> None:
    """Print the leaderboard of all results, or of some benchmarks and encoders compared by themselves.

    Results that cannot be read are named and left out, and the command fails at the end.
    """
    import zoo_bench
    from zoo_bench.results import validation_paths
    from zoo_bench.standings.boards import load_readable
    from zoo_gen.files import atomic

    loaded, problems = load_readable(*folders)
    if not loaded:
        raise problems[0]
    board = zoo_bench.leaderboard(zoo_bench.Results(tuple(loaded)).only(benchmarks=benchmarks, encoders=encoders))
    click.echo(board.json() if as_json else str(board))
    written = [path for path in (files.html, files.markdown, files.parquet) if path]
    for path in written:
        path.parent.mkdir(parents=True, exist_ok=True)
    if files.html:
        atomic.replace(files.html, board.html().encode())
    if files.markdown:
        atomic.replace(files.markdown, board.markdown().encode())
    if files.parquet:
        board.write_parquet(files.parquet)
    for path in written:
        click.echo(f"\nwritten: {path}", err=as_json)
    aside = sum(len(validation_paths(folder)) for folder in folders)
    if aside:
        click.echo(f"\non no leaderboard: {aside} result{'s' * (aside > 1)} on validation models", err=True)
    for problem in problems[:-1]:
        click.echo(f"error: {problem}", err=True)
    if problems:
        raise problems[-1]


@click.command()
@click.argument("encoder")
@RESULTS
@click.option("--out", type=OnDisk(), required=True, help="Folder of the trained encoder.")
@click.option("--owner", required=True, help="Owner of the zoos on the Hub, whose data sets are called OWNER/ZOO.")
@click.option("--source-url", help="Address at which a reader finds the evaluation.")
def export(encoder: str, results: Path, out: Path, owner: str, source_url: str | None) -> None:
    """Write the results of ENCODER in the Hub's format, as .eval_results/BENCHMARK.yaml beside its weights."""
    import zoo_bench

    for path in zoo_bench.leaderboard(results).export(encoder, out, owner=owner, source_url=source_url):
        click.echo(f"written: {path}")


@click.command()
@RESULTS
@ZOOS
@click.option(
    "--rerun", metavar="ENCODER", help="Also fit this encoder again, on a cell of each of its results drawn at random."
)
def validate(results: Path, zoos: Folder, rerun: str | None) -> None:
    """Check all results: digests, completeness, and every score computed again from the stored predictions.

    Zoos that are not there are not needed; rows and true values are compared with those that are.
    """
    import zoo_bench

    search_working_folder()
    wrong = 0
    for path, problems in zoo_bench.validate(results, zoos=zoos, rerun=rerun):
        click.echo(f"{path}: {'right' if not problems else 'WRONG'}")
        for problem in problems:
            click.echo(f"  {problem}", err=True)
        wrong += bool(problems)
    if wrong:
        raise ZooError(f"wrong or incomplete results: {wrong}, see above; run zoo-bench run again")
