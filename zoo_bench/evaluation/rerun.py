"""One cell of a result, fitted and scored again: the check that predictions are what the encoder really predicts.

The cell is drawn by the operating system's entropy each time, so that nobody knows which one will be looked at.
"""

import secrets
from collections.abc import Iterator

from threadpoolctl import threadpool_limits

from zoo_bench.evaluation import completeness
from zoo_bench.evaluation.candidate import Candidate
from zoo_bench.evaluation.cell import evaluate_cell
from zoo_bench.protocol import protocols
from zoo_bench.protocol.zoos import find_zoos
from zoo_bench.results import Result, cell_name
from zoo_bench.results.scoring import FLOORS
from zoo_gen.errors import ZooError
from zoo_gen.files.location import Folder

TOLERANCE = 1e-3  # of a score and of 1: other processors add in another order, and training amplifies it


def differences(result: Result, candidate: Candidate, *, zoos: str | Folder | None) -> Iterator[str]:
    """Fit an encoder again on a cell of one of its results, and yield how the scores differ, beyond rounding.

    Raises:
        ZooError: the zoos are not there, or the encoder fails.
    """
    if zoos is None:
        raise ZooError("an encoder can be fitted again only where the zoos are; expected their folder")
    if candidate.digest != result.encoder_digest:
        yield (
            f"encoder_digest: is {result.encoder_digest[:12]}; the encoder that is here has {candidate.digest[:12]}, "
            "so that other scores may be its"
        )
    benchmark = completeness.manifest_of(result)
    stored = {cell.name: cell for cell in result.cells}
    cells = [
        cell
        for cell in protocols.cells(benchmark, find_zoos(benchmark, zoos), on=result.on)
        if any(cell_name(cell.zoo.name, test.zoo.name, test.condition) in stored for test in cell.tests)
    ]
    if not cells:
        raise ZooError(f"{benchmark.name}: none of its cells on these zoos is in the result")
    with threadpool_limits(limits=1, user_api="blas"):  # as zoo-bench run computes
        outcome = evaluate_cell(candidate, benchmark, secrets.choice(cells), seed=result.seed)
    for again in outcome.record.results:
        if again.name not in stored:
            yield f"{again.name}: is missing; fitting again gives it"
            continue
        scores = {(score.target, score.metric, score.by): score.value for score in stored[again.name].scores}
        for score in again.scores:
            value = scores.get((score.target, score.metric, score.by))
            if score.by in FLOORS and (score.target, score.metric, score.by) not in scores:
                continue  # of a result that was made before floors were
            if not _near(value, score.value):
                yield (
                    f"{again.name}: {score.target}, {score.metric} by the {score.by}: is {value}; "
                    f"fitting again gives {score.value}"
                )


def _near(value: float | None, again: float | None) -> bool:
    if value is None or again is None:
        return value is again
    return abs(value - again) <= TOLERANCE * (1 + abs(again))
