"""The commands run and tune of zoo-bench: evaluate encoders, check whether they conform, search for settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from zoo_bench.cli.options import RESULTS, VERBOSE, WORKERS, ZOOS, print_traceback, search_working_folder
from zoo_gen.cli.command import ENGINE, SCHEDULER, OnDisk, Resumable, gathered, keeps_nothing, table
from zoo_gen.errors import ZooError
from zoo_gen.files.location import Folder

if TYPE_CHECKING:
    from zoo_bench.protocol.manifest import BenchmarkManifest
    from zoo_bench.results import Result


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


@click.command(cls=Resumable)
@click.argument("benchmarks", nargs=-1, metavar="[BENCHMARK]...")
@click.option(
    "--encoder",
    "encoders",
    multiple=True,
    help="A name, a group that `zoo-bench list` shows, or package.module:Class; repeatable.  [default: default]",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the encoders; it becomes part of their names; repeatable.",
)
@click.option("--mock", is_flag=True, help="Only check, on tiny zoos and within seconds, whether the encoders conform.")
@ZOOS
@click.option(
    "--missing-zoos",
    type=click.Choice(["refuse", "make", "pull"]),
    default="refuse",
    show_default=True,
    help="What to do about zoos that are not there or not complete; made on a GPU only where --device names one.",
)
@click.option(
    "--zoos-from",
    type=click.Choice(["regenerated", "published"]),
    help="Take the zoos that papers published, or those that are trained here.  [default: what the benchmark says]",
)
@click.option("--owner", help="Whose zoos are pulled: the data sets OWNER/ZOO of the Hub.")
@click.option("--data-root", type=OnDisk(), help="Folder of the images for zoos that are made.")
@RESULTS
@click.option(
    "--on",
    type=click.Choice(["test", "validation"]),
    default="test",
    show_default=True,
    help="Which models are scored. Results on validation models are for choosing settings, and on no leaderboard.",
)
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
    type=OnDisk(file_okay=False),
    help="Folder of checkpoints, from which the same command resumes an interrupted training.  "
    "[default: RESULTS/.trainings]",
)
@WORKERS
@ENGINE
@SCHEDULER
@click.option("--compile/--no-compile", default=True, show_default=True, help="Use torch.compile on a GPU.")
@click.option(
    "--cpu-bfloat16",
    is_flag=True,
    help="Train in bfloat16 on a CPU too, where a GPU would: faster if the CPU has instructions for it.",
)
@VERBOSE
@gathered(missing=MissingZoos, computing=Computing)
def run(
    benchmarks: tuple[str, ...],
    encoders: tuple[str, ...],
    settings: tuple[str, ...],
    mock: bool,
    zoos: Folder,
    missing: MissingZoos,
    results: Path,
    on: Literal["test", "validation"],
    seeds: str,
    rerun: Literal["always", "never", "only-missing"],
    verbose: bool,
    computing: Computing,
) -> None:
    """Evaluate encoders. BENCHMARK is a name that `zoo-bench list` shows, or the path of a TOML file.

    The folder or URL of a zoo is evaluated by the standard protocol: zoo-bench run zoos/mine.
    """
    from zoo_bench.encoders import ENCODERS, encoder_names, make_encoder
    from zoo_bench.encoders.settings import parsed_pairs, split_name, with_settings
    from zoo_bench.encoders.training.runtime import Runtime
    from zoo_bench.evaluation.candidates import check_chosen
    from zoo_bench.evaluation.run import TRAININGS, check_is_folder
    from zoo_bench.evaluation.run import run as run_benchmark
    from zoo_bench.protocol.standard import benchmark_or_zoo

    search_working_folder()
    chosen = encoders or ("default",)
    pairs = parsed_pairs(list(settings))
    for name in encoder_names(chosen) if pairs else ():
        if split_name(name)[0] in ENCODERS:  # else its module is imported in a process of its own
            make_encoder(with_settings(name, pairs))
    if mock:
        keeps_nothing()
        _mock(benchmarks, [with_settings(name, pairs) for name in encoder_names(chosen)], verbose=verbose)
        return
    if not benchmarks:
        raise ZooError("BENCHMARK is missing; expected a name that zoo-bench list shows, the path of a file, or --mock")
    if (computing.engine == "dask") != (computing.scheduler is not None):
        raise ZooError("--engine dask and --scheduler tcp://host:8786 belong together; expected both or neither")
    check_is_folder(results)
    numbers = _seeds(seeds)
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
        if isinstance(places, Folder):
            _get_missing(manifest, places, missing, computing)
    errors = 0
    for manifest, places in chosen_zoos.items():
        names = encoder_names(chosen, protocol=manifest.protocol, targets=manifest.targets)
        try:
            check_chosen(names, chosen, protocol=manifest.protocol)
            for result, is_new in run_benchmark(
                manifest,
                [with_settings(name, pairs) for name in names],
                zoos=places,
                results=results,
                seeds=numbers,
                rerun=rerun,
                on=on,
                runtime=runtime,
                workers=computing.workers,
                scheduler=computing.scheduler,
                tell=print_traceback if verbose else None,
            ):
                _print_result(result, is_new=is_new)
        except ZooError as error:
            if len(chosen_zoos) == 1:
                raise
            click.echo(f"{manifest.name}: {error}", err=True)
            errors += 1
    if errors:
        raise ZooError(f"{errors} of {len(chosen_zoos)} benchmarks have encoders without a result, as said above")


@click.command(cls=Resumable)
@click.argument("encoder")
@click.argument("benchmark")
@click.option(
    "--trials", type=click.IntRange(min=1), required=True, help="The largest number of settings that are tried."
)
@click.option(
    "--range",
    "ranges",
    multiple=True,
    metavar="KEY=VALUES",
    help="KEY=1,2,3 or KEY=LOW..HIGH or 'KEY=LOW..HIGH log'; repeatable.  [default: those that the encoder declares]",
)
@click.option(
    "--search",
    type=click.Choice(["random", "grid"]),
    default="random",
    show_default=True,
    help="How settings are chosen from the ranges.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the random search.")
@click.option(
    "--seeds", default="0", show_default=True, help="Seeds with which each trial is fitted, separated by commas."
)
@ZOOS
@RESULTS
@WORKERS
@click.option("--device", default="auto", show_default=True, help="Where networks train, as for run.")
def tune(
    encoder: str,
    benchmark: str,
    trials: int,
    ranges: tuple[str, ...],
    search: Literal["random", "grid"],
    seed: int,
    seeds: str,
    zoos: Folder,
    results: Path,
    workers: int,
    device: str,
) -> None:
    """Search for the settings of ENCODER that do best on the validation models of BENCHMARK.

    No test model is looked at. What was tried is kept in RESULTS, and stands in the results of the settings it chose.
    """
    import zoo_bench
    from zoo_bench.encoders.settings import parsed_pairs

    search_working_folder()
    tuned = zoo_bench.tune(
        encoder,
        benchmark,
        trials=trials,
        ranges=parsed_pairs(list(ranges)),
        search=search,
        seed=seed,
        seeds=_seeds(seeds),
        zoos=zoos,
        results=results,
        workers=workers,
        device=device,
    )
    rows: list[dict[str, object]] = [
        {
            "trial": trial.encoder,
            "mean rank": "-" if trial.mean_rank is None else f"{trial.mean_rank:.2f}",
            "mean score": "-" if trial.value is None else f"{trial.value:.3f}",
            "seconds": f"{trial.seconds:.1f}",
            "": f"failed: {trial.message}" if trial.message else "",
        }
        for trial in sorted(tuned.tuning.trials, key=lambda trial: (trial.mean_rank is None, trial.mean_rank))
    ]
    click.echo(table(rows))
    click.echo(f"best of {len(rows)} on validation models: {tuned.best}")
    click.echo(f"on test models: zoo-bench run {benchmark} --encoder '{tuned.best}' --results {results}")


def _seeds(text: str) -> list[int]:
    """Return the seeds that an option lists."""
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise ZooError(f"--seeds {text!r}: expected whole numbers separated by commas, such as 0,1,2") from None


def _get_missing(benchmark: "BenchmarkManifest", zoos: Folder, missing: MissingZoos, computing: Computing) -> None:
    from zoo_bench import make_missing_zoos, pull_missing_zoos

    if missing.missing_zoos == "pull":
        names, verb = pull_missing_zoos(benchmark, zoos, owner=missing.owner), "pulled into"
    elif missing.missing_zoos == "make":
        # A zoo has other bytes on a GPU, so that, as by zoo-gen run, it is trained on one only where somebody says so.
        names = make_missing_zoos(
            benchmark,
            zoos,
            data_root=missing.data_root,
            workers=computing.workers if computing.workers > 1 else None,
            device="cpu" if computing.device == "auto" else computing.device,
        )
        verb = "made in"
    else:
        return
    for name in names:
        click.echo(f"{name}: {verb} {zoos / name}")


def _print_result(result: "Result", *, is_new: bool) -> None:
    from zoo_bench.encoders.training.runtime import is_first_process

    if is_first_process():
        state = f"evaluated in {result.seconds:.1f} s" if is_new else "there already"
        where = "" if result.on == "test" else ", on validation models"
        click.echo(f"{result.benchmark}: {result.encoder}, seed {result.seed}{where}: {state}")
        for failure in result.failures:
            click.echo(f"  {failure.name}: failed: {failure.message}", err=True)


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
                    print_traceback(finding.traceback)
                failed += finding.state == "FAILED"
    if failed:
        count = f"{failed} check{'s' if failed > 1 else ''}"
        raise ZooError(f"{count} failed; docs/submissions.md says what is expected of an encoder")
    click.echo("conforms" if len(names) == 1 else "all conform")
