"""zoo-bench: the commands list, run, encode, leaderboard, export and validate, over the functions of zoo_bench."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from zoo_gen.cli.command import Commands, Resumable, gathered, keeps_nothing, table
from zoo_gen.errors import ZooError

if TYPE_CHECKING:
    from zoo_bench.protocol.manifest import BenchmarkManifest
    from zoo_bench.results import Result

RESULTS = click.option(
    "--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Folder of results."
)
ZOOS = click.option(
    "--zoos", type=click.Path(path_type=Path), default=Path("zoos"), show_default=True, help="Folder of the zoos."
)
VERBOSE = click.option("-v", "--verbose", is_flag=True, help="Print the whole traceback of an encoder that fails.")


@dataclass(frozen=True)
class MissingZoos:
    """What to do about zoos that are not there."""

    missing_zoos: Literal["refuse", "make", "pull"]
    zoos_from: Literal["regenerated", "published"] | None
    owner: str | None
    data_root: Path | None


@dataclass(frozen=True)
class Computing:
    """Where encoders are fitted, and by how many processes."""

    device: str
    checkpoints: Path | None
    workers: int
    engine: Literal["local", "dask"]
    scheduler: str | None
    compile: bool
    cpu_bfloat16: bool


@dataclass(frozen=True)
class LeaderboardFiles:
    """The files that a leaderboard is also written to."""

    html: Path | None
    markdown: Path | None
    parquet: Path | None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="zoo-gen")
def main() -> None:
    """Evaluate encoders of neural-network weights on zoos, and rank them."""


@main.command("list")
def list_() -> None:
    """List the benchmarks and encoders that come with the package."""
    import zoo_bench

    rows: list[dict[str, object]] = [
        {
            "benchmark": name,
            "protocol": benchmark.protocol,
            "zoos": ", ".join(benchmark.zoos) if len(benchmark.zoos) <= 3 else f"{len(benchmark.zoos)} zoos",
            "targets": ", ".join(benchmark.targets),
        }
        for name, benchmark in zoo_bench.list_benchmarks().items()
    ]
    click.echo(table(rows))
    click.echo()
    encoders = zoo_bench.list_encoders()
    click.echo(table([{"encoder": name, "groups": ", ".join(groups)} for name, groups in encoders.items()]))


@main.command(cls=Resumable)
@click.argument("benchmarks", nargs=-1, metavar="[BENCHMARK]...")
@click.option(
    "--encoder",
    "encoders",
    multiple=True,
    help="A name, a group that `zoo-bench list` shows, or package.module:Class; repeatable.  [default: default]",
)
@click.option("--mock", is_flag=True, help="Only check, on tiny zoos and within seconds, whether the encoders conform.")
@ZOOS
@click.option(
    "--missing-zoos",
    type=click.Choice(["refuse", "make", "pull"]),
    default="refuse",
    show_default=True,
    help="What to do about zoos that are not there or not complete.",
)
@click.option(
    "--zoos-from",
    type=click.Choice(["regenerated", "published"]),
    help="Take the zoos as they were published, or those that are trained here.  [default: what the benchmark says]",
)
@click.option("--owner", help="Of zoos that are pulled: the data sets OWNER/ZOO of the Hub.")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of the images for zoos that are made.")
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
    "--device",
    default="auto",
    show_default=True,
    help="Where networks train: auto (a GPU if there is one), cpu, cuda, or some GPUs: cuda:0,2.",
)
@click.option(
    "--checkpoints",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of checkpoints, from which the same command resumes an interrupted training.  "
    "[default: RESULTS/.trainings]",
)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes, a cell each.")
@click.option("--engine", type=click.Choice(["local", "dask"]), default="local", show_default=True)
@click.option("--scheduler", help="The address of a Dask scheduler, such as tcp://host:8786.")
@click.option("--compile/--no-compile", default=True, show_default=True, help="Use torch.compile on a GPU.")
@click.option(
    "--cpu-bfloat16",
    is_flag=True,
    help="On a CPU, train in bfloat16 what does so on a GPU: faster on a CPU that has instructions for it.",
)
@VERBOSE
@gathered(missing=MissingZoos, computing=Computing)
def run(
    benchmarks: tuple[str, ...],
    encoders: tuple[str, ...],
    mock: bool,
    zoos: Path,
    missing: MissingZoos,
    results: Path,
    seeds: str,
    rerun: Literal["always", "never", "only-missing"],
    verbose: bool,
    computing: Computing,
) -> None:
    """Evaluate encoders. BENCHMARK is a name that `zoo-bench list` shows, or the path of a TOML file.

    The folder or URL of a zoo is evaluated by the standard protocol: zoo-bench run zoos/mine.
    """
    from zoo_bench.encoders import encoder_names
    from zoo_bench.encoders.training.runtime import Runtime
    from zoo_bench.evaluation.run import TRAININGS
    from zoo_bench.evaluation.run import run as run_benchmark
    from zoo_bench.protocol.standard import benchmark_or_zoo

    _search_working_folder()
    chosen = encoders or ("default",)
    if mock:
        keeps_nothing()
        _mock(benchmarks, encoder_names(chosen), verbose=verbose)
        return
    if not benchmarks:
        raise ZooError("BENCHMARK is missing; expected a name that zoo-bench list shows, the path of a file, or --mock")
    if (computing.engine == "dask") != (computing.scheduler is not None):
        raise ZooError("--engine dask and --scheduler tcp://host:8786 belong together; expected both or neither")
    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise ZooError(f"--seeds {seeds!r}: expected whole numbers separated by commas, such as 0,1,2") from None
    chosen_zoos = {}
    for benchmark in benchmarks:
        manifest, places = benchmark_or_zoo(benchmark, zoos)
        chosen_zoos[manifest.with_zoos_from(missing.zoos_from or manifest.zoos_from)] = places
    runtime = Runtime(
        device=computing.device,
        checkpoints=computing.checkpoints or results / TRAININGS,
        compile=computing.compile,
        cpu_bfloat16=computing.cpu_bfloat16,
    )
    if runtime.device != "auto":
        runtime.torch_device()  # a device that is not there is an error now, not after the baselines
    for manifest, places in chosen_zoos.items():
        if isinstance(places, Path):
            _get_missing(manifest, places, missing, workers=computing.workers)
    errors = 0
    for manifest, places in chosen_zoos.items():
        try:
            for result, is_new in run_benchmark(
                manifest,
                encoder_names(chosen, protocol=manifest.protocol),
                zoos=places,
                results=results,
                seeds=numbers,
                rerun=rerun,
                runtime=runtime,
                workers=computing.workers,
                scheduler=computing.scheduler,
                tell=_print_traceback if verbose else None,
            ):
                _print_result(result, is_new=is_new)
        except ZooError as error:
            if len(chosen_zoos) == 1:
                raise
            click.echo(f"{manifest.name}: {error}", err=True)
            errors += 1
    if errors:
        raise ZooError(f"{errors} of {len(chosen_zoos)} benchmarks have encoders without a result, as said above")


def _get_missing(benchmark: "BenchmarkManifest", zoos: Path, missing: MissingZoos, *, workers: int) -> None:
    from zoo_bench import make_missing_zoos, pull_missing_zoos

    if missing.missing_zoos == "pull":
        names, verb = pull_missing_zoos(benchmark, zoos, owner=missing.owner), "pulled into"
    elif missing.missing_zoos == "make":
        processes = workers if workers > 1 else None
        names, verb = make_missing_zoos(benchmark, zoos, data_root=missing.data_root, workers=processes), "made in"
    else:
        return
    for name in names:
        click.echo(f"{name}: {verb} {zoos / name}")


def _print_result(result: "Result", *, is_new: bool) -> None:
    from zoo_bench.encoders.training.runtime import is_first_process

    if is_first_process():
        state = f"evaluated in {result.seconds:.1f} s" if is_new else "there already"
        click.echo(f"{result.benchmark}: {result.encoder}, seed {result.seed}: {state}")
        for failure in result.failures:
            click.echo(f"  {failure.name}: failed: {failure.message}", err=True)


def _search_working_folder() -> None:
    """Look for modules in the working folder too, where a user's encoder often lies; an installed command does not."""
    sys.path.append(str(Path.cwd()))


