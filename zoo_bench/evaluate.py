"""Evaluating encoders: fit on the training models, encode, probe every target, score the test models."""

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from zoo_bench import metrics, probes, protocols
from zoo_bench.encoders import Encoder, encoder_digest, make_encoder
from zoo_bench.encoders.runtime import Runtime, is_first_process
from zoo_bench.manifest import BenchmarkManifest
from zoo_bench.results import Result, Score, ZooResult, read_result, result_path, write_result
from zoo_gen.errors import ZooError
from zoo_gen.zoo import Zoo, ZooView, open_zoo

Rerun = Literal["always", "never", "only-missing"]


def run(
    benchmark: BenchmarkManifest,
    encoders: list[str],
    *,
    zoos: Path,
    results: Path,
    seeds: list[int],
    rerun: Rerun = "only-missing",
    runtime: Runtime | None = None,
) -> Iterator[tuple[Result, bool]]:
    """Yield the result of every encoder and seed, and whether it was computed now; new ones are written to `results`.

    Args:
        benchmark: what is evaluated.
        encoders: names of encoders, as `make_encoder` takes them.
        zoos: the folder that holds the zoos by name.
        results: the folder of results.
        seeds: one result each.
        rerun: `only-missing` computes what is not there or was made from another encoder, benchmark or zoo;
            `always` computes all; `never` computes nothing that is there, however old.
        runtime: where encoders that train a network compute; without one, on a GPU if there is one.

    Raises:
        ZooError: an encoder or a zoo is not there, or does not fit; an encoder fails; a seed is out of range.
    """
    opened = [_find_zoo(zoos, name) for name in benchmark.zoos]
    # Shared, so that weights are read once for all encoders.
    cells = [protocols.standard_cell(zoo, checkpoints=benchmark.checkpoints) for zoo in opened]
    wrong = [seed for seed in seeds if not 0 <= seed < 2**32]
    if wrong:
        raise ZooError(f"seed {wrong[0]}: expected a whole number from 0 to {2**32 - 1}")
    digests = {name: _digest(name) for name in encoders}
    tasks = list(dict.fromkeys((name, seed) for name in encoders for seed in seeds))
    with tqdm(
        total=len(tasks) * len(opened), desc=benchmark.name, unit="zoo", disable=None if is_first_process() else True
    ) as bar:
        for name, seed in tasks:
            path = result_path(results, benchmark=benchmark.name, encoder=name, seed=seed)
            found = read_result(path) if path.exists() and rerun != "always" else None
            if found and (rerun == "never" or _is_current(found, benchmark, digests[name], opened)):
                bar.update(len(opened))
                yield found, False
                continue
            began = time.monotonic()
            encoder = make_encoder(name, runtime=runtime)
            scored = []
            for cell in cells:
                scored.append(_evaluate(name, encoder, benchmark, cell, seed=seed))
                bar.update()
            result = Result(
                encoder=name,
                encoder_config=encoder.config,
                encoder_digest=digests[name],
                benchmark=benchmark.name,
                benchmark_digest=benchmark.digest,
                protocol=benchmark.protocol,
                seed=seed,
                resamples=metrics.RESAMPLES,
                confidence=metrics.CONFIDENCE,
                zoos=tuple(scored),
                versions={package: version(package) for package in _packages(encoder)},
                seconds=time.monotonic() - began,
            )
            if is_first_process():
                write_result(result, path)
            yield result, True


def _find_zoo(folder: Path, name: str) -> Zoo:
    if not (folder / name).is_dir():
        raise ZooError(f"{folder / name}: no such zoo; make it with: zoo-gen run {name} --out {folder / name}")
    zoo = open_zoo(folder / name)
    if zoo.name != name:
        raise ZooError(f"{folder / name}: holds the zoo {zoo.name!r}; expected {name!r}")
    return zoo


def _packages(encoder: Encoder) -> tuple[str, ...]:
    """Return the packages whose versions a result names: torch only where it computed something."""
    always = ("zoo-gen", "numpy", "scikit-learn")
    return (*always, "torch") if hasattr(encoder, "runtime") else always


def _is_current(result: Result, benchmark: BenchmarkManifest, digest: str, zoos: list[Zoo]) -> bool:
    """Say whether a result was made from exactly this encoder, benchmark and these zoos."""
    revisions = [(zoo.name, zoo.revision, zoo.split_sha256) for zoo in zoos]
    return (
        result.benchmark_digest == benchmark.digest
        and result.encoder_digest == digest
        and [(zoo.zoo, zoo.revision, zoo.split_sha256) for zoo in result.zoos] == revisions
    )


