"""What an encoder's failure is turned into: one line that names the encoder, the step and the line of its own code.

The line is the deepest one in the encoder's own file: where numpy or torch noticed the mistake tells an author nothing.
The whole traceback goes along for those who ask for it.
"""

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, TracebackType
from typing import Any

from zoo_bench.evaluation.interactive import codes
from zoo_bench.protocol.views import LabelsWithheldError
from zoo_gen.errors import ZooError, one_line

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class EncoderError(ZooError):
    """An encoder's failure.

    Attributes:
        traceback: of its own code, empty where there is none.
        asked_for_labels: whether it failed because it asked for labels of validation models.
    """

    def __init__(self, message: str, *, traceback: str = "", asked_for_labels: bool = False) -> None:
        super().__init__(message)
        self.traceback, self.asked_for_labels = traceback, asked_for_labels


@contextmanager
def named(name: str, step: str, *, encoder: Any = None) -> Iterator[None]:
    """Turn what an encoder raises into an EncoderError; an encoder that ends its process (sys.exit) raises too.

    Args:
        name: of the encoder.
        step: what it was doing, such as "fit".
        encoder: whose file is looked for in the traceback; without one, the last line outside of libraries counts.
    """
    try:
        yield
    except EncoderError:
        raise  # says it already
    except (Exception, SystemExit) as error:
        # Of an error that says what to do, the one that it was raised from has the line, if there is one.
        raised = error.__cause__ if isinstance(error, ZooError) else error
        place = _place(raised.__traceback__, encoder) if raised is not None else ""
        text = "".join(traceback.format_exception(error))
        encoder_named = f"encoder {name!r}: "
        line = one_line(error)
        line = line if line.startswith(encoder_named) else f"{encoder_named}{step}: {line}"
        raise EncoderError(f"{line}{place}", traceback=text, asked_for_labels=_asked_for_labels(error)) from error


def _asked_for_labels(error: BaseException | None) -> bool:
    """Say whether an error, or one that it came from, is that labels of validation models were asked for."""
    while error is not None and not isinstance(error, LabelsWithheldError):
        error = error.__cause__ or error.__context__
    return error is not None


def _place(trace: TracebackType | None, encoder: Any) -> str:
    """Return file and line of the deepest frame of the encoder's own code."""
    frames = traceback.extract_tb(trace)
    files = _files(encoder)
    in_encoder = [frame for frame in frames if frame.filename in files]
    foreign = [frame for frame in frames if not _is_of_a_library(frame.filename)]
    chosen = (in_encoder or foreign)[-1:]
    return "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in chosen)


def _files(encoder: Any) -> set[str]:
    """Return the files in which the class of an encoder and those it inherits from are defined, libraries' left out."""
    kind = encoder if isinstance(encoder, type) else type(encoder)
    files = set()
    for source in (getattr(encoder, "source", None), *kind.__mro__):
        if isinstance(source, type | FunctionType):
            files |= {code.co_filename for code in codes(source)}
    return {file for file in files if not _is_of_a_library(file)}


def _is_of_a_library(file: str) -> bool:
    return file.startswith(("<frozen", *_LIBRARIES)) or Path(__file__).parents[1] in Path(file).parents
