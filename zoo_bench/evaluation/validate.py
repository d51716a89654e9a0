"""Validation of results: digests, splits, and every score computed again from the stored predictions.

Nothing is trained and no encoder is made. What a result says is checked against its own files, against the other
results of its benchmark, against the shipped manifest, and, if they are at hand, against the zoos.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from zoo_bench.evaluation import scoring
from zoo_bench.protocol.manifest import read_benchmark, shipped_benchmarks
from zoo_bench.protocol.protocols import Target, rows_sha256
from zoo_bench.results import CellResult, Result, Score, read_result, records
from zoo_bench.results.records import TargetPrediction
from zoo_gen.errors import ZooError
from zoo_gen.zoo import Zoo, open_zoo

TOLERANCE = 1e-9  # relative; other processors and versions of numpy add in another order


def validate(folder: Path, *, zoos: Path | None = None) -> Iterator[tuple[Path, list[str]]]:
    """Yield every result below a folder with what is wrong with it, nothing if it is right.

    Args:
        folder: of results.
        zoos: a folder of zoos by name; of those that are there, revision, split and true values are compared.

    Raises:
        ZooError: the folder holds no results.
    """
    paths = sorted(folder.glob("*/*/seed-*.json"))
    if not paths:
        raise ZooError(f"{folder}: holds no results; expected BENCHMARK/ENCODER/seed-N.json")
    seen: dict[tuple[str, str], tuple[str, str, Path]] = {}
    for path in paths:
        try:
            result = read_result(path)
            problems = list(_of_content(result, path))
            if not problems:  # a spoilt result is no measure for the others
                problems += _of_others(result, path, seen)
            predictions = records.read_predictions(records.predictions_path(path))
            problems += _of_scores(result, path, predictions)
            problems += _of_zoos(result, predictions, zoos) if zoos else []
        except ZooError as error:
            problems = [str(error)]
        yield path, problems


def _of_content(result: Result, path: Path) -> Iterator[str]:
    """Compare a result with its digests and with the shipped benchmark of its name."""
    if result.content_sha256 != result.sha256:
        own = result.content_sha256
        yield f"sha256: its content has {own[:12]}, it says {result.sha256[:12]}; something was changed"
    for what, file, expected in (
        ("predictions", records.predictions_path(path), result.predictions_sha256),
        ("resamples", records.resamples_path(path), result.resamples_sha256),
    ):
        found = records.file_sha256(file)
        if found != expected:
            yield f"{what}_sha256: {file.name} has {found[:12]}, the result says {expected[:12]}"
    shipped = shipped_benchmarks().get(result.benchmark)
    if shipped and read_benchmark(shipped).digest != result.benchmark_digest:
        yield f"benchmark_digest: is not that of the shipped benchmark {result.benchmark!r}; run it again"


def _of_others(result: Result, path: Path, seen: dict[tuple[str, str], tuple[str, str, Path]]) -> Iterator[str]:
    """Compare revision and split of each zoo with those of the results of the benchmark seen before."""
    for cell in result.cells:
        for used in (cell.source, cell.test):
            revision, split, other = seen.setdefault(
                (result.benchmark, used.zoo), (used.revision, used.split_sha256, path)
            )
            for what, own, expected in (
                ("revision", used.revision, revision),
                ("split_sha256", used.split_sha256, split),
            ):
                if own != expected:
                    place = f"{other.parent.name}/{other.name}"
                    yield f"{cell.name}: {what} of {used.zoo} is {own[:12]}, in {place} {expected[:12]}; expected one"


def _of_scores(result: Result, path: Path, predictions: Sequence[TargetPrediction]) -> Iterator[str]:
    """Compute every score and every resample again from the predictions."""
    stored = {its.key: its.values for its in records.read_resamples(records.resamples_path(path))}
    for cell in result.cells:
        its = [prediction for prediction in predictions if prediction.cell == cell.name]
        if not its:
            yield f"{cell.name}: has no predictions"
            continue
        if any(rows_sha256(one.models, one.epochs) != cell.test_rows_sha256 for one in its):
            yield f"{cell.name}: test_rows_sha256: the predictions are of other test rows"
        scored = scoring.score_cell(its, rank_by=result.rank_by, chance=cell.chance)
        if len(scored) != len(cell.scores):
            yield f"{cell.name}: has {len(cell.scores)} scores; the predictions give {len(scored)}"
        for one, score in zip(scored, cell.scores, strict=False):
            yield from _of_score(cell, score, one.score)
            values = stored.get(one.resampled.key, np.zeros(0))
            if values.shape != one.resampled.values.shape or not _near(values, one.resampled.values):
                yield f"{cell.name}: {score.target}, {score.metric}: its resamples are not those of the predictions"


def _of_score(cell: CellResult, score: Score, expected: Score) -> Iterator[str]:
    for field in Score.model_fields:
        own, right = getattr(score, field), getattr(expected, field)
        same = own == right if own is None or right is None or isinstance(own, str) else _near(own, right)
        if not same:
            yield f"{cell.name}: {score.target}, {score.metric}: {field} is {own}; the predictions give {right}"


def _of_zoos(result: Result, predictions: Sequence[TargetPrediction], folder: Path) -> Iterator[str]:
    """Compare with the zoos that are there: revision, split and the true values."""
    zoos = {cell.test.zoo: cell.test for cell in result.cells} | {cell.source.zoo: cell.source for cell in result.cells}
    opened: dict[str, Zoo] = {name: open_zoo(folder / name) for name in zoos if (folder / name).is_dir()}
    if result.split is not None:
        opened = {name: zoo.with_split(result.split) for name, zoo in opened.items()}
    for name, zoo in opened.items():
        for what, own, expected in (
            ("revision", zoos[name].revision, zoo.revision),
            ("split_sha256", zoos[name].split_sha256, zoo.split_sha256),
        ):
            if own != expected:
                yield f"{what} of {name} is {own[:12]}; {zoo.path} has {expected[:12]}"
    tests = {cell.name: cell.test.zoo for cell in result.cells}
    for its in predictions:
        test = opened.get(tests.get(its.cell, ""))
        if test is not None:
            models, epochs = list(dict.fromkeys(its.models.tolist())), list(dict.fromkeys(its.epochs.tolist()))
            truth = Target(its.target, is_number=its.is_number).values(test.view(models, epochs))
            if not np.array_equal(truth, its.truth):
                yield f"{its.cell}: {its.target}: the true values are not those of {test.path}"


def _near(own: object, right: object) -> bool:
    return bool(
        np.allclose(np.asarray(own, float), np.asarray(right, float), rtol=TOLERANCE, atol=1e-12, equal_nan=True)
    )