@contextmanager
def _showing_tracebacks(verbose: bool) -> Iterator[None]:
    """Print the traceback of an encoder that fails, if it is asked for."""
    from zoo_bench.evaluation.failing import EncoderError

    try:
        yield
    except EncoderError as error:
        if verbose and error.traceback:
            _print_traceback(error.traceback)
        raise


def _print_traceback(traceback: str) -> None:
    click.echo(traceback.rstrip(), err=True)


def _mock(benchmarks: Sequence[str], names: list[str], *, verbose: bool) -> None:
    """Check encoders on tiny zoos and print what each check found."""
    from tempfile import TemporaryDirectory

    from zoo_bench.evaluation.mock import check, make_zoos

    if benchmarks:
        raise ZooError(f"--mock: takes no benchmark, got {benchmarks[0]}; it makes its own tiny zoos")
    failed = 0
    with TemporaryDirectory(prefix="zoo-bench-mock-") as folder:
        zoos = make_zoos(Path(folder))
        for name in names:
            click.echo(f"{name}:")
            for finding in check(name, zoos):
                click.echo(f"  {finding}")
                if verbose and finding.traceback:
                    _print_traceback(finding.traceback)
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
@click.option("--target", default="test_accuracy", show_default=True, help="What a supervised encoder learns.")
@click.option("--seed", default=0, show_default=True, help="Of all that is random in fitting.")
@click.option("--device", default="auto", show_default=True, help="Where networks compute: auto, cpu or cuda.")
@VERBOSE
def encode(
    zoo: str,
    encoder: str,
    out: Path,
    plot: Path | None,
    load: str | None,
    save: Path | None,
    push: str | None,
    tag: str,
    target: str,
    seed: int,
    device: str,
    verbose: bool,
) -> None:
    """Embed every checkpoint of a zoo with an encoder fitted to its training models.

    ZOO is its folder or URL. The file holds arrays of one length: model, checkpoint, epoch, split, embedding, and
    prediction if the encoder is supervised.
    """
    import zoo_bench
    from zoo_bench.encoders import exchange
    from zoo_bench.evaluation.candidate import Candidate
    from zoo_bench.plots import FORMATS
    from zoo_gen.files import hub
    from zoo_gen.zoo import open_zoo

    if out.suffix != ".npz":
        raise ZooError(f"--out {out}: expected a name that ends in .npz")
    if plot and plot.suffix not in FORMATS:
        raise ZooError(f"--plot {plot}: expected a name that ends in .png, .pdf or .svg")
    _search_working_folder()
    runtime = zoo_bench.Runtime(device=device)
    with _showing_tracebacks(verbose):
        unfitted: Any = Candidate.of(encoder).fresh(runtime)
        for option, method, given in (("--load", "load", load), ("--save", "save", save), ("--push", "save", push)):
            if given and not hasattr(unfitted, method):
                raise ZooError(f"{option}: {encoder} has no {method!r}; expected a neural encoder")
        if push:
            hub.check_repository(push)
        opened = open_zoo(zoo)
        if load:
            fitted = exchange.load_encoder(unfitted, load, name=encoder)
        else:
            fitted = zoo_bench.fit(encoder, opened, target=target, seed=seed, device=runtime)
        if save:
            fitted.save(save)
        if push:
            fitted_to = "" if load else f"{opened.name}, revision {opened.revision[:12]}"
            pushed = exchange.push_encoder(fitted, push, name=encoder, tag=tag, fitted_to=fitted_to)
            click.echo(f"pushed: hf://{push} is {pushed.url} at {pushed.commit[:12]}")
        embeddings = zoo_bench.encode(fitted, opened)
    embeddings.save(out)
    rows, dimension = embeddings.embedding.shape
    click.echo(f"written: {out}, {rows:,} checkpoints x {dimension:,} dimensions")
    if plot:
        zoo_bench.plot_embeddings(embeddings, opened, plot, title=f"{opened.name}: embeddings of {encoder}")
        click.echo(f"written: {plot}")


