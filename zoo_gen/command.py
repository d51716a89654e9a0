"""How the commands of both packages end: what the user can mend is one line and exit code 2."""

import logging
import sys
from typing import Any

import click

from zoo_gen.errors import ZooError


class Commands(click.Group):
    """A group of commands that turns errors for people into one line on stderr instead of a traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:  # the signature is click's own
        """Run the command line."""
        logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
        try:
            return super().main(*args, **kwargs)
        except ZooError as error:
            _end(str(error), 2)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            _end(f"{place}{error.strerror or error}; what is complete is kept, the same command resumes", 2)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command; an interruption says how to go on."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _end("interrupted; what is complete is kept, the same command resumes", 130)


def _end(message: str, code: int) -> None:
    click.echo(f"error: {message}" if code == 2 else message, err=True)
    sys.exit(code)


def table(rows: list[dict[str, object]]) -> str:
    """Return rows as an aligned text table; numbers stand to the right."""
    if not rows:
        return "(none)"
    names = list(rows[0])
    cells = [[f"{row[name]:,}" if isinstance(row[name], int) else str(row[name]) for name in names] for row in rows]
    right = [isinstance(rows[0][name], int | float) for name in names]
    widths = [max(len(name), *(len(line[column]) for line in cells)) for column, name in enumerate(names)]

    def line(texts: list[str]) -> str:
        aligned = (t.rjust(w) if r else t.ljust(w) for t, w, r in zip(texts, widths, right, strict=True))
        return "  ".join(aligned).rstrip()

    return "\n".join([line(names), line(["-" * width for width in widths]), *map(line, cells)])
