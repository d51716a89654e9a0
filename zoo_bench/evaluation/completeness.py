"""Whether a result is whole: every cell and target of its benchmark's manifest, and every seed that the rules ask for.

A cell that failed counts as there, since it stays on the page as failed and comes last. With the zoos at hand the
cells, their rows and their targets are known exactly; without them, as far as the manifest alone tells.
"""

from collections.abc import Iterator, Mapping, Sequence, Set

import pydantic

from zoo_bench.protocol import protocols
from zoo_bench.protocol.manifest import BenchmarkManifest
from zoo_bench.protocol.parts import rows_of
from zoo_bench.protocol.protocols import rows_sha256
from zoo_bench.protocol.targets import targets
from zoo_bench.results import Result, cell_name
from zoo_bench.results.scoring import FLOORS
from zoo_gen.errors import ZooError, either
from zoo_gen.zoo import AnyZoo

SEEDS = 3  # that a row of a shared page has at least, from 0: rule 3 of docs/submissions.md
_MOST_SEEDS = 100  # that are looked through for gaps
_SEVERAL = ("test_class_f1", "hyperparameters")  # targets that stand for others, which the zoo alone knows


def manifest_of(result: Result) -> BenchmarkManifest:
    """Return the manifest of a result's benchmark, as the result holds it.

    Raises:
        ZooError: it is no manifest, or not the one whose digest the result has.
    """
    try:
        benchmark = BenchmarkManifest.model_validate({**result.manifest, "description": ""})
    except pydantic.ValidationError as error:
        raise ZooError(f"manifest: is not that of a benchmark ({error.errors()[0]['msg']}); run it again") from None
    if benchmark.digest != result.benchmark_digest:
        raise ZooError(
            f"manifest: has the digest {benchmark.digest[:12]}, the result says {result.benchmark_digest[:12]}"
        )
    return benchmark


def of_fields(result: Result, benchmark: BenchmarkManifest) -> Iterator[str]:
    """Compare what a result says of its benchmark with the manifest."""
    for field in ("protocol", "rank_by", "reading", "probe", "split"):
        value, expected = getattr(result, field), getattr(benchmark, field)
        if value != expected:
            yield f"{field}: is {value!r}; the benchmark's manifest says {expected!r}"


def of_seeds(seeds: Set[int]) -> Iterator[str]:
    """Compare the seeds of one encoder on a shipped benchmark with those of the rules: from 0 on, none left out."""
    last = max(SEEDS, min(max(seeds) + 1, _MOST_SEEDS))
    missing = sorted(set(range(last)) - seeds)
    if missing:
        yield (
            f"seeds: there are {', '.join(map(str, sorted(seeds)))}, and not {', '.join(map(str, missing))}; "
            "a shipped benchmark needs 0, 1, 2 and all that follow up to the last: run it with "
            + either(command="--seeds 0,1,2", python="seeds=[0, 1, 2]")
        )


def with_zoos(result: Result, benchmark: BenchmarkManifest, zoos: Sequence[AnyZoo]) -> Iterator[str]:
    """Compare cells, their rows and their targets with those of the benchmark on its zoos."""
    evaluated = {cell.name: cell for cell in result.cells}
    failed = {(failure.name, failure.target) for failure in result.failures}
    expected: set[str] = set()
    for cell in protocols.cells(benchmark, list(zoos), on=result.on):
        of_source = {target.name for target in targets(benchmark, cell.zoo)}
        for test in cell.tests:
            name = cell_name(cell.zoo.name, test.zoo.name, test.condition)
            expected.add(name)
            if name not in evaluated:
                if (name, "") not in failed:
                    yield f"{name}: is missing; expected every cell of {benchmark.name}"
                continue
            if evaluated[name].test_rows_sha256 != rows_sha256(*rows_of(test.views)):
                yield f"{name}: test_rows_sha256: is not that of the benchmark's test rows"
            expected_targets = of_source & {target.name for target in targets(benchmark, test.zoo)}
            scored = {score.target for score in evaluated[name].scores if score.by == "probe"}
            for target in sorted(expected_targets - scored):
                if (name, target) not in failed:
                    yield f"{name}: {target}: is missing; expected every target of {benchmark.name}"
    for name in sorted(set(evaluated) - expected):
        yield f"{name}: is no cell of {benchmark.name}"


def without_zoos(result: Result, benchmark: BenchmarkManifest) -> Iterator[str]:
    """Compare cells and targets with the manifest alone."""
    cells = [(cell.source.zoo, cell.test.zoo, cell.condition) for cell in result.cells]
    cells += [(failure.source, failure.test, failure.condition) for failure in result.failures if not failure.target]
    for source, test, conditions in _expected(benchmark):
        count = len({condition for *zoos, condition in cells if zoos == [source, test]})
        if count < conditions:
            yield (
                f"{cell_name(source, test, '')}: has {count} of {conditions} cells; "
                f"expected every cell of {benchmark.name}"
            )
    if benchmark.protocol == "cross_architecture":  # which zoos are of one architecture, they alone know
        for source in benchmark.sources or benchmark.zoos:
            if all(source != other for other, *_ in cells):
                yield f"{source}: trains in no cell; expected every cell of {benchmark.name}"
    for cell in result.cells:
        reported = {score.target for score in cell.scores if score.by not in FLOORS}
        reported |= {failure.target for failure in result.failures if failure.name == cell.name}
        for target in benchmark.targets:
            if target not in (*reported, *_SEVERAL):
                yield f"{cell.name}: {target}: is missing; expected every target of {benchmark.name}"


def of_targets(result: Result, known: Mapping[tuple[str, str], Set[str]]) -> Iterator[str]:
    """Compare the targets of each cell with those that any result of the benchmark has there."""
    for cell in result.cells:
        reported = {score.target for score in cell.scores if score.by not in FLOORS}
        reported |= {failure.target for failure in result.failures if failure.name == cell.name}
        for target in sorted(known[result.benchmark, cell.name] - reported):
            yield f"{cell.name}: {target}: is missing; other results of {result.benchmark} have it"


def _expected(benchmark: BenchmarkManifest) -> list[tuple[str, str, int]]:
    """Return sources and tests of the cells that a manifest alone determines, and how many conditions each has."""
    fixed = {
        "data_efficiency": len(benchmark.shares),
        "accuracy_thresholds": len(benchmark.thresholds),
        "unseen_epochs": 2,
        "robustness": 2,  # which changes a zoo's models can undergo it alone knows: as trained, and reordered at least
    }
    conditions = fixed.get(benchmark.protocol, 1)
    return [(source, test, conditions) for source, test in benchmark.pairs or ()]
