"""What a verification reports, and how it compares: tables cell by cell, accuracies up to two images."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

# An accuracy may differ by two images whose largest logits are equal but for rounding.
IMAGE_TOLERANCE = 2


@dataclass(frozen=True)
class Report:
    """What was looked at, and what is wrong: one line a finding."""

    models: int
    evaluated_checkpoints: int
    findings: tuple[str, ...]
    damaged_shards: tuple[int, ...] = ()  # the shards that findings are about
    notes: tuple[str, ...] = ()  # what is not wrong, but a reader should know

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def __str__(self) -> str:
        count = len(self.findings)
        state = f"{count} finding{'s' if count > 1 else ''}" if count else "sound"
        looked_at = f"{self.models:,} models hashed, {self.evaluated_checkpoints} checkpoints evaluated"
        return "\n".join((*self.findings, *self.notes, f"{looked_at}: {state}"))


def cells(part: pa.Table, expected: pa.Table, *, first_model: int) -> Iterator[str]:
    """Compare two tables cell by cell; floats as text of their exact values, in which NaN equals NaN."""
    for name in expected.column_names:
        stored, derived = ([repr(value) for value in table[name].to_pylist()] for table in (part, expected))
        for row, (one, other) in enumerate(zip(stored, derived, strict=True)):
            if one != other:
                yield f"model {first_model + row}: {name} is {one}; the manifest and the arrays give {other}"
