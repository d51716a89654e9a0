"""Progress of long commands: a bar on terminals and in notebooks, a line a minute in logs, durations in words.

Worker processes say how far they are through small files in a folder, so that a bar moves inside of a shard too.
"""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from tqdm import tqdm

LINE_SECONDS = 60.0  # between two lines in a log
_BAR_SECONDS = 1.0  # between two looks at what worker processes say
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


class Bar(Protocol):
    """What shows how much is done; used in a `with` block."""

    n: float
    total: float | None

    def update(self, n: float = 1) -> object:
        """Count more of what is done."""

    def set_postfix(self, numbers: dict[str, str], *, refresh: bool = True) -> None:
        """Show numbers behind the bar from now on."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


def progress_bar(
    *, label: str, unit: str, total: int | None = None, done: int = 0, shown: bool = True, delay: float = 0.0
) -> Bar:
    """Return a bar to be used in a `with` block; `update(n)` moves it.

    Where there is neither a terminal nor a notebook, a line a minute takes its place, but for bytes.

    Args:
        label: what stands before the bar.
        unit: of what is counted; "B" for bytes, which are then shown as kB, MB, GB.
        total: how many there will be, if that is known.
        done: how many there are already.
        shown: whether there is a bar at all.
        delay: seconds that pass before it is shown.
    """
    options: dict[str, Any] = {"desc": label, "unit": unit, "total": total, "initial": done, "unit_scale": unit == "B"}
    options["delay"] = delay
    bar: Bar
    if "ipykernel" in sys.modules:  # a notebook, whose output is no terminal
        from tqdm.auto import tqdm as notebook_bar

        bar = notebook_bar(**options, disable=not shown)
    elif shown and unit != "B" and not sys.stderr.isatty():
        bar = Lines(label=label, unit=unit, total=total, done=done)
    else:
        bar = tqdm(**options, disable=None if shown else True)
    return bar


class Lines:
    """Writes a line a minute to stderr while its `with` block lasts, and none where that is shorter."""

    def __init__(self, *, label: str, unit: str, total: float | None, done: float) -> None:
        self.n, self.total = done, total
        self._label, self._unit, self._initial, self._numbers = label, unit, done, ""
        self._ended = threading.Event()
        self._began = time.monotonic()

    def update(self, n: float = 1) -> None:
        """Count more of what is done."""
        self.n += n

    def set_postfix(self, numbers: dict[str, str], *, refresh: bool = True) -> None:
        """Show numbers behind the lines from now on."""
        self._numbers = "".join(f", {name} {value}" for name, value in numbers.items())

    def line(self, seconds: float) -> str:
        """Return what is said after so many seconds."""
        count = f"{self.n:,.0f} of {self.total:,.0f} {self._unit}s" if self.total else f"{self.n:,.0f} {self._unit}s"
        text = f"{self._label}: {count} after {duration(seconds)}"
        if self.total and self.n > self._initial:
            left = seconds * (self.total - self.n) / (self.n - self._initial)
            text = f"{text}, {duration(left)} left"
        return text + self._numbers

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        threading.Thread(target=self._write_lines, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()

    def _write_lines(self) -> None:
        while not self._ended.wait(LINE_SECONDS):
            sys.stderr.write(f"{self.line(time.monotonic() - self._began)}\n")
            sys.stderr.flush()


class Watch:
    """Moves a bar by what is complete, and by what worker processes say of the blocks of shards that they are at.

    Args:
        bar: what is moved.
        folder: where workers write, by `reporter`; None: they cannot, as on other machines.
    """

    def __init__(self, bar: Bar, folder: Path | None) -> None:
        self._bar, self._folder = bar, folder
        self._complete = bar.n
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_again_and_again, daemon=True)

    def complete(self, count: int, block: int) -> None:
        """Count models that are complete, of the block whose first shard has this number."""
        if self._folder is not None:
            with suppress(OSError):
                (self._folder / str(block)).unlink()
        self._complete += count
        if self._folder is None:
            self._bar.update(count)

    def __enter__(self) -> Self:
        if self._folder is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._folder is not None:
            self._thread.join()
            self._move(self._complete)

    def _look_again_and_again(self) -> None:
        while not self._ended.wait(_BAR_SECONDS):
            self._move(self._complete + _begun(self._folder) if self._folder is not None else self._complete)

    def _move(self, models: float) -> None:
        if (more := int(models) - self._bar.n) > 0:
            self._bar.update(more)


def reporter(folder: Path, block: int) -> Callable[[float], None]:
    """Return what a worker process calls with how many models' worth of a block of shards is done, for `Watch`."""
    spoken = 0.0

    def report(models: float) -> None:
        nonlocal spoken
        now = time.monotonic()
        if now - spoken > _BAR_SECONDS:
            spoken = now
            with suppress(OSError):  # the run that watched may have ended
                (folder / str(block)).write_text(f"{models:.3f}")

    return report


def _begun(folder: Path) -> float:
    """Return how many models' worth all worker processes say is done in blocks that are not complete."""
    models = 0.0
    for path in folder.iterdir():
        with suppress(OSError, ValueError):  # it was just removed, or is being written
            models += float(path.read_text())
    return models


def duration(seconds: float) -> str:
    """Return seconds in words.

    >>> [duration(seconds) for seconds in (42.3, 125, 4000, 90_000, 532_453)]
    ['42 s', '2 min', '1 h 7 min', '25 h 0 min', '6.2 days']
    """
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    minutes = round(seconds / _MINUTE)
    if seconds < _HOUR:
        return f"{minutes} min"
    if seconds < 2 * _DAY:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{seconds / _DAY:.1f} days"
