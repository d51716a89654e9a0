"""What is collected for the report of a conversion while an archive is described and its weights are read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from zoo_gen.published.archives.members import Member
from zoo_gen.store.conversion import Column, Conversion, Kind


class Listing(dict[str, Member]):
    """The members of an archive, which remembers which of them were looked at."""

    def __init__(self, members: Mapping[str, Member]) -> None:
        super().__init__(members)
        self.opened: set[str] = set()

    def __getitem__(self, name: str) -> Member:
        member = super().__getitem__(name)
        self.opened.add(name)
        return member


@dataclass
class Account:
    """Collects what a report says. Threads may add to it: each entry is one operation on a dict or a set."""

    used: set[str] = field(default_factory=set)
    ignored: dict[str, str] = field(default_factory=dict)
    columns: list[Column] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    types: dict[tuple[str, bool], dict[str, None]] = field(default_factory=dict)  # type, whether rounded -> tensors

    def column(self, name: str, kind: Kind, stored: str = "", why: str = "") -> None:
        """Add what a column was taken as."""
        self.columns.append(Column(name=name, kind=kind, stored=stored, why=why))

    def note(self, text: str) -> None:
        """Add what a reader should know, once."""
        self.notes[text] = None

    def tensor(self, name: str, dtype: str, *, rounded: bool) -> None:
        """Add a tensor that was of another type than float32."""
        self.types.setdefault((dtype, rounded), {})[name] = None

    def report(self, members: Iterable[str], opened: set[str], *, unused: str, earlier: Sequence[str]) -> Conversion:
        """Return the report.

        Args:
            members: all files that could have been read.
            opened: those that were looked at.
            unused: why the others were not.
            earlier: notes of a conversion that was interrupted.
        """
        read = opened | self.used
        ignored = {name: unused for name in members if name not in read and name not in self.ignored}
        types = []
        for (dtype, rounded), tensors in sorted(self.types.items()):
            names = ", ".join(list(tensors)[:5]) + f" and {len(tensors) - 5} more" * (len(tensors) > 5)
            became = (
                "rounded to float32" if rounded else "0 and 1 in float32" if dtype == "bool" else "exact in float32"
            )
            types.append(f"tensors of type {dtype} are {became}: {names}")
        return Conversion(
            read=tuple(sorted(read)),
            ignored=dict(sorted((self.ignored | ignored).items(), key=lambda item: (item[1], item[0]))),
            columns=tuple(self.columns),
            notes=tuple(dict.fromkeys([*self.notes, *earlier, *types])),
        )
