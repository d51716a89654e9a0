"""What a conversion did with an archive: files read and left out, columns taken as what, and what a reader should know.

It lies in the zoo as conversion.json, written when the zoo is complete.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from zoo_gen.errors import ZooError
from zoo_gen.files.location import Folder
from zoo_gen.files.schema import Schema

CONVERSION = "conversion.json"
Kind = Literal["file", "run", "epoch", "seed", "label", "split", "metric", "hyper-parameter", "state", "dropped"]
_SHOWN = 3  # names of files of one kind that a line shows


class Column(Schema):
    """A column of the archive's table: what it was taken as, its name in the zoo, and why that is not plain to see."""

    name: str
    kind: Kind  # "state": kept in states.parquet alone
    stored: str = ""
    why: str = ""

    def __str__(self) -> str:
        renamed = f" {self.stored}" if self.stored not in ("", self.name) else ""
        return f"{self.name}: {self.kind}{renamed}" + f" ({self.why})" * bool(self.why)


class Conversion(Schema):
    """The report of a conversion.

    >>> from zoo_gen.store.conversion import Column, Conversion
    >>> columns = (Column(name="lr", kind="hyper-parameter", stored="learning_rate"),)
    >>> print(Conversion(read=("models.csv",), ignored={"old.pt": "not named"}, columns=columns))
    read         models.csv
    ignored      old.pt (not named)
    column       lr: hyper-parameter learning_rate
    """

    read: tuple[str, ...]
    ignored: Mapping[str, str] = Field(default_factory=dict)  # file -> why
    columns: tuple[Column, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"read         {_counted(self.read)}"]
        for why in dict.fromkeys(self.ignored.values()):
            files = [name for name in self.ignored if self.ignored[name] == why]
            lines.append(f"ignored      {_counted(files)} ({why})")
        lines += [f"column       {column}" for column in self.columns]
        return "\n".join([*lines, *(f"note         {note}" for note in self.notes)])


def read_conversion(folder: Folder) -> Conversion | None:
    """Return the report of the conversion that made a zoo; None where there is none.

    Raises:
        ZooError: the file is damaged.
    """
    path = folder / CONVERSION
    try:
        return Conversion.model_validate_json(path.read_bytes()) if path.exists() else None
    except (OSError, ValueError) as error:
        raise ZooError(f"{path}: cannot be read as the report of a conversion ({type(error).__name__})") from None


def _counted(names: tuple[str, ...] | list[str]) -> str:
    """Return names in one line: few as they are, many by their endings."""
    if len(names) <= _SHOWN:
        return ", ".join(names) or "nothing"
    kinds = Counter("." + name.rpartition(".")[2] if "." in name.rpartition("/")[2] else "other" for name in names)
    counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(_SHOWN))
    return f"{len(names):,} files ({counts}): {', '.join(names[:_SHOWN])}, ..."
