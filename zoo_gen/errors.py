"""The one exception that reaches a person, and the words for arguments, unknown names, numbers and missing packages."""

import shlex
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from numbers import Integral, Real


class ZooError(Exception):
    """Something the user can mend: one line that says what is wrong, where, and what was expected.

    A notebook shows that line alone; with `ZooError.show_traceback = True` it shows Python's traceback too.
    """

    show_traceback = False

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows in place of a traceback."""
        if self.show_traceback:
            return "".join(traceback.format_exception(self)).splitlines()
        return [f"{type(self).__name__}: {self}"]


@contextmanager
def resumes() -> Iterator[None]:
    """Add to an OSError inside, as of a full disk, what Python does not say: that the same call goes on from there."""
    try:
        yield
    except OSError as error:
        if _GOES_ON not in getattr(error, "__notes__", []):
            error.add_note(_GOES_ON)
        raise


_GOES_ON = "what is complete is kept; the same call resumes"
_commands: list[bool] = []  # an entry for each that runs here, in any thread: its user knows options, no arguments


@contextmanager
def on_the_command_line() -> Iterator[None]:
    """Say of arguments in messages how a command takes them, for as long as one runs in this process."""
    _commands.append(True)
    try:
        yield
    finally:
        _commands.pop()


def either(*, command: str, python: str) -> str:
    """Return the words of a message for whoever reads it: the user of a command, or of a function in Python.

    >>> either(command="zoo-gen list", python="zoo_gen.list_zoos()")
    'zoo_gen.list_zoos()'
    """
    return command if _commands else python


def argument(name: str, value: object = None) -> str:
    """Return an argument as its reader writes it: `--name value` for a command, `name=value` in Python.

    Args:
        name: of the argument in Python, of which the option's is made.
        value: of it; True is an option without a value, None stands for the name alone.

    >>> argument("data_root"), argument("grow", True), argument("classes", 3)
    ('data_root', 'grow=True', 'classes=3')
    """
    option = f"--{name.replace('_', '-')}"
    return either(
        command=option if value is None or value is True else f"{option} {shlex.quote(str(value))}",
        python=name if value is None else f"{name}={value!r}",
    )


def shown(value: object) -> str:
    """Return what somebody gave in place of something else, on one line of at most 100 characters.

    >>> shown("a" * 200)[-4:]
    "...'"
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else f"{text[:96]}...{text[-1]}"


def check_list(name: str, value: object, *, of: str) -> None:
    """Refuse an argument that is no list: a text would stand for its letters, and a number for nothing.

    Raises:
        ZooError: it is none.

    >>> check_list("reuse", ["zoos/tiny"], of="zoos")
    """
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise ZooError(f"{name}: got {shown(value)}; expected a list of {of}")


def check_number(name: str, value: object, *, least: int, whole: bool = True) -> None:
    """Refuse an argument that is no number, or too small a one, as commands refuse the option of its name.

    Raises:
        ZooError: it is.

    >>> check_number("workers", 4, least=1)
    """
    if not isinstance(value, Integral if whole else Real) or not float(value) >= least:
        raise ZooError(f"{name} is {shown(value)}; expected a {'whole ' if whole else ''}number, at least {least}")


_SHOWN = 20  # names that stand beside the nearest one
_LISTED = 40  # names that are listed where none is near


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> str:
    """Return the line that answers an unknown name: the nearest valid one, and the others where a line has the room.

    >>> unknown_name("optimizer", "adm", ["adam", "sgd"])
    "unknown optimizer 'adm'; did you mean 'adam'? valid: adam, sgd"
    """
    names = sorted(set(valid))
    nearest = get_close_matches(str(name), names, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    shown = names
    if len(names) > (_SHOWN if nearest else _LISTED):
        shown = nearest or sorted(get_close_matches(str(name), names, n=5, cutoff=0.0))
    rest = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    return f"unknown {kind} {str(name)!r}; {hint}valid: {', '.join(shown) or '(none)'}{rest}"


def one_line(error: BaseException) -> str:
    """Return what another library's error says, on one line of at most 300 characters."""
    text = " ".join(str(error).split())
    line = text if isinstance(error, ZooError) else f"{type(error).__name__}: {text}" if text else type(error).__name__
    return line if len(line) <= 300 else f"{line[:297]}..."


# The extras that bring what we import beside the base; a test holds them against pyproject.toml.
EXTRAS = {
    "PIL": ("generate",),
    "cloudpickle": ("bench",),
    "dask": ("cluster",),
    "datasets": ("generate",),
    "distributed": ("cluster",),
    "filelock": ("convert",),
    "fsspec": ("remote", "hub"),
    "h5py": ("convert",),
    "huggingface_hub": ("hub",),
    "jinja2": ("bench",),
    "joblib": ("generate", "bench"),
    "llvmlite": ("generate",),
    "matplotlib": ("plots", "hub"),
    "onnx": ("onnx",),
    "onnxscript": ("onnx",),
    "pandas": ("bench",),
    "s3fs": ("remote",),
    "safetensors": ("bench", "convert"),
    "scipy": ("generate", "bench"),
    "sklearn": ("generate", "bench"),
    "threadpoolctl": ("bench",),
    "torch": ("generate", "bench", "convert", "onnx"),
    "torchvision": ("generate",),
    "zarrs": ("zarrs",),
}


def missing_package(error: ModuleNotFoundError, *, extra: str) -> str | None:
    """Return the line about a package of one of our extras that is not installed; None of any other module.

    Args:
        error: of the import.
        extra: which of several extras with that package is named.
    """
    module = (error.name or "").partition(".")[0]
    extras = EXTRAS.get(module)
    if extras is None:
        return None
    return f"{module} is not installed; expected: pip install 'zoo-gen[{extra if extra in extras else extras[0]}]'"


@contextmanager
def needing(what: str, *, extra: str) -> Iterator[None]:
    """Turn an import inside that finds no package into a line that names the extra.

    Args:
        what: begins the line: what needs the package.
        extra: as for `missing_package`.

    Raises:
        ZooError: a package of our extras is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        line = missing_package(error, extra=extra)
        if line is None:
            raise
        raise ZooError(f"{what}: {line}") from None
