"""Floors: what can be predicted of test models without a weight, which an encoder has to beat to have read anything.

Two predictors: the training models' mean, or their commonest name; and the recipe, which is a probe of the
hyper-parameters that vary, but for the target itself, the seed and the number of an image. Epochs count as no recipe,
as encoders are not told them: every checkpoint of a model is predicted the same.
"""

from collections.abc import Sequence

import numpy as np

from zoo_bench.protocol.parts import Test, models_of, rows_of
from zoo_bench.protocol.protocols import Cell
from zoo_bench.protocol.targets import LOG10, Target
from zoo_bench.results import cell_name
from zoo_bench.results.records import By, TargetPrediction
from zoo_bench.scores import probes
from zoo_bench.scores.metrics import missing
from zoo_gen.zoo import ZooView

BINS = 5  # of a hyper-parameter with more values than that, at quantiles of the training models
_MOST_FEATURES = 512  # with all pairs; without pairs where there would be more


def floors(cell: Cell, chosen: Sequence[Target]) -> list[list[TargetPrediction]]:
    """Return the predictions of the mean, and of the recipe where something varies, of each test of a cell."""
    predicted: list[list[TargetPrediction]] = [[] for _ in cell.tests]
    columns = [name for name in cell.zoo.varying if name not in ("seed", "image")]
    for target in chosen:
        train, validation = (target.of_rows(views) for views in (cell.train, cell.validation))
        if missing(train).all() or missing(validation).all():
            continue
        constant = _middle(train[~missing(train)])
        for number, test in enumerate(cell.tests):
            rows = len(rows_of(test.views)[0])
            predicted[number].append(prediction_of(cell, test, target, "mean", np.full(rows, constant), None))
        columns_read = [name for name in columns if name != target.name.removeprefix(LOG10)]
        able = [n for n, test in enumerate(cell.tests) if all(name in test.zoo.varying for name in columns_read)]
        if not columns_read or not able:
            continue
        values, penalty = _by_recipe(cell, [cell.tests[number] for number in able], target, columns_read)
        for number, of_test in zip(able, values, strict=True):
            predicted[number].append(prediction_of(cell, cell.tests[number], target, "recipe", of_test, penalty))
    return predicted


def _by_recipe(
    cell: Cell, tests: Sequence[Test], target: Target, columns: Sequence[str]
) -> tuple[list[np.ndarray], float | None]:
    """Return what the recipe predicts of the rows of tests (row,) each, and the penalty of the probe."""
    encoded = _Recipes(columns, cell.train)
    embeddings = probes.Embeddings(
        encoded.features(cell.train),
        encoded.features(cell.validation),
        np.concatenate([encoded.features(test.views) for test in tests]),
    )
    labels = probes.Labels(*(_of_models(target, views) for views in (cell.train, cell.validation)))
    prediction = probes.probe(embeddings, {target.name: labels}, kind="standard")[target.name]
    bounds = np.cumsum([len(models_of(test.views)) for test in tests])[:-1]
    of_tests = np.split(prediction.values, bounds)
    return [_repeated(values, test.views) for values, test in zip(of_tests, tests, strict=True)], prediction.penalty


class _Recipes:
    """Hyper-parameters as features: one a value or bin, and one a pair of values of two hyper-parameters."""

    def __init__(self, columns: Sequence[str], train: Sequence[ZooView]) -> None:
        self._columns = columns
        self._values = [_values(name, train) for name in columns]
        self._bins = [self._of(values) for values in self._values]

    def _of(self, values: np.ndarray) -> np.ndarray:
        """Return the values or the edges of bins (bin,) that tell one hyper-parameter's features."""
        known = np.unique(values)
        if values.dtype.kind == "U" or len(known) <= BINS:
            return known
        return np.unique(np.quantile(values, np.arange(1, BINS) / BINS))

    def features(self, views: Sequence[ZooView]) -> np.ndarray:
        """Return the features of the models of views, float32 (model, feature)."""
        single = []
        for name, of_train, bins in zip(self._columns, self._values, self._bins, strict=True):
            values = _values(name, views)
            if of_train.dtype.kind == "U" or len(np.unique(of_train)) <= BINS:
                single.append(values[:, None] == bins)
            else:
                single.append(np.searchsorted(bins, values)[:, None] == np.arange(len(bins) + 1))
        width = sum(each.shape[1] for each in single)
        pairs = []
        if width * (width + 1) // 2 <= _MOST_FEATURES:
            pairs = [
                (one[:, :, None] & other[:, None]).reshape(len(one), -1)
                for place, one in enumerate(single)
                for other in single[:place]
            ]
        return np.concatenate([*single, *pairs], axis=1).astype(np.float32)


def _values(name: str, views: Sequence[ZooView]) -> np.ndarray:
    """Return a hyper-parameter of the models of views (model,): float64, or str."""
    values = np.concatenate([view.hyperparameter(name) for view in views])
    if values.dtype.kind in "biuf":
        return values.astype(np.float64)
    return np.where(values == None, "", values).astype(str)  # noqa: E711 elementwise: a name that is missing is empty


def _of_models(target: Target, views: Sequence[ZooView]) -> np.ndarray:
    """Return a target of each model of views (model,): the mean of its checkpoints, or its commonest name."""
    labels = []
    for view in views:
        for of_model in target.values(view).reshape(len(view.models), -1):
            present = of_model[~missing(of_model)]
            labels.append(_middle(present) if len(present) else of_model[0])
    return np.array(labels)


def _middle(values: np.ndarray) -> float | str:
    """Return the mean of numbers, or the commonest of names."""
    if values.dtype.kind == "f":
        return float(values.mean())
    names, counts = np.unique(values, return_counts=True)
    return str(names[np.argmax(counts)])


def _repeated(values: np.ndarray, views: Sequence[ZooView]) -> np.ndarray:
    """Return values of models (model,) for each of their rows (row,)."""
    return np.repeat(values, np.concatenate([np.full(len(view.models), len(view.checkpoints)) for view in views]))


def prediction_of(
    cell: Cell, test: Test, target: Target, by: By, values: np.ndarray, penalty: float | None
) -> TargetPrediction:
    """Return what is predicted of the rows of a test (row,), beside the truth."""
    models, epochs = rows_of(test.views)
    return TargetPrediction(
        cell=cell_name(cell.zoo.name, test.zoo.name, test.condition),
        target=target.name,
        by=by,
        penalty=penalty,
        models=models,
        epochs=epochs,
        truth=target.of_rows(test.views),
        predicted=values.astype(np.float64 if target.is_number else str),
    )