@main.command()
@click.option(
    "--results",
    "folders",
    type=click.Path(path_type=Path),
    multiple=True,
    default=[Path("results")],
    show_default=True,
    help="Folder of results; repeatable.",
)
@click.option("--benchmark", "benchmarks", multiple=True, help="Only these benchmarks; repeatable.")
@click.option("--encoder", "encoders", multiple=True, help="Only these encoders; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print standings, scores and failures as JSON.")
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), help="Also write the leaderboard as one HTML page."
)
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Also write it as Markdown.")
@click.option("--parquet", type=click.Path(dir_okay=False, path_type=Path), help="Also write every score as a table.")
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
    for problem in problems[:-1]:
        click.echo(f"error: {problem}", err=True)
    if problems:
        raise problems[-1]


@main.command()
@click.argument("encoder")
@RESULTS
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the trained encoder.")
@click.option("--owner", required=True, help="Of the zoos on the Hub, whose data sets are called OWNER/ZOO.")
@click.option("--source-url", help="Where a reader finds the evaluation.")
def export(encoder: str, results: Path, out: Path, owner: str, source_url: str | None) -> None:
    """Write the results of ENCODER in the Hub's format, as .eval_results/BENCHMARK.yaml beside its weights."""
    import zoo_bench

    for path in zoo_bench.leaderboard(results).export(encoder, out, owner=owner, source_url=source_url):
        click.echo(f"written: {path}")


@main.command()
@RESULTS
@ZOOS
@click.option(
    "--rerun", metavar="ENCODER", help="Also fit this encoder again, on a cell of each of its results drawn at random."
)
def validate(results: Path, zoos: Path, rerun: str | None) -> None:
    """Check all results: digests, completeness, and every score computed again from the stored predictions.

    Zoos that are not there are not needed; rows and true values are compared with those that are.
    """
    import zoo_bench

    sys.path.append(str(Path.cwd()))  # where a user's encoder often lies
    wrong = 0
    for path, problems in zoo_bench.validate(results, zoos=zoos, rerun=rerun):
        click.echo(f"{path}: {'right' if not problems else 'WRONG'}")
        for problem in problems:
            click.echo(f"  {problem}", err=True)
        wrong += bool(problems)
    if wrong:
        raise ZooError(f"{wrong} results are wrong or not whole, as said above; run zoo-bench run again")
