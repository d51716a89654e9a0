"""The commands of zoo-gen that exchange zoos with others: convert, export, pull and push."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from zoo_gen.cli.command import FOLDER, OnDisk, Resumable
from zoo_gen.errors import ZooError
from zoo_gen.files.location import Folder

if TYPE_CHECKING:
    from zoo_gen.zoo import Zoo


def _numbers(context: click.Context, option: click.Parameter, text: str | None) -> list[int] | None:
    """Return the whole numbers of a text such as "0,20-60,86"; None of an option that is not given."""
    numbers: list[int] = []
    for piece in [] if text is None else text.split(","):
        low, dash, high = piece.strip().partition("-")
        if not low.isdecimal() or (dash and not (high.isdecimal() and int(low) <= int(high))):
            raise ZooError(f"{option.opts[0]} {text!r}: expected whole numbers and ranges, such as 0,20-60,86")
        numbers += range(int(low), int(high if dash else low) + 1)
    return None if text is None else numbers


EPOCHS = click.option("--epochs", callback=_numbers, help="Only these checkpoints, such as 0,20-60,86.")
MODELS = click.option("--models", callback=_numbers, help="Only these models by number, such as 0-99.")
SPLITS = click.option(
    "--split", "splits", multiple=True, metavar="NAME=FILE", help="A split file of the paper; repeatable."
)


@click.command(cls=Resumable)
@click.argument("archive", type=OnDisk())
@click.option("--format", "format_", required=True, metavar="FORMAT", help="How the archive is laid out; see below.")
@click.option("--out", type=FOLDER, help="The folder of the zoo, or its URL.  [default: zoos/NAME]")
@click.option("--name", help="Name of the zoo.  [default: the archive's]")
@EPOCHS
@MODELS
@SPLITS
@click.option(
    "--data", help="The images that the models were trained on, such as fashion_mnist, where the archive does not say."
)
@click.option(
    "--table", metavar="FILE", help="With --format folder: the CSV that names the files, where there are several."
)
@click.option(
    "--accuracies", type=click.Choice(["percent", "fraction"]), help="The unit of accuracies, where some are above 1."
)
@click.option("--classes", type=int, help="With --format folder: the number of classes.")
@click.option(
    "--architecture",
    metavar="FILE",
    help="With --format folder: the network, as a TOML file or the name of an architecture.",
)
@click.option(
    "--licence", help="The licence under which the zoo may be passed on, by the Hub's name for it, such as mit."
)
@click.option(
    "--cache",
    type=OnDisk(),
    help="Where a compressed tar is expanded if --out is a URL.  [default: $ZOO_CACHE_ROOT, or zoo_gen/published "
    "in the cache folder]",
)
def convert(
    archive: Path,
    format_: str,
    out: Folder | None,
    name: str | None,
    epochs: list[int] | None,
    models: list[int] | None,
    splits: tuple[str, ...],
    data: str | None,
    table: str | None,
    accuracies: Literal["percent", "fraction"] | None,
    classes: int | None,
    architecture: str | None,
    licence: str | None,
    cache: Path | None,
) -> None:
    """Convert a published zoo that is on the disk: a folder, zip or tar (also compressed). Runs nothing in it.

    \b
    FORMAT is one of
      small_cnn_zoo, model_zoos, hyper_representations, cnn_wild_park, nws, dwsnets, nfn,
      small_transformer_zoo, neural_field_arena, folder
    """
    from zoo_gen import published

    zoo = published.convert(
        archive,
        out,
        format=format_,
        name=name,
        epochs=epochs,
        models=models,
        splits=_split_files(splits),
        data=data,
        table=table,
        accuracies=accuracies,
        classes=classes,
        architecture=architecture,
        licence=licence,
        cache=cache,
    )
    if zoo.conversion is not None:
        click.echo(zoo.conversion)
    click.echo(_complete(zoo))


@click.command()
@click.argument("zoo", type=FOLDER)
@click.option("--out", type=OnDisk(), required=True, help="A folder that does not exist yet.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["pt", "safetensors", "onnx"]),
    default="safetensors",
    show_default=True,
    help="pt and safetensors hold the state_dict, onnx the network.",
)
@MODELS
@click.option("--epochs", callback=_numbers, help="These checkpoints, such as 0,20-60,86.  [default: the last]")
def export(zoo: Folder, out: Path, format_: str, models: list[int] | None, epochs: list[int] | None) -> None:
    """Write models as files, one a checkpoint, and models.csv with what is known of each."""
    from zoo_gen.zoo import export as writing
    from zoo_gen.zoo import open_zoo

    paths = writing.export(open_zoo(zoo), out, format=format_, models=models, epochs=epochs)
    click.echo(f"{out}: {len(paths):,} file{'s' if len(paths) != 1 else ''} and {writing.TABLE}")


@click.command(cls=Resumable)
@click.argument("name")
@click.option("--out", type=FOLDER, help="The folder of the zoo, or its URL.  [default: zoos/NAME]")
@click.option("--name", "zoo_name", help="Name of the zoo here.  [default: that of its population and _published]")
@EPOCHS
@MODELS
@SPLITS
@click.option("--file", help="A pattern for the name of the archive, where a publication has several.")
@click.option(
    "--cache",
    type=OnDisk(),
    help="Where archives are kept.  [default: $ZOO_CACHE_ROOT, or zoo_gen/published in the cache folder]",
)
@click.option("--download-only", is_flag=True, help="Only download the archive into the cache, and print its path.")
@click.option("--dry-run", is_flag=True, help="Print what would be downloaded, and download nothing.")
def pull(
    name: str,
    out: Folder | None,
    zoo_name: str | None,
    epochs: list[int] | None,
    models: list[int] | None,
    splits: tuple[str, ...],
    file: str | None,
    cache: Path | None,
    download_only: bool,
    dry_run: bool,
) -> None:
    """Download a zoo that others published, and convert it. Run it again after an interruption: it resumes.

    NAME is what `zoo-gen list --published` shows, or hf://org/zoo@revision.
    """
    from zoo_gen.published import pull as downloads

    if dry_run:
        for title, line in downloads.plan_pull(name, file=file, cache=cache).items():
            click.echo(f"{title:12} {line}")
        return
    if download_only:
        click.echo(downloads.download(name, file=file, cache=cache))
        return
    zoo = downloads.pull(
        name,
        out,
        zoo_name=zoo_name,
        epochs=epochs,
        models=models,
        file=file,
        splits=_split_files(splits),
        cache=cache,
    )
    click.echo(_complete(zoo))


@click.command(cls=Resumable)
@click.argument("zoo", type=FOLDER)
@click.argument("repository")
@click.option("--licence", help="The licence, by the Hub's name for it.  [default: cc-by-4.0, or its publisher's]")
@click.option("--tag", help="The tag of this version.  [default: made from the zoo's revision]")
@click.option("--private", is_flag=True, help="If the repository does not exist yet, make it private.")
@click.option("--replace", is_flag=True, help="Replace the other zoo that the repository holds, in one commit.")
@click.option("--dry-run", is_flag=True, help="Print what would be sent, and send nothing.")
def push(
    zoo: Folder, repository: str, licence: str | None, tag: str | None, private: bool, replace: bool, dry_run: bool
) -> None:
    """Publish a complete zoo on the Hugging Face Hub, as REPOSITORY (org/name). Run it again after an interruption.

    The zoo gets the card and the picture that the Hub shows; a token comes from HF_TOKEN or `hf auth login`.
    """
    from zoo_gen.published import push

    ready = push.plan_push(zoo, repository, licence=licence, tag=tag)
    if dry_run:
        largest = max(ready.files, key=lambda path: ready.files[path])
        lines = {
            "to": f"hf://{ready.repository}@{ready.tag}",
            "licence": ready.licence,
            "files": f"{len(ready.files):,}, the largest {largest} of {ready.files[largest]:,} bytes",
            "bytes": f"{ready.bytes:,}",
            "commits": f"{ready.commits:,}",
        }
        for title, line in lines.items():
            click.echo(f"{title:12} {line}")
        return
    pushed = push.publish(ready, private=private, replace=replace)
    state = "pushed" if pushed.changed else "was there already"
    click.echo(f"{zoo}: {state}; hf://{repository}@{pushed.tag} is {pushed.url} at {pushed.commit[:12]}")


def _complete(zoo: "Zoo") -> str:
    return f"{zoo.name}: {len(zoo.models):,} models, {len(zoo.epochs)} checkpoints; complete in {zoo.path}"


def _split_files(texts: tuple[str, ...]) -> dict[str, Path]:
    """Return the split files of texts such as "nfn=cifar10_split.csv"."""
    wrong = [text for text in texts if not text.partition("=")[2]]
    if wrong:
        raise ZooError(f"--split {wrong[0]!r}: expected NAME=FILE, such as nfn=cifar10_split.csv")
    return {text.partition("=")[0]: Path(text.partition("=")[2]) for text in texts}
