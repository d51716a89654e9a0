"""zoo-gen: list, plan, run, merge, split and look at zoos; bring those of others, and publish one's own."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo_gen.cli.command import ENGINE, FOLDER, JSON, SCHEDULER, Commands, OnDisk, Resumable, as_text, table
from zoo_gen.cli.published import convert, export, pull, push
from zoo_gen.files.location import Folder

if TYPE_CHECKING:
    from zoo_gen.zoo import Zoo

MANIFEST = click.argument("manifest")
_ROOM = 24  # what `list` has for the names of what varies, with lines of 110 characters
WORKERS = click.option(
    "--workers", type=click.IntRange(min=1), help="Processes; each takes one core.  [default: all cores]"
)
DEVICE = click.option("--device", default="cpu", show_default=True, help="cpu, cuda (all GPUs), cuda:N or cuda:N,M.")
REUSE = click.option(
    "--reuse", type=FOLDER, multiple=True, help="A zoo whose models are copied where they are the same; repeatable."
)
DATA_ROOT = click.option(
    "--data-root",
    type=OnDisk(),
    help="Where image data is.  [default: $ZOO_DATA_ROOT, or zoo_gen/data in the cache folder]",
)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="zoo-gen")
def main() -> None:
    """Train populations of neural networks into zoos, and look at them.

    MANIFEST is the name of a zoo that comes with the package, or the path of a TOML file.
    """


@main.command("list")
@click.option("--published", is_flag=True, help="List the zoos that others published, which `zoo-gen pull` brings.")
@JSON
def list_(published: bool, as_json: bool) -> None:
    """List the zoos that come with the package."""
    if published:
        from zoo_gen.published.sources import registry

        click.echo(as_text(registry.rows()) if as_json else table(registry.rows()))
        return
    from zoo_gen.engine.api import list_zoos
    from zoo_gen.store import Extent

    rows: list[dict[str, object]] = []
    for name, manifest in list_zoos().items():
        extent = Extent.of(manifest)
        rows.append(
            {
                "zoo": name,
                "models": extent.n_models,
                "checkpoints": extent.n_checkpoints,
                "parameters": extent.n_parameters,
                "data": getattr(manifest.data, "dataset", manifest.data.source),
                "varies": manifest.axes.varying if as_json else _briefly(manifest.axes.varying),
            }
        )
    click.echo(as_text(rows) if as_json else table(rows))


def _briefly(names: list[str]) -> str:
    """Return the names of what varies, or how many there are where a line has no room for them."""
    text = ", ".join(names)
    if len(text) <= _ROOM:
        return text
    others = [name for name in names if name != "seed"]
    return f"{len(others)} hyper-parameters{', seed' if len(others) < len(names) else ''}"


@main.command()
@MANIFEST
@WORKERS
@DEVICE
@REUSE
def plan(manifest: str, workers: int | None, device: str, reuse: tuple[Folder, ...]) -> None:
    """Print what a zoo would cost: numbers by counting, seconds from timed steps. Writes nothing, reads no images."""
    from zoo_gen.engine import api
    from zoo_gen.engine.comparison import diff as compare

    planned = api.plan(manifest, workers=workers, device=device, reuse=reuse)
    for other in reuse:
        for difference in compare(other, planned.manifest).differences:
            click.echo(f"{other!s}: {difference}")
    for lines in (planned.counts, planned.durations):  # the second takes some seconds
        for title, text in lines().items():
            click.echo(f"{title:12} {text}")


@main.command(cls=Resumable)
@MANIFEST
@click.option("--out", type=FOLDER, help="The folder of the zoo, or its URL.  [default: zoos/NAME]")
@WORKERS
@DEVICE
@DATA_ROOT
@click.option("--repair", is_flag=True, help="First look for damaged files, and make exactly those again.")
@REUSE
@click.option("--grow", is_flag=True, help="Replace the zoo of another manifest in this folder, reusing its models.")
@click.option("--part", default="1/1", help="As i/n: train only the i-th of n parts of the shards, for array jobs.")
@click.option(
    "--save-every",
    "save_seconds",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Time between saves of what is trained: an interruption loses that, and at most one epoch.  [default: 120]",
)
@ENGINE
@SCHEDULER
def run(
    manifest: str,
    out: Folder | None,
    workers: int | None,
    device: str,
    data_root: Path | None,
    repair: bool,
    reuse: tuple[Folder, ...],
    grow: bool,
    part: str,
    save_seconds: float | None,
    engine: str,
    scheduler: str | None,
) -> None:
    """Train the models that a zoo still lacks. Run it again after an interruption: it resumes."""
    from zoo_gen.engine import run as train
    from zoo_gen.errors import ZooError
    from zoo_gen.manifest import find_manifest, read_manifest
    from zoo_gen.store.unfinished import SAVE_SECONDS

    if engine == "dask" and scheduler is None:
        raise ZooError("--engine dask: expected --scheduler too, such as tcp://host:8786")
    if engine == "local" and scheduler is not None:
        raise ZooError("--scheduler: expected --engine dask too")
    number, _, parts = part.partition("/")
    if not (number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
        raise ZooError(f"--part {part!r}: expected i/n with i from 1 to n, such as 3/16")
    whole = read_manifest(find_manifest(manifest), data_root=data_root)
    name = whole.name
    folder = out or Path("zoos") / name
    summary = train(
        whole,
        folder,
        workers=workers,
        device=device,
        data_root=data_root,
        repair=repair,
        reuse=reuse,
        grow=grow,
        part=(int(number), int(parts)),
        scheduler=scheduler,
        save_seconds=SAVE_SECONDS if save_seconds is None else save_seconds,
    )
    state = "complete" if int(parts) == 1 else f"part {part} complete"
    if not summary.trained_shards:
        click.echo(f"{name}: {state} in {folder}, nothing to train")
        return
    rate = summary.trained_models / summary.seconds
    lost = f", {summary.diverged_models:,} diverged" if summary.diverged_models else ""
    copied = f", {summary.copied_models:,} copied" if summary.copied_models else ""
    click.echo(
        f"{name}: trained {summary.trained_models:,} models in {summary.seconds:.1f} s ({rate:.1f} models/s{lost})"
        f"{copied}; {state} in {folder}"
    )


@main.command(cls=Resumable)
@click.argument("zoos", nargs=-1, required=True, type=FOLDER)
@click.option("-o", "--out", required=True, type=FOLDER, help="The folder of the new zoo, or its URL.")
@click.option("--name", help="Name of the new zoo.  [default: that of its folder]")
def merge(zoos: tuple[Folder, ...], out: Folder, name: str | None) -> None:
    """Write the models of several zoos as one zoo. Nothing is trained.

    Where the grids of the zoos are parts of one grid, it has the bytes of the zoo of that grid made at once.
    """
    from zoo_gen.engine import merge as merging

    zoo = merging.merge(zoos, out, name=name)
    click.echo(f"{zoo.name}: {zoo.extent.n_models:,} models of {len(zoos)} zoos in {out}")


@main.command(cls=Resumable)
@click.argument("zoo", type=FOLDER)
@click.option("-o", "--out", required=True, type=FOLDER, help="The folder of the new zoo, or its URL.")
@click.option("--rest", type=FOLDER, help="The folder of a zoo of all other models.")
@click.option("--where", multiple=True, metavar="KEY=VALUE,...", help="Models with these values; repeatable.")
@click.option("--share", type=float, help="In place of --where: a share of the models, such as 0.5.")
@click.option("--seed", default=0, show_default=True, help="Seed by which a share is drawn.")
def split(
    zoo: Folder, out: Folder, rest: Folder | None, where: tuple[str, ...], share: float | None, seed: int
) -> None:
    """Write some models of a zoo as another zoo. Nothing is trained."""
    from zoo_gen.engine import merge as merging
    from zoo_gen.errors import ZooError
    from zoo_gen.store import Store

    if bool(where) == (share is not None):
        raise ZooError("split: expected either --where or --share")
    whole = Store.open(zoo).extent.n_models
    conditions = merging.parsed_where(where) if where else None
    part = merging.split(zoo, out, where=conditions, share=share, seed=seed, rest=rest)
    click.echo(f"{part.name}: {part.extent.n_models:,} of {whole:,} models in {out}")
    if rest is not None:
        click.echo(f"{rest.name}: {whole - part.extent.n_models:,} of {whole:,} models in {rest}")


@main.command()
@click.argument("first")
@click.argument("second")
def diff(first: str, second: str) -> None:
    """Print which keys of two manifests or zoos differ, and whether models of one can be reused in the other.

    FIRST and SECOND are folders of zoos, paths of TOML files, or names of zoos that come with the package.
    """
    from zoo_gen.engine.comparison import diff as compare

    if text := str(compare(first, second)):
        click.echo(text)


@main.command()
@click.argument("zoo", type=FOLDER)
@click.option("--plots", type=OnDisk(), help="Also write pictures of the zoo into this folder.")
@JSON
def info(zoo: Folder, plots: Path | None, as_json: bool) -> None:
    """Print what a zoo holds."""
    from zoo_gen.zoo import open_zoo

    opened = open_zoo(zoo)
    if as_json:
        click.echo(as_text(opened.described()))
        if plots:
            _draw(opened, plots, err=True)
        return
    click.echo(f"{opened.name}: {opened.manifest.description}".removesuffix(": "))
    for title, text in opened.facts().items():
        click.echo(f"  {title:15} {text}")
    click.echo(f"  {opened.outcome().sentence(width=60)}")
    if plots:
        _draw(opened, plots)


def _draw(zoo: "Zoo", folder: Path, *, err: bool = False) -> None:
    from zoo_gen.zoo import plots

    for path in plots.write_plots(zoo, folder):
        click.echo(f"  written: {path}", err=err)


@main.command()
@click.argument("zoo", type=FOLDER)
@click.option("--sample", type=click.IntRange(min=0), default=20, show_default=True, help="Checkpoints to evaluate.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed by which they are drawn.")
@DATA_ROOT
def verify(zoo: Folder, sample: int, seed: int, data_root: Path | None) -> None:
    """Check every byte of a zoo, and evaluate a sample of its checkpoints again. Exit code 1 if anything is wrong."""
    from zoo_gen.zoo.verify import verify as check

    report = check(zoo, sample=sample, seed=seed, data_root=data_root)
    *lines, outcome = str(report).splitlines()
    for line in (*lines, f"{zoo}: {outcome}"):
        click.echo(line)
    if not report.sound:
        raise SystemExit(1)


for command in (convert, export, pull, push):
    main.add_command(command)
