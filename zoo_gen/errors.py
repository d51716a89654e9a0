"""The one exception that reaches a person, and the words for a name that does not exist."""

import traceback
from collections.abc import Iterable
from difflib import get_close_matches


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


_SHOWN = 20  # names that still read as one line


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> str:
    """Return the line that answers an unknown name: the nearest valid one, then all of them, or the nearest of many."""
    names = sorted(valid)
    nearest = get_close_matches(str(name), names, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    rest = ""
    if len(names) > _SHOWN:
        shown = get_close_matches(str(name), names, n=5, cutoff=0.0)
        rest = f" and {len(names) - len(shown)} more"
        names = sorted(shown)
    return f"unknown {kind} {str(name)!r}; {hint}valid: {', '.join(names) or '(none)'}{rest}"


def one_line(error: BaseException) -> str:
    """Return what another library's error says, on one line of at most 300 characters."""
    text = " ".join(str(error).split())
    line = text if isinstance(error, ZooError) else f"{type(error).__name__}: {text}" if text else type(error).__name__
    return line if len(line) <= 300 else f"{line[:297]}..."
