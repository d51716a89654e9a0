"""The command encode of zoo-bench: embed the checkpoints of a zoo, and save, load or publish the fitted encoder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from zoo_bench.cli.options import VERBOSE, print_traceback, search_working_folder
from zoo_gen.cli.command import OnDisk
from zoo_gen.errors import ZooError


@click.command()
@click.argument("zoo")
@click.option("--encoder", required=True, help="A name or package.module:Class.")
@click.option("--out", type=OnDisk(), required=True, help="The .npz that is written.")
@click.option("--plot", type=OnDisk(), help="Also draw two principal components, as .png or .pdf.")
@click.option(
    "--load", help="Folder or hf://org/name@revision of a saved encoder, which is used in place of fitting one."
)
@click.option("--save", type=OnDisk(), help="Folder into which the fitted encoder is saved.")
@click.option("--push", metavar="ORG/NAME", help="Model repository of the Hub to which the fitted encoder is pushed.")
@click.option("--tag", default="", help="Tag of the version that --push makes.")
@click.option("--target", default="test_accuracy", show_default=True, help="What a supervised encoder learns.")
@click.option("--seed", default=0, show_default=True, help="Seed of all that is random in fitting.")
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
    from zoo_bench.plots import check_name
    from zoo_gen.files import hub
    from zoo_gen.zoo import open_any

    if out.suffix != ".npz":
        raise ZooError(f"--out {out}: expected a name that ends in .npz")
    if plot:
        check_name(plot, option="--plot ")
    search_working_folder()
    runtime = zoo_bench.Runtime(device=device)
    with _showing_tracebacks(verbose):
        unfitted: Any = Candidate.of(encoder).fresh(runtime)
        for option, method, place in (("--load", "load", load), ("--save", "save", save), ("--push", "save", push)):
            if place and not hasattr(unfitted, method):
                raise ZooError(f"{option}: {encoder} has no {method!r}; expected a neural encoder")
        if push:
            hub.check_repository(push)
        opened = open_any(zoo)
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


@contextmanager
def _showing_tracebacks(verbose: bool) -> Iterator[None]:
    """Print the traceback of an encoder that fails, if it is asked for."""
    from zoo_bench.evaluation.failing import EncoderError

    try:
        yield
    except EncoderError as error:
        if verbose and error.traceback:
            print_traceback(error.traceback)
        raise
