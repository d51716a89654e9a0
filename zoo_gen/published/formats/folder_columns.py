"""The columns of a folder's table: which are metrics and which hyper-parameters, by their names and their cells.

What varies within a run is no hyper-parameter: as numbers it becomes a metric, else it stays in the table of states.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zoo_gen.errors import ZooError, argument
from zoo_gen.published import accuracies, columns
from zoo_gen.published.account import Account
from zoo_gen.published.accuracies import Unit
from zoo_gen.published.formats import cells, networks
from zoo_gen.published.formats.tables import Sheet, first_of_groups
from zoo_gen.store.conversion import Kind

_PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test", "running": "running"}
_PARTS |= dict.fromkeys(("val", "valid", "validation"), "validation")
_MEASURED = {"accuracy": "accuracy", "acc": "accuracy", "loss": "loss"}
# What else is measured, by the last word of a name.
_OTHERS = {"f1", "auc", "auroc", "nll", "mse", "mae", "rmse", "r2", "ppl", "perplexity", "error", "err", "iou", "top5"}
_OTHERS |= {"gap", "kappa", "mcc", "bleu", "ece", "brier", "map", "psnr", "ssim", *_MEASURED}
_UNITS = {"percent", "pct", "top1", "1", "top", "mean", "avg", "best", "final", "last"}  # words that say no more
_PERCENT = re.compile(r"%|\bper ?cent\b|(\b|_)(percent|pct)(\b|_)", re.IGNORECASE)  # a name that says the unit
_GAPS = ("generalization_gap", "generalisation_gap", "ggap")
_OURS = {"lr": "learning_rate", "wd": "weight_decay", "nlin": "activation", "random_seed": "seed", "rng_seed": "seed"}
_LABELS = ("label", "class", "target")


@dataclass
class Sorted:
    """What the columns of a table are."""

    metrics: dict[str, np.ndarray] = field(default_factory=dict)  # name in the zoo -> float64 (row,)
    hyperparameters: dict[str, pa.Array] = field(default_factory=dict)  # name in the zoo -> (model,)


@dataclass(frozen=True)
class _Column:
    """One column before it has its name in the zoo."""

    kind: Kind
    name: str  # asked for in the zoo
    values: np.ndarray | pa.Array
    why: str


def sort_out(
    sheet: Sheet, names: Sequence[str], *, model: np.ndarray, n_models: int, unit: Unit | None, account: Account
) -> Sorted:
    """Return the metrics and hyper-parameters among the columns of a table, and note what each was taken as.

    Args:
        sheet: the table.
        names: its columns that nothing else is known of.
        model: int64 (row,), the run of each row.
        n_models: the number of runs.
        unit: what accuracies are, if the caller knows.
        account: where it is noted.
    """
    by_name: dict[str, _Column] = {}
    for name in names:
        column = _column(sheet, name, model=model, n_models=n_models, unit=unit)
        if column.kind in ("state", "dropped"):
            account.column(name, column.kind, why=column.why)
        else:
            by_name[name] = column
    ours = columns.distinct({name: column.name for name, column in by_name.items()})
    sorted_out = Sorted()
    for name, column in by_name.items():
        account.column(name, column.kind, ours[name], column.why)
        if isinstance(column.values, np.ndarray):
            sorted_out.metrics[ours[name]] = column.values
        else:
            sorted_out.hyperparameters[ours[name]] = column.values
    return sorted_out


def _column(sheet: Sheet, name: str, *, model: np.ndarray, n_models: int, unit: Unit | None) -> _Column:
    values, how = sheet.values[name].combine_chunks(), sheet.how.get(name, "")
    if values.null_count == len(values):
        return _Column("dropped", name, values, "it is empty")
    metric, is_plain = _metric(name)
    is_number = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    if metric and (is_number or (is_plain and not (metric == "loss" and _has_no_number(sheet, name)))):
        return _measured(sheet, name, metric, how=how, unit=unit)
    first, is_one, is_filled = _of_runs(values, model, n_models)
    if is_one:
        ours = columns.as_name(_OURS.get(_plain_name(name), name))
        kind: Kind = "seed" if ours == "seed" else "label" if _plain_name(name) in _LABELS else "hyper-parameter"
        taken = values.take(first)
        if ours == "activation" and pa.types.is_string(taken.type):
            taken = pa.array([networks.activation(each) for each in taken.to_pylist()], pa.string())
        return _Column(kind, ours, taken, how or ("" if is_filled else "from the rows of a run that have it"))
    if not is_number:
        return _Column("state", name, values, "it varies within runs and is no number; states.parquet has it")
    if pa.types.is_integer(values.type) and pc.any(pc.greater(pc.abs(values), 2**24)).as_py():
        return _Column(
            "state", name, values, "it varies within runs, in steps finer than float32; states.parquet has it"
        )
    numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return _Column("metric", columns.as_name(name), numbers, f"it varies within runs{', ' * bool(how)}{how}")


def _measured(sheet: Sheet, name: str, metric: str, *, how: str, unit: Unit | None) -> _Column:
    """Return a metric's numbers."""
    values = sheet.values[name].combine_chunks()
    if pa.types.is_boolean(values.type) or pa.types.is_string(values.type):
        for row, cell in enumerate(sheet.texts[name].to_pylist()):
            is_missing = cell is None or cells.typed(pa.chunked_array([[cell]]), decimal="").values.null_count
            if not is_missing and cells.number(cell, decimal=sheet.decimal) is None:
                raise ZooError(
                    f"{sheet.where}: line {row + 2} has {name} {cell[:60]!r}; expected a number, or nothing where it "
                    "was not measured"
                )
        raise ZooError(
            f"{sheet.where}: column {name} cannot be read as numbers ({how}); expected one way of writing them"
        )
    numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
    with np.errstate(over="ignore"):
        beyond = np.flatnonzero(np.isfinite(numbers) & ~np.isfinite(numbers.astype(np.float32)))
    if len(beyond):
        row = int(beyond[0])
        raise ZooError(f"{sheet.where}: line {row + 2} has {name} {numbers[row]:g}, beyond float32's range")
    what = ""
    if accuracies.is_accuracy(metric):
        accuracy_unit = "fraction" if "per cent" in how else unit
        if accuracy_unit is None and _PERCENT.search(name):
            if not (numbers > 1).any():
                raise ZooError(
                    f"{sheet.where}: column {name} says per cent and holds nothing above 1; expected "
                    f"{argument('accuracies', 'percent')} or {argument('accuracies', 'fraction')}, whichever it is"
                )
            accuracy_unit = "percent"
        numbers, what = accuracies.as_fractions(
            numbers, accuracy_unit, where=lambda row: f"{sheet.where}: line {row + 2}: {name}"
        )
    return _Column("metric", metric, numbers, ", ".join(filter(None, (how, what))))


