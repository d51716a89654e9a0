"""zoo-bench: list, run, encode, rank and validate."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from zoo_gen.cli.command import Commands, table
from zoo_gen.errors import ZooError

if TYPE_CHECKING:
    from zoo_bench.protocol.manifest import BenchmarkManifest

RESULTS = click.option(
    "--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Folder of results."
)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="zoo-gen")
def main() -> None:
    """Evaluate encoders of neural-network weights on zoos, and rank them."""


@main.command("list")
def list_() -> None:
    """List the benchmarks and encoders that come with the package."""
    from zoo_bench.encoders import ENCODERS, GROUPS
    from zoo_bench.protocol.manifest import read_benchmark, shipped_benchmarks

    rows: list[dict[str, object]] = []
    for name, path in shipped_benchmarks().items():
        found = read_benchmark(path)
        rows.append(
            {
                "benchmark": name,
                "protocol": found.protocol,
                "zoos": ", ".join(found.zoos) if len(found.zoos) <= 3 else f"{len(found.zoos)} zoos",
                "targets": ", ".join(found.targets),
            }
        )
    click.echo(table(rows))
    click.echo()
    groups = {name: ", ".join(group for group, its in GROUPS.items() if name in its) for name in ENCODERS}
    click.echo(table([{"encoder": name, "groups": groups[name]} for name in ENCODERS]))


@main.command()
@click.argument("benchmarks", nargs=-1, metavar="[BENCHMARK]...")
@click.option(
    "--encoder",
    "encoders",
    multiple=True,
    help="A name, a group that `zoo-bench list` shows, or package.module:Class; repeatable.  [default: default]",
)
@click.option("--mock", is_flag=True, help="Only see, on tiny zoos and within seconds, whether the encoders conform.")
@click.option(
    "--zoos", type=click.Path(path_type=Path), default=Path("zoos"), show_default=True, help="Folder of the zoos."
)
@click.option(
    "--missing-zoos",
    type=click.Choice(["refuse", "make", "pull"]),
    default="refuse",
    show_default=True,
    help="What to do about zoos that are not there or not complete.",
)
@click.option("--owner", help="Of the zoos that are pulled, where they are data sets of the Hub called OWNER/ZOO.")
@click.option("--data-root", type=click.Path(path_type=Path), help="Where zoos that are made look for images.")
@RESULTS
@click.option("--seeds", default="0", show_default=True, help="Seeds, separated by commas.")
@click.option(
    "--rerun",
    type=click.Choice(["always", "never", "only-missing"]),
    default="only-missing",
    show_default=True,
    help="What to compute again.",
)
@click.option(
    "--device", default="auto", show_default=True, help="Where networks train: auto (a GPU if there is one), cpu, cuda."
)
@click.option(
    "--checkpoints",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for trainings that are interrupted; the same command then goes on with them.",
)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes, a cell each.")
@click.option("--engine", type=click.Choice(["local", "dask"]), default="local", show_default=True)
@click.option("--scheduler", help="The address of a Dask scheduler, such as tcp://host:8786.")
@click.option("--compile/--no-compile", "compiles", default=True, show_default=True, help="Use torch.compile on a GPU.")
@click.option(
    "--cpu-bfloat16",
    is_flag=True,
    help="Train in bfloat16 on a CPU what does so on a GPU: faster on a CPU that has instructions for it.",
)
def run(
    benchmarks: tuple[str, ...],
    encoders: tuple[str, ...],
    mock: bool,
    zoos: Path,
    missing_zoos: Literal["refuse", "make", "pull"],
    owner: str | None,
    data_root: Path | None,
    results: Path,
    seeds: str,
    rerun: Literal["always", "never", "only-missing"],
    device: str,
    checkpoints: Path | None,
    workers: int,
    engine: Literal["local", "dask"],
    scheduler: str | None,
    compiles: bool,
    cpu_bfloat16: bool,
) -> None:
    """Evaluate encoders. BENCHMARK is a name that `zoo-bench list` shows, or the path of a TOML file."""
    from zoo_bench.encoders import encoder_names
    from zoo_bench.encoders.training.runtime import Runtime
    from zoo_bench.protocol.manifest import find_benchmark, read_benchmark

    # An encoder of one's own often lies in the working folder, which an installed command does not search.
    sys.path.append(str(Path.cwd()))
    chosen = encoders or ("default",)
    if mock:
        _mock(benchmarks, encoder_names(chosen))
        return
    if not benchmarks:
        raise ZooError("BENCHMARK is missing; expected a name that zoo-bench list shows, the path of a file, or --mock")
    if (engine == "dask") != (scheduler is not None):
        raise ZooError("--engine dask and --scheduler tcp://host:8786 belong together; expected both or neither")
    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise ZooError(f"--seeds {seeds!r}: expected whole numbers separated by commas, such as 0,1,2") from None
    found = [read_benchmark(find_benchmark(its)) for its in benchmarks]
    runtime = Runtime(device=device, checkpoints=checkpoints, compile=compiles, cpu_bfloat16=cpu_bfloat16)
    if device != "auto":
        runtime.torch_device()  # a device that is not there is an error now, not after the baselines
    if missing_zoos != "refuse":
        from zoo_bench.protocol.zoos import make_missing, pull_missing

        for its in found:
            if missing_zoos == "pull":
                had, how = pull_missing(its, zoos, owner=owner), "pulled into"
            else:
                had, how = (
                    make_missing(its, zoos, data_root=data_root, workers=workers if workers > 1 else None),
                    "made in",
                )
            for name in had:
                click.echo(f"{name}: {how} {zoos / name}")
    _run(
        found,
        {its.name: encoder_names(chosen, protocol=its.protocol) for its in found},
        zoos=zoos,
        results=results,
        seeds=numbers,
        rerun=rerun,
        runtime=runtime,
        workers=workers,
        scheduler=scheduler,
    )


def _run(benchmarks: "Sequence[BenchmarkManifest]", names: dict[str, list[str]], **options: Any) -> None:
    """Evaluate on each benchmark and say what came of it; an encoder that fails on one goes on with the next."""
    from zoo_bench.encoders.training.runtime import is_first_process
    from zoo_bench.evaluation import run

    errors: list[ZooError] = []
    for benchmark in benchmarks:
        try:
            for result, is_new in run.run(benchmark, names[benchmark.name], **options):
                state = f"evaluated in {result.seconds:.1f} s" if is_new else "there already"
                if is_first_process():
                    click.echo(f"{result.benchmark}: {result.encoder}, seed {result.seed}: {state}")
                    for failure in result.failures:
                        click.echo(f"  {failure.name}: failed: {failure.message}", err=True)
        except ZooError as error:
            if len(benchmarks) == 1:
                raise
            click.echo(f"{benchmark.name}: {error}", err=True)
            errors.append(error)
    if errors:
        raise ZooError(f"{len(errors)} of {len(benchmarks)} benchmarks have encoders without a result, as said above")


def _mock(benchmarks: Sequence[str], names: list[str]) -> None:
    """Check encoders on tiny zoos and say what they keep to."""
    from tempfile import TemporaryDirectory

    from zoo_bench.evaluation.mock import check, make_zoos

    if benchmarks:
        raise ZooError(f"--mock: takes no benchmark, got {benchmarks[0]}; it makes tiny zoos of its own")
    failed = 0
    with TemporaryDirectory(prefix="zoo-bench-mock-") as folder:
        zoos = make_zoos(Path(folder))
        for name in names:
            click.echo(f"{name}:")
            for finding in check(name, zoos):
                click.echo(f"  {finding.state:7} {finding.what}{': ' if finding.detail else ''}{finding.detail}")
                failed += finding.state == "FAILED"
    if failed:
        raise ZooError(f"{failed} checks failed; docs/submissions.md says what is expected of an encoder")
    click.echo("conforms" if len(names) == 1 else "all conform")


@main.command()
@click.argument("zoo")
@click.option("--encoder", required=True, help="A name or package.module:Class.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .npz that is written.")
@click.option("--plot", type=click.Path(path_type=Path), help="Also draw two principal components, as .png or .pdf.")
@click.option("--load", help="Folder of a saved encoder, or hf://org/name@revision; it is then not fitted.")
@click.option("--save", type=click.Path(path_type=Path), help="Folder into which the fitted encoder is saved.")
@click.option("--push", metavar="ORG/NAME", help="Model repository of the Hub to which the fitted encoder is pushed.")
@click.option("--tag", default="", help="Of the version that --push makes.")
@click.option("--seed", default=0, show_default=True, help="Of all that is random in fitting.")
@click.option("--device", default="auto", show_default=True, help="Where networks compute: auto, cpu or cuda.")
def encode(
    zoo: str,
    encoder: str,
    out: Path,
    plot: Path | None,
    load: str | None,
    save: Path | None,
    push: str | None,
    tag: str,
    seed: int,
    device: str,
) -> None:
    """Embed every checkpoint of a zoo with an encoder fitted to its training models.

    ZOO is its folder or URL. The file holds arrays of one length: model, checkpoint, epoch, split, embedding, and
    prediction if the encoder is supervised.
    """
    from zoo_bench import embeddings
    from zoo_bench.encoders import exchange, make_encoder
    from zoo_bench.encoders.training.runtime import Runtime
    from zoo_gen.files import hub
    from zoo_gen.zoo import open_zoo

    if out.suffix != ".npz":
        raise ZooError(f"--out {out}: expected a name that ends in .npz")
    if plot and plot.suffix not in (".png", ".pdf", ".svg"):
        raise ZooError(f"--plot {plot}: expected a name that ends in .png, .pdf or .svg")
    made = make_encoder(encoder, runtime=Runtime(device=device))
    for option, method, given in (("--load", "load", load), ("--save", "save", save), ("--push", "save", push)):
        if given and not hasattr(made, method):
            raise ZooError(f"{option}: {encoder} has no {method!r}; expected a neural encoder")
    if push:
        hub.check_repository(push)
    opened = open_zoo(zoo)
    if load:
        exchange.load_encoder(made, load, name=encoder)
    else:
        embeddings.fit_on_zoo(made, opened, seed=seed)
    if save:
        getattr(made, "save")(save)  # noqa: B009
    if push:
        fitted_to = "" if load else f"{opened.name}, revision {opened.revision[:12]}"
        pushed = exchange.push_encoder(made, push, name=encoder, tag=tag, fitted_to=fitted_to)
        click.echo(f"pushed: hf://{push} is {pushed.url} at {pushed.commit[:12]}")
    found = embeddings.embed_zoo(encoder, made, opened)
    embeddings.write_embeddings(found, out)
    click.echo(f"written: {out}, {found.embedding.shape[0]:,} checkpoints x {found.embedding.shape[1]:,} dimensions")
    if plot:
        from zoo_bench.plots import plot_embeddings

        title = f"{opened.name}: embeddings of {encoder}"
        plot_embeddings(found.embedding, embeddings.colours(opened, found), plot, title=title)
        click.echo(f"written: {plot}")


@main.command()
@RESULTS
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), help="Also write the leaderboard as one HTML page."
)
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Also write it as Markdown.")
@click.option("--parquet", type=click.Path(dir_okay=False, path_type=Path), help="Also write every score as a table.")
def leaderboard(results: Path, html: Path | None, markdown: Path | None, parquet: Path | None) -> None:
    """Print the leaderboard of all results."""
    from zoo_bench.results import write_whole
    from zoo_bench.standings import page
    from zoo_bench.standings import text as board
    from zoo_bench.standings.boards import boards, load

    loaded = load(results)
    found = boards(loaded)
    click.echo(board.text(found))
    for path in filter(None, (html, markdown, parquet)):
        path.parent.mkdir(parents=True, exist_ok=True)
    if html:
        write_whole(html, page.html(found, loaded))
    if markdown:
        write_whole(markdown, board.markdown(found, loaded))
    if parquet:
        board.write_parquet(found, parquet)
    for path in filter(None, (html, markdown, parquet)):
        click.echo(f"\nwritten: {path}")


@main.command()
@click.argument("encoder")
@RESULTS
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the trained encoder.")
@click.option("--owner", required=True, help="Of the zoos on the Hub, whose data sets are called OWNER/ZOO.")
@click.option("--source-url", help="Where a reader finds the evaluation.")
def export(encoder: str, results: Path, out: Path, owner: str, source_url: str | None) -> None:
    """Write the results of ENCODER in the Hub's format, as .eval_results/BENCHMARK.yaml beside its weights."""
    from zoo_bench.standings.boards import boards, load
    from zoo_bench.standings.hub import Source
    from zoo_bench.standings.hub import export as write

    source = Source(source_url) if source_url else None
    for path in write(boards(load(results)), encoder, out, owner=owner, source=source):
        click.echo(f"written: {path}")


@main.command()
@RESULTS
@click.option(
    "--zoos", type=click.Path(path_type=Path), default=Path("zoos"), show_default=True, help="Folder of the zoos."
)
def validate(results: Path, zoos: Path) -> None:
    """Check all results: digests, splits, and every score computed again from the stored predictions.

    Zoos that are not there are not needed; true values are compared with those that are.
    """
    from zoo_bench.evaluation.validate import validate as check

    wrong = 0
    for path, problems in check(results, zoos=zoos):
        click.echo(f"{path}: {'right' if not problems else 'WRONG'}")
        for problem in problems:
            click.echo(f"  {problem}", err=True)
        wrong += bool(problems)
    if wrong:
        raise ZooError(f"{wrong} results are wrong; delete them and run zoo-bench run again")
