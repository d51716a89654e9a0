"""What several commands of zoo-bench share: their options, the search for a user's encoder, and its tracebacks."""

import sys
from pathlib import Path

import click

from zoo_gen.cli.command import FOLDER, OnDisk

RESULTS = click.option(
    "--results", type=OnDisk(), default=Path("results"), show_default=True, help="Folder of results."
)
ZOOS = click.option(
    "--zoos", type=FOLDER, default=Path("zoos"), show_default=True, help="Folder of the zoos, or its URL."
)
WORKERS = click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes; each evaluates one cell at a time.",
)
VERBOSE = click.option("-v", "--verbose", is_flag=True, help="Print the whole traceback of an encoder that fails.")


def search_working_folder() -> None:
    """Look for modules in the working folder too, where a user's encoder often lies; an installed command does not."""
    sys.path.append(str(Path.cwd()))


def print_traceback(traceback: str) -> None:
    """Print the traceback of an encoder that failed."""
    click.echo(traceback.rstrip(), err=True)