def _metric(name: str) -> tuple[str, bool]:
    """Return the name in the zoo of what a column measures, and whether its name says no more than that.

    An empty one is of no metric by its name.
    """
    if _plain_name(name) in _GAPS:
        return "published_gap", True
    words = [word for word in _plain_name(name).split("_") if word and word not in _UNITS]
    parts = [_PARTS[word] for word in words if word in _PARTS]
    measured = [_MEASURED[word] for word in words if word in _MEASURED]
    if words and len(words) == len(parts) + len(measured) and len(measured) == 1 and len(parts) <= 1:
        if parts:
            return f"{parts[0]}_{measured[0]}", True
        return ("test_accuracy" if measured[0] == "accuracy" else measured[0]), True
    if words and (words[-1] in _OTHERS or (parts and any(word in _OTHERS for word in words))):
        return columns.as_name(name), False
    return "", False


def _plain_name(name: str) -> str:
    """Return a name in small letters with underscores between its words: "valAcc" and "val acc" are "val_acc"."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.replace("%", " percent "))
    return re.sub(r"[^a-z0-9]+", "_", apart.lower()).strip("_")


def _has_no_number(sheet: Sheet, name: str) -> bool:
    texts = sheet.texts[name].drop_null().to_pylist()
    return not any(cells.number(cell, decimal=sheet.decimal) for cell in texts)


def _of_runs(values: pa.Array, model: np.ndarray, n_models: int) -> tuple[np.ndarray, bool, bool]:
    """Return the row (model,) of each run that has its value, whether runs have one value, and in all their rows."""
    codes = values.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    codes = np.where(np.isnan(codes.astype(np.float64)), -1, codes.astype(np.float64)).astype(np.int64)
    first, has_value = first_of_groups(model, n_models), codes >= 0
    rows = np.flatnonzero(has_value)
    first[model[rows][::-1]] = rows[::-1]  # where a row has a value, the first that does
    same = codes == codes[first[model]]
    return first, bool((same | ~has_value).all()), bool(same.all())
