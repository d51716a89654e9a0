"""The splits of the papers, computed as their public code does, quirks included; and a seeded one where they have none.

A part lists models in the order in which the procedure gives them. Nothing here sorts, filters or repairs.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo_gen.errors import ZooError
from zoo_gen.files import git_lfs
from zoo_gen.published.archives.names import by_longest_end, path_ends

# What publications call the parts of a split.
PARTS = {"train": "train", "trainset": "train", "test": "test", "testset": "test"}
PARTS |= dict.fromkeys(("val", "valid", "valset", "validation"), "validation")
_NFN_STEP = 86  # the last evaluation of the Small CNN Zoo


@dataclass(frozen=True)
class SplitTable:
    """Which model is in which part, in the order that the publication gives."""

    models: np.ndarray  # int64 (row,)
    parts: np.ndarray  # text (row,): train, validation or test
    how: str = ""  # by what procedure


def table(train: Sequence[int], validation: Sequence[int], test: Sequence[int], *, how: str = "") -> SplitTable:
    """Return a split table of three lists of models."""
    lists = {"train": train, "validation": validation, "test": test}
    models = np.array([model for part in lists.values() for model in part], dtype=np.int64)
    parts = np.array([name for name, part in lists.items() for _ in part], dtype=object)
    return SplitTable(models, parts, how)


def of_parts(part_of: Mapping[int, str], *, how: str) -> SplitTable:
    """Return a split table from the part (train, validation or test) of each model, models in the order given."""
    lists = ([model for model in part_of if part_of[model] == part] for part in ("train", "validation", "test"))
    return table(*lists, how=how)


def nfn(permutation: Path, step_of_row: np.ndarray, model_of_row: np.ndarray) -> SplitTable:
    """Return NFN's split of a Small CNN Zoo (Zhou et al., NeurIPS 2023, public code `data_utils.ZooDataset`).

    The rows are put into the order of the published file, whose header, a stray 0, is read as one more entry; those of
    the last step are kept; the second half tests, the first is shuffled by `random.Random(0)` and cut 80/20.

    Args:
        permutation: the published CSV.
        step_of_row: int (row,) of the metrics.
        model_of_row: int (row,) model of each row.

    Raises:
        ZooError: the file is no permutation of the rows, or row 0 is of the last step, so that the stray header would
            put one model into the split twice.
    """
    order = numbers_of(permutation)
    n_rows = len(step_of_row)
    if len(order) not in (n_rows, n_rows + 1) or not np.array_equal(np.unique(order), np.arange(n_rows)):
        raise ZooError(f"{permutation}: holds {len(order):,} numbers; expected a permutation of the {n_rows:,} rows")
    last = _NFN_STEP if (step_of_row == _NFN_STEP).any() else int(step_of_row.max())
    if len(order) == n_rows + 1 and step_of_row[0] == last:
        raise ZooError(f"{permutation}: row 0 is of the last step, so its stray header would count one model twice")
    final = order[step_of_row[order] == last]
    models = model_of_row[final]
    half = int(0.5 * len(models))
    first = list(range(half))
    cut = int(0.8 * len(first))
    random.Random(0).shuffle(first)
    how = (
        f"rows in the order of {permutation.name}, step {last}, halves, first half shuffled by Random(0) and cut 80/20"
    )
    return table(models[first[:cut]].tolist(), models[first[cut:]].tolist(), models[half:].tolist(), how=how)


def numbers_of(path: Path) -> np.ndarray:
    """Return the whole numbers in a file with one a line, its first line too.

    Raises:
        ZooError: the file is missing, or a line is no whole number.
    """
    git_lfs.check_file(path)
    try:
        return np.array([int(line) for line in path.read_text(encoding="utf-8").split()], dtype=np.int64)
    except (OSError, ValueError) as error:
        raise ZooError(f"{path}: cannot be read as a whole number a line ({error})") from None


def of_activation(split: SplitTable, activations: Sequence[str], activation: str) -> SplitTable:
    """Return ScaleGMN's split (Kalogeropoulos et al., NeurIPS 2024): another split, then only one activation."""
    stays = np.array([activations[model] == activation for model in split.models.tolist()], dtype=bool)
    return SplitTable(split.models[stays], split.parts[stays], f"{split.how}; then only {activation} models")


def run_wise(n_models: int, *, how: str) -> SplitTable:
    """Return the run-wise split of the hyper-representations (Schürholt et al., NeurIPS 2021): seed 42, 70/15/15.

    Models must be numbered as their runs first appear in the publication.
    """
    order = list(range(n_models))
    random.Random(42).shuffle(order)  # what random.seed(42) and random.shuffle do
    first = int(0.7 * n_models)
    second = first + int(0.15 * n_models)
    return table(order[:first], order[first:second], order[second:], how=how)


def grouped(n_models: int, *, test: int, validation: int, seed: int, how: str) -> SplitTable:
    """Return two nested splits of scikit-learn's train_test_split, as the Wild Park's code makes its own.

    Raises:
        ZooError: there are not so many models.
    """
    if test + validation >= n_models:
        raise ZooError(f"{n_models} models cannot give {test} for testing and {validation} for validation")
    order = np.random.RandomState(seed).permutation(n_models)
    rest, tested = order[test:], order[:test]
    inner = np.random.RandomState(seed).permutation(len(rest))
    train, selected = rest[inner[validation:]], rest[inner[:validation]]
    return table(train.tolist(), selected.tolist(), tested.tolist(), how=how)


def of_paths(path: Path, model_of_path: dict[str, int]) -> SplitTable:
    """Return the split of a JSON file {part: {"path": [...]}} or {part: [...]}: models in order of first appearance.

    Paths are compared by their ends, because the published files hold whole paths of the authors' machines.

    Raises:
        ZooError: the file is none of these, names a path that the archive lacks, or puts one model into two parts.
    """
    git_lfs.check_file(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        lists = {PARTS[name]: rows["path"] if isinstance(rows, dict) else rows for name, rows in content.items()}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ZooError(f"{path}: cannot be read as a split, parts with lists of paths ({error!r})") from None
    ends = path_ends(model_of_path)
    part_of: dict[int, str] = {}
    for part, paths in lists.items():
        for each in paths:
            model = by_longest_end(str(each), ends)
            if model is None:
                raise ZooError(f"{path}: names {each}, which the archive does not have")
            if part_of.setdefault(model, part) != part:
                raise ZooError(f"{path}: puts the model of {each} into {part_of[model]} and into {part}")
    return of_parts(part_of, how=f"as {path.name} says")
