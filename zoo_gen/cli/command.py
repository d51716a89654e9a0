"""How the commands of both packages end: what the user can mend is one line and exit code 2."""

import functools
import io
import json
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from zoo_gen.errors import ZooError, missing_package, on_the_command_line
from zoo_gen.files.location import locate, on_disk

PATIENCE = 15.0  # seconds that an interrupted command may take to end by itself
_RESUMES = "zoo_gen.resumes"  # what a context's notes say of the command that runs in it
_SIGNAL = "zoo_gen.signal"  # and of what interrupted it
_KEPT = "; what is complete is kept, the same command resumes"


ENGINE = click.option(
    "--engine",
    type=click.Choice(["local", "dask"]),
    default="local",
    show_default=True,
    help="Processes here, or a Dask cluster.",
)
SCHEDULER = click.option("--scheduler", help="The address of a Dask scheduler, such as tcp://host:8786.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for other programs.")


FOLDER = click.types.FuncParamType(locate)  # on the disk or at a URL
FOLDER.name = "folder"


class OnDisk(click.Path):
    """A path on this machine; a URL, of which pathlib would make a folder here, is refused."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        return super().convert(on_disk(value), param, ctx)


class Resumable(click.Command):
    """A command that resumes when it is called again after an interruption."""


def keeps_nothing() -> None:
    """Note that the command, as it is called now, cannot resume."""
    click.get_current_context().meta[_RESUMES] = False


class Commands(click.Group):
    """A group of commands that turns errors for people into one line on stderr instead of a traceback.

    Args:
        extra: what is named first to somebody who lacks a package.
    """

    def __init__(self, *args: Any, extra: str = "generate", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._extra = extra

    def main(self, *args: Any, **kwargs: Any) -> Any:  # the signature is click's own
        """Run the command line."""
        logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a locale may lack letters of a name: then they are escaped
                stream.reconfigure(errors="backslashreplace")
        if not _has_current_folder():  # where libraries fail in ways of their own
            _end("the current folder is not there any more; expected the command in a folder that is (cd)", 2)
        try:
            with on_the_command_line(), _interruptible():
                return super().main(*args, **kwargs)
        except ZooError as error:
            _end(str(error), 2)
        except ModuleNotFoundError as error:
            line = missing_package(error, extra=self._extra)
            if line is None:
                raise
            _end(line, 2)
        except MemoryError as error:
            _end(f"not enough memory ({str(error) or 'no room for another array'}); expected a smaller size", 2)
        except OSError as error:
            _end(_os_error(error), 2)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command; an interruption says how to resume, where that is possible."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if isinstance(error, BrokenPipeError) and not _resumable(ctx):
                raise  # what reads stdout, as `head` does, has read enough: click ends without a word
            _end(_os_error(error) + _resumable(ctx), 2)
        except click.UsageError as error:  # click's own answer takes four lines
            _end(error.format_message(), 2)
        except KeyboardInterrupt:
            _end(f"interrupted{_resumable(ctx)}", _code(ctx))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the chosen command, and note whether it can resume after an interruption."""
        name, command, rest = super().resolve_command(ctx, args)
        ctx.meta[_RESUMES] = isinstance(command, Resumable)
        return name, command, rest


def _os_error(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}"


def _resumable(ctx: click.Context | None) -> str:
    """Return what is true of an interrupted command."""
    return _KEPT if ctx is not None and ctx.meta.get(_RESUMES) else ""


def _code(ctx: click.Context | None) -> int:
    """Return the exit code of an interrupted command, as shells have it: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + (ctx.meta.get(_SIGNAL, signal.SIGINT) if ctx is not None else signal.SIGINT)


def _has_current_folder() -> bool:
    try:
        return bool(Path.cwd())
    except OSError:
        return False


@contextmanager
def _interruptible() -> Iterator[None]:
    """Treat a request to end like Ctrl-C, once: what ends the workers must not be interrupted by a second one.

    A library may swallow the exception, or wait for processes of its own at the end: then the command is ended here.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # A signal that is ignored from the start, as under nohup, stays so; only the main thread may set handlers.
    main = threading.current_thread() is threading.main_thread()
    heard = {n: signal.getsignal(n) for n in numbers if main and signal.getsignal(n) is not signal.SIG_IGN}

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in heard:
            signal.signal(each, signal.SIG_IGN)
        context = click.get_current_context(silent=True)
        if context is not None:
            context.meta[_SIGNAL] = number
        last_resort = threading.Timer(PATIENCE, _end_at_once, [_resumable(context), _code(context)])
        last_resort.daemon = True
        last_resort.start()
        raise KeyboardInterrupt

    try:
        for number in heard:
            signal.signal(number, interrupt)
        yield
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)


def _end_at_once(resumable: str, code: int) -> None:
    sys.stderr.write(f"interrupted{resumable}\n")
    sys.stderr.flush()
    os._exit(code)


def _end(message: str, code: int) -> None:
    message = " ".join(message.split())  # messages of other libraries may have several lines
    click.echo(f"error: {message}" if code == 2 else message, err=True)
    sys.exit(code)


def gathered(**schemas: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Pass those options of a command that are fields of a dataclass as one argument of the name given here."""

    def decorator(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def wrapper(**options: Any) -> None:
            arguments = {
                name: schema(**{field: options.pop(field) for field in schema.__dataclass_fields__})
                for name, schema in schemas.items()
            }
            command(**options, **arguments)

        return wrapper

    return decorator


def as_text(content: object) -> str:
    """Return plain data as JSON; numbers that are undefined are null.

    >>> print(as_text({"loss": float("nan")}))
    {
      "loss": null
    }
    """
    return json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False)


def _finite(content: object) -> object:
    """Return plain data with None for numbers that are not finite, which JSON does not have."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


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
