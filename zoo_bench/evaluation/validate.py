"""Validation of results: digests, completeness, and every score computed again from the stored predictions.

A result is compared with its own files, with the manifest of its benchmark, with the other results of that benchmark,
and with the zoos that are there. Predictions that were made up cannot be told from honest ones by any of this, so one
encoder's results can also be checked by fitting it again.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from zoo_bench.evaluation import completeness
from zoo_bench.evaluation.candidate import AnyEncoder
from zoo_bench.evaluation.candidates import candidate
from zoo_bench.evaluation.rerun import differences
from zoo_bench.protocol.manifest import BenchmarkManifest, shipped_benchmark
from zoo_bench.protocol.parts import rows_of, views_of
from zoo_bench.protocol.protocols import rows_sha256
from zoo_bench.protocol.targets import Target
from zoo_bench.protocol.zoos import find_zoo, find_zoos, is_there
from zoo_bench.results import (
    CellResult,
    Result,
    Score,
    integrity,
    read_result,
    records,
    result_path,
    result_paths,
    scoring,
)
from zoo_bench.results.records import TargetPrediction
from zoo_bench.results.side_by_side import side_by_side
from zoo_gen.errors import ZooError
from zoo_gen.files.location import Folder, locate, on_disk
from zoo_gen.zoo import AnyZoo

TOLERANCE = 1e-9  # relative; other processors and versions of numpy add in another order


def validate(
    folder: str | Path, *, zoos: str | Folder | None = None, rerun: AnyEncoder | None = None
) -> Iterator[tuple[Path, list[str]]]:
    """Yield every result below a folder with what is wrong with it, an empty list if it is right.

    Args:
        folder: of results.
        zoos: a folder of zoos by name; of those that are there, revision, split, rows and true values are compared.
        rerun: an encoder whose results are checked by fitting it again on a cell of each, drawn at random every time.

    Raises:
        ZooError: the folder holds no results, or none of the encoder that is to be fitted again.

    >>> import zoo_bench
    >>> for path, problems in zoo_bench.validate("results", zoos="zoos"):
    ...     print(path, problems)
    results/tiny_standard/pca/seed-0.json []
    results/tiny_standard/weight_statistics/seed-0.json []
    >>> dict(zoo_bench.validate("results", zoos="zoos", rerun="pca"))[path]
    []
    """
    paths = result_paths(on_disk(folder), validation_too=True)
    results = {path: _read(path) for path in paths}
    whole = {path: result for path, result in results.items() if isinstance(result, Result)}
    again = None if rerun is None else candidate(rerun)
    if again and not any(result.encoder == again.name for result in whole.values()):
        raise ZooError(f"{folder}: holds no results of {again.name!r}, which is to be fitted again")
    seen: dict[tuple[str, str], tuple[str, str, Path]] = {}
    digests: dict[tuple[str, str, str], tuple[str, Path]] = {}
    targets = _targets_of(list(whole.values()))
    seeds: dict[tuple[str, str], set[int]] = defaultdict(set)
    for one in whole.values():
        if one.on == "test":
            seeds[one.benchmark, one.encoder].add(one.seed)
    named = {name: shipped_benchmark(name) for name, _ in seeds}
    shipped = {name: benchmark for name, benchmark in named.items() if benchmark is not None}
    scores = side_by_side(
        lambda path: list(_of_scores(whole[path], path)), list(whole), seed=lambda path: whole[path].seed
    )
    for path, result in results.items():
        if isinstance(result, str):
            yield path, [result]
            continue
        of_scores = next(scores)
        try:
            problems = list(_of_content(result, path, shipped))
            if not problems:  # the others are not compared with a damaged result
                problems += _of_others(result, path, seen)
                problems += _of_seeds(result, path, digests)
            if result.benchmark in shipped and result.on == "test":
                problems += completeness.of_seeds(seeds[result.benchmark, result.encoder])
            problems += of_scores
            problems += _of_benchmark(result, path, targets, None if zoos is None else locate(zoos))
            if again and result.encoder == again.name:
                problems += differences(result, again, zoos=zoos)
        except ZooError as error:
            problems = [str(error)]
        yield path, problems


def _read(path: Path) -> Result | str:
    try:
        return read_result(path)
    except ZooError as error:
        return str(error)


def _targets_of(results: Sequence[Result]) -> Mapping[tuple[str, str], set[str]]:
    """Return the targets that any result has of each benchmark and cell, as probes predict them."""
    targets: dict[tuple[str, str], set[str]] = defaultdict(set)
    for result in results:
        for cell in result.cells:
            targets[result.benchmark, cell.name] |= {score.target for score in cell.scores if score.by == "probe"}
    return targets


def _of_content(result: Result, path: Path, shipped: Mapping[str, BenchmarkManifest]) -> Iterator[str]:
    """Compare a result with its digests, its place and the shipped benchmark of its name."""
    place = result_path(Path(), benchmark=result.benchmark, encoder=result.encoder, seed=result.seed, on=result.on)
    if path.parts[-3:] != place.parts:
        yield f"is the result of {result.encoder}, seed {result.seed}, on {result.on} models; expected at {place}"
    yield from integrity.changes(result, path)
    if result.benchmark in shipped and shipped[result.benchmark].digest != result.benchmark_digest:
        yield f"benchmark_digest: is not that of the shipped benchmark {result.benchmark!r}; run it again"


def _of_others(result: Result, path: Path, seen: dict[tuple[str, str], tuple[str, str, Path]]) -> Iterator[str]:
    """Compare revision and split of each zoo with those of the results of the benchmark seen before."""
    for cell in result.cells:
        for used in (cell.source, cell.test):
            revision, split, other = seen.setdefault(
                (result.benchmark, used.zoo), (used.revision, used.split_sha256, path)
            )
            for what, digest, expected in (
                ("revision", used.revision, revision),
                ("split_sha256", used.split_sha256, split),
            ):
                if digest != expected:
                    where = f"in {other.parent.name}/{other.name} {expected[:12]}"
                    yield f"{cell.name}: {what} of {used.zoo} is {digest[:12]}, {where}; expected one"


def _of_seeds(result: Result, path: Path, digests: dict[tuple[str, str, str], tuple[str, Path]]) -> Iterator[str]:
    """Compare an encoder's digest with that of the seeds seen before: of other settings or code they are no mean."""
    key = result.benchmark, result.encoder, result.on
    digest, other = digests.setdefault(key, (result.encoder_digest, path))
    if result.encoder_digest != digest:
        where = f"in {other.name} {digest[:12]}"
        yield f"encoder_digest: is {result.encoder_digest[:12]}, {where}; expected one for all seeds"