def _evaluate(
    name: str, encoder: Encoder, benchmark: BenchmarkManifest, cell: protocols.Cell, *, seed: int
) -> ZooResult:
    zoo = cell.zoo
    began = time.monotonic()
    with _named(name, "fit"):
        encoder.fit([cell.train], [cell.validation], seed=seed)
    fitted = time.monotonic()
    with _named(name, "encode"):
        embeddings = [encode_view(name, encoder, view) for view in (cell.train, cell.validation, cell.test)]
        dimensions = sorted({part.shape[1] for part in embeddings})
        if len(dimensions) > 1 or dimensions == [0]:
            raise ZooError(
                f"encoder {name!r}: encode returned embeddings of dimensions {dimensions}; expected one, at least 1"
            )
    encoded = time.monotonic()
    features = probes.Features.standardized(*embeddings)
    targets = protocols.targets(benchmark, zoo)
    scores = _score(features, cell, targets, seed=seed) + _score_own(name, encoder, cell, targets, seed=seed)
    return ZooResult(
        zoo=zoo.name,
        digest=zoo.digest,
        revision=zoo.revision,
        split_sha256=zoo.split_sha256,
        checkpoints=len(cell.test.checkpoints),
        train_models=len(cell.train.models),
        validation_models=len(cell.validation.models),
        test_models=len(cell.test.models),
        excluded_models=cell.excluded_models,
        dimension=features.train.shape[1],
        fit_seconds=fitted - began,
        encode_seconds=encoded - fitted,
        probe_seconds=time.monotonic() - encoded,
        scores=tuple(scores),
    )


@contextmanager
def _named(name: str, step: str) -> Iterator[None]:
    """Say of what an encoder raises which encoder, which step and which line it was; its author can mend it."""
    try:
        yield
    except ZooError:
        raise  # says it already
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}, line {last.lineno}"
        raise ZooError(f"encoder {name!r}: {step}: {type(error).__name__}: {error} ({place})") from error


def _digest(name: str) -> str:
    """Return the digest of an encoder, made once to see that it can be."""
    with _named(name, "cannot be used"):
        encoder = make_encoder(name)
        if not isinstance(encoder.config, dict):
            raise ZooError(f"encoder {name!r}: config is {encoder.config!r}; expected a dictionary of plain data")
        return encoder_digest(name, encoder)


def encode_view(name: str, encoder: Encoder, view: ZooView) -> np.ndarray:
    """Return the embeddings of a view, checked: (model x checkpoint, dimension), all finite.

    Raises:
        ZooError: the encoder, called `name` in the message, returned another shape, or numbers that are not finite.
    """
    embeddings = np.asarray(encoder.encode(view))
    rows = len(view.models) * len(view.checkpoints)
    it = f"encoder {name!r}: encode returned"
    if embeddings.ndim != 2 or len(embeddings) != rows:
        raise ZooError(f"{it} shape {embeddings.shape}; expected ({rows}, dimension), a row a checkpoint")
    if embeddings.dtype.kind not in "biuf":
        raise ZooError(f"{it} values of type {embeddings.dtype}; expected real numbers")
    if not np.isfinite(embeddings).all():
        raise ZooError(f"{it} numbers that are not finite; expected finite embeddings of finite weights")
    return embeddings


def _score(
    features: probes.Features, cell: protocols.Cell, targets: list[protocols.Target], *, seed: int
) -> list[Score]:
    """Probe every target and score its predictions on the test models, in the order of the targets."""
    numbers = [target for target in targets if target.is_number]
    predictions: dict[str, probes.Prediction] = {}
    if numbers:
        train, validation = (
            np.column_stack([target.values(view) for target in numbers]) for view in (cell.train, cell.validation)
        )
        found = probes.ridge(features, train, validation)
        predictions = {target.name: prediction for target, prediction in zip(numbers, found, strict=True)}
    for target in targets:
        if not target.is_number:
            predictions[target.name] = probes.logistic(
                features, target.values(cell.train), target.values(cell.validation)
            )
    return [
        score for target in targets for score in _scores(target, predictions[target.name], cell, by="probe", seed=seed)
    ]


def _score_own(
    name: str, encoder: Encoder, cell: protocols.Cell, targets: list[protocols.Target], *, seed: int
) -> list[Score]:
    """Score what a supervised encoder itself predicts of the test models, if its target is one of the benchmark's."""
    predict = getattr(encoder, "predict", None)
    own = [target for target in targets if predict is not None and target.name == encoder.config.get("target")]
    if predict is None or not own:
        return []
    with _named(name, "predict"):
        values = np.asarray(predict(cell.test))
    rows = len(cell.test.models) * len(cell.test.checkpoints)
    if values.shape != (rows,) or not np.isfinite(values).all():
        raise ZooError(
            f"encoder {name!r}: predict returned shape {values.shape} or numbers that are not finite; "
            f"expected ({rows},)"
        )
    return _scores(own[0], probes.Prediction(values, None), cell, by="encoder", seed=seed)


def _scores(
    target: protocols.Target,
    prediction: probes.Prediction,
    cell: protocols.Cell,
    *,
    by: Literal["probe", "encoder"],
    seed: int,
) -> list[Score]:
    """Score one target's predictions on the test models with all its metrics."""
    models = np.repeat(cell.test.models, len(cell.test.checkpoints))
    scores = []
    for metric in target.metrics:
        estimate = metrics.estimate(metric, target.values(cell.test), prediction.values, models, seed=seed)
        defined = np.isfinite(estimate.value)
        scores.append(
            Score(
                target=target.name,
                metric=metric,
                ranks=by == "probe" and metric == target.metrics[0],
                value=estimate.value if defined else None,
                low=estimate.low if defined else None,
                high=estimate.high if defined else None,
                penalty=prediction.penalty,
                by=by,
            )
        )
    return scores
