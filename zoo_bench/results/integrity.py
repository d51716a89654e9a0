"""Whether a result and the tables beside it are as they were written, by the digests that the result holds.

Whoever reads scores asks this first: a row that somebody took out of a table would change no score that is shown.
"""

from collections.abc import Iterator
from pathlib import Path

from zoo_bench.results import records
from zoo_bench.results.results import Result


def changes(result: Result, path: Path) -> Iterator[str]:
    """Yield what was changed in a result or the tables beside it, a line a digest that differs or a table gone.

    Args:
        result: as it was read.
        path: of its JSON file.

    Raises:
        ZooError: the predictions are not there.
    """
    if result.content_sha256 != result.sha256:
        yield (
            f"sha256: the content has {result.content_sha256[:12]}, the result says {result.sha256[:12]}; "
            "something was changed"
        )
    floors = records.floors_path(path)
    if not floors.exists() and any(score.by in records.FLOORS for cell in result.cells for score in cell.scores):
        yield f"{floors.name} is not there"
    files = [("predictions", records.predictions_path(path), result.predictions_sha256)]
    if records.resamples_path(path).exists():  # results that are shipped come without
        files.append(("resamples", records.resamples_path(path), result.resamples_sha256))
    for what, file, expected in files:
        digest = records.file_sha256(file)
        if digest != expected:
            yield f"{what}_sha256: {file.name} has {digest[:12]}, the result says {expected[:12]}"