def _of_scores(result: Result, path: Path) -> Iterator[str]:
    """Compute every score and every resample again from the predictions."""
    try:
        predictions = records.read_predictions(path)
    except ZooError as error:
        yield str(error)
        return
    resamples = records.resamples_path(path)
    stored = {row.key: row.values for row in records.read_resamples(resamples)} if resamples.exists() else None
    for cell in result.cells:
        of_cell = [prediction for prediction in predictions if prediction.cell == cell.name]
        if not of_cell:
            yield f"{cell.name}: has no predictions"
            continue
        if any(rows_sha256(target.models, target.epochs) != cell.test_rows_sha256 for target in of_cell):
            yield f"{cell.name}: test_rows_sha256: the predictions are of other test rows"
        scored = scoring.score_cell(of_cell, rank_by=result.rank_by, chance=cell.chance, reading=result.reading)
        if len(scored) != len(cell.scores):
            yield f"{cell.name}: has {len(cell.scores)} scores; the predictions give {len(scored)}"
        for again, score in zip(scored, cell.scores, strict=False):
            yield from _of_score(cell, score, again.score)
            right = again.resampled.values
            values = right if stored is None else stored.get(again.resampled.key, np.zeros(0))
            if values.shape != right.shape or not _near(values, right):
                yield f"{cell.name}: {score.target}, {score.metric}: its resamples are not those of the predictions"


def _of_score(cell: CellResult, score: Score, expected: Score) -> Iterator[str]:
    for field in Score.model_fields:
        value, right = getattr(score, field), getattr(expected, field)
        is_number = not (value is None or right is None or isinstance(value, str))
        if not (_near(value, right) if is_number else value == right):
            yield f"{cell.name}: {score.target}, {score.metric}: {field} is {value}; the predictions give {right}"


def _of_benchmark(
    result: Result,
    path: Path,
    targets: Mapping[tuple[str, str], set[str]],
    folder: Folder | None,
) -> Iterator[str]:
    """Compare a result with the manifest of its benchmark, and with those of its zoos that are there."""
    benchmark = completeness.manifest_of(result)
    has_zoos = folder is not None and all(is_there(folder, name) for name in benchmark.zoos)
    zoos = find_zoos(benchmark, folder) if folder is not None and has_zoos else []
    yield from completeness.of_fields(result, benchmark)
    if zoos:
        yield from completeness.with_zoos(result, benchmark, zoos)
    else:
        yield from completeness.without_zoos(result, benchmark)
        yield from completeness.of_targets(result, targets)
    if folder is not None:
        yield from _of_zoos(result, benchmark, path, folder)


def _of_zoos(result: Result, benchmark: BenchmarkManifest, path: Path, folder: Folder) -> Iterator[str]:
    """Compare with the zoos that are there: revision, split and the true values."""
    zoos = {cell.test.zoo: cell.test for cell in result.cells} | {cell.source.zoo: cell.source for cell in result.cells}
    opened: dict[str, AnyZoo] = {name: find_zoo(folder, name) for name in zoos if is_there(folder, name)}
    if benchmark.split is not None:
        opened = {name: zoo.with_split(benchmark.split) for name, zoo in opened.items()}
    for name, zoo in opened.items():
        for what, digest, expected in (
            ("revision", zoos[name].revision, zoo.revision),
            ("split_sha256", zoos[name].split_sha256, zoo.split_sha256),
        ):
            if digest != expected:
                yield f"{what} of {name} is {digest[:12]}; {zoo.path} has {expected[:12]}"
    tests = {cell.name: cell.test.zoo for cell in result.cells}
    for prediction in records.read_predictions(path) if opened else ():
        test = opened.get(tests.get(prediction.cell, ""))
        if test is not None and not _has_truth(test, prediction):
            yield f"{prediction.cell}: {prediction.target}: the true values are not those of {test.path}"


def _has_truth(zoo: AnyZoo, prediction: TargetPrediction) -> bool:
    """Return whether the true values of a prediction are those of a zoo, missing ones missing in both."""
    known = np.isin(prediction.models, zoo.models["model_id"].to_numpy())
    if not known.all():
        return False
    views = views_of(zoo, np.unique(prediction.models))
    values = Target(prediction.target, is_number=prediction.is_number).of_rows(views)
    rows = {row: place for place, row in enumerate(zip(*map(np.ndarray.tolist, rows_of(views)), strict=True))}
    places = [rows.get(row, -1) for row in zip(prediction.models.tolist(), prediction.epochs.tolist(), strict=True)]
    return -1 not in places and np.array_equal(values[places], prediction.truth, equal_nan=prediction.is_number)


def _near(value: object, right: object) -> bool:
    return bool(
        np.allclose(np.asarray(value, float), np.asarray(right, float), rtol=TOLERANCE, atol=1e-12, equal_nan=True)
    )
