"""A folder of one's own: safetensors or state_dicts, and a CSV with a row a file. How most people keep their zoos.

The CSV names the files in a column (`file`, `path`, `checkpoint`, ...) and may say which run and epoch each is; every
other column is a metric if its name is one of ours, and else a hyper-parameter. Parameters keep their names and shapes.
"""

import re
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from zoo_gen.errors import ZooError, one_line
from zoo_gen.published import splits
from zoo_gen.published.archives.archive import Archive
from zoo_gen.published.archives.names import natural_order
from zoo_gen.published.archives.pickles import HARMLESS, HARMLESS_FAMILY, Reader
from zoo_gen.published.formats import states, tables
from zoo_gen.published.reading import Reading, Request
from zoo_gen.published.splits import SplitTable

_ENDS = ("*.safetensors", "*.pt", "*.pth", "*.ckpt", "*.bin")
_FILE_COLUMNS = ("file", "filename", "path", "checkpoint", "checkpoint_path", "ckpt_file", "ckpt", "name")
_RUN_COLUMNS = ("run", "run_id", "model", "model_id", "trial", "modeldir")
_EPOCH_COLUMNS = ("epoch", "step", "iteration", "ckpt_epoch")
_METRICS = re.compile(r"(train|test|validation|val|running)_(loss|accuracy|acc)|(top1_)?(accuracy|loss)")


def read(archive: Archive, request: Request) -> Reading:
    """Return what the folder holds.

    Raises:
        ZooError: there is no CSV or no file that it names, or a file is no state_dict; the message names it.
    """
    files = _by_name(archive.named(*_ENDS))
    table, csv_name, column = _table(archive, files)
    where = archive.where(csv_name)
    members = []
    for value in table[column].to_pylist():
        member = _member(str(value), files, csv_name)
        if member is None:
            raise ZooError(f"{where}: names {value}, which is not there")
        members.append(member)
    runs_column = next((name for name in _RUN_COLUMNS if name in table.column_names and name != column), None)
    epoch_column = next((name for name in _EPOCH_COLUMNS if name in table.column_names), None)
    run_of_row = [str(value) for value in table[runs_column].to_pylist()] if runs_column else members
    epoch_of_row = (
        tables.whole(table, epoch_column, where=where) if epoch_column else np.ones(len(table), dtype=np.int64)
    )
    runs = list(dict.fromkeys(run_of_row))
    number = {run: position for position, run in enumerate(runs)}
    model_of_row = np.array([number[run] for run in run_of_row], dtype=np.int64)
    epochs = np.unique(epoch_of_row)
    place_of_row = np.searchsorted(epochs, epoch_of_row)
    row_of = np.full((len(runs), len(epochs)), -1, dtype=np.int64)
    row_of[model_of_row, place_of_row] = np.arange(len(table))
    if (row_of >= 0).sum() != len(table):
        raise ZooError(
            f"{where}: names one state of one run twice; expected a column epoch or run that tells them apart"
        )
    first = tables.first_of_groups(model_of_row, len(runs))
    names = [name for name in table.column_names if name not in (column, runs_column, epoch_column, "split", "part")]
    measured = [name for name in names if _METRICS.fullmatch(name) and pa.types.is_primitive(table[name].type)]
    metrics = {}
    for name in measured:
        values = np.full(row_of.shape, np.nan, dtype=np.float32)
        values[model_of_row, place_of_row] = tables.numbers(table, name, where=where)
        metrics[_metric(name)] = values
    hyperparameters = {
        _hyperparameter(name): table[name].combine_chunks().take(pa.array(first))
        for name in names
        if name not in measured
    }
    reader = Reader(HARMLESS, family=HARMLESS_FAMILY, scratch=request.scratch, format="folder")

    def tensors_of(member: str) -> dict[str, np.ndarray]:
        if member.endswith(".safetensors"):
            return _safetensors(archive, member)
        return states.read_state(archive, reader, member)

    stored = states.States(archive, request, tensors_of)
    architectures = states.Architectures()
    wiring_of_model = np.zeros(len(runs), dtype=np.int64)
    for model, row in enumerate(first):
        shapes = stored.shapes(members[row])
        # Equal shapes do not tell what is computed.
        wiring_of_model[model] = architectures.number(shapes, partial(states.wiring_of, shapes, None, None))
    wirings = architectures.wirings

    def weights_of(model: int, checkpoints: np.ndarray) -> np.ndarray:
        return stored.vectors([members[row] for row in row_of[model, checkpoints]], wirings[wiring_of_model[model]])

    by_column = {f"source.{name}": table[name].combine_chunks() for name in table.column_names}
    return Reading(
        name=archive.path.name.split(".")[0],
        wirings=tuple(wirings),
        wiring_of_model=wiring_of_model,
        models=pa.table({"run": pa.array(runs), **hyperparameters}),
        epochs=epochs.astype(np.int32),
        kept=row_of >= 0,
        metrics=metrics,
        read=weights_of,
        states=pa.table(
            {"model": pa.array(model_of_row), "epoch": pa.array(epoch_of_row.astype(np.int32)), **by_column}
        ),
        splits=_splits(request, table, runs, model_of_row, members, where=where),
        varying=tuple(name for name, values in hyperparameters.items() if len(values.unique()) > 1),
    )


def _table(archive: Archive, files: dict[str, str]) -> tuple[pa.Table, str, str]:
    """Return the CSV whose rows name files, its name, and the column that does."""
    for name in archive.named("*.csv", "*.csv.gz"):
        table = tables.read_csv(archive, name)
        texts = [column for column in table.column_names if pa.types.is_string(table[column].type)]
        for column in sorted(texts, key=lambda column: column not in _FILE_COLUMNS):
            values = table[column].to_pylist()
            if values and all(value is not None and _member(value, files, name) for value in values[:3]):
                return table, name, column
    raise ZooError(f"{archive.path}: holds no CSV with a column that names its {len(set(files.values()))} files")


def _by_name(files: list[str]) -> dict[str, str]:
    """Return each file by its name, and by its name without the ending where only one is called so."""
    stems = Counter(name.rpartition(".")[0] for name in files)
    by_stem = {name.rpartition(".")[0]: name for name in files if stems[name.rpartition(".")[0]] == 1}
    return {**by_stem, **{name: name for name in files}}


def _member(value: str, files: dict[str, str], csv_name: str) -> str | None:
    """Return the member that a cell names, relative to the CSV or to the archive, with or without its ending."""
    path = value.replace("\\", "/").removeprefix("./")
    return files.get(f"{csv_name.rpartition('/')[0]}/{path}", files.get(path))


def _metric(name: str) -> str:
    plain = name.replace("val_", "validation_").removeprefix("top1_")
    plain = plain.removesuffix("acc") + "accuracy" if plain.endswith("acc") else plain
    return plain if "_" in plain else f"test_{plain}"


def _hyperparameter(name: str) -> str:
    return {"lr": "learning_rate", "wd": "weight_decay", "nlin": "activation"}.get(name, name)


def _splits(
    request: Request, table: pa.Table, runs: list[str], model_of_row: np.ndarray, members: list[str], *, where: str
) -> dict[str, SplitTable]:
    split_tables = request.split_files(dict(zip(members, model_of_row.tolist(), strict=True)))
    column = next((name for name in ("split", "part") if name in table.column_names), None)
    if column is not None:
        part_of: dict[int, str] = {}
        for model, text in zip(model_of_row.tolist(), table[column].to_pylist(), strict=True):
            part = splits.PARTS.get(str(text).lower(), "")
            if text is not None and (not part or part_of.setdefault(model, part) != part):
                raise ZooError(f"{where}: column {column} says {text!r} of run {runs[model]}; expected one part a run")
        split_tables["published"] = splits.of_parts(part_of, how=f"the column {column}")
    split_tables["run_wise"] = splits.run_wise(
        len(runs), how="runs in the order of the CSV, seed 42, shuffled, 70/15/15"
    )
    return split_tables


def _safetensors(archive: Archive, name: str) -> dict[str, np.ndarray]:
    """Return the tensors of a safetensors file, layers by the numbers in their names, weight before bias.

    The file sorts them by type and name, so that the order of the module is lost.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load
    except ImportError:
        raise ZooError("safetensors files need safetensors; expected: pip install 'zoo-gen[convert]'") from None
    where = archive.where(name)
    try:
        tensors = load(archive.read(name))
    except (SafetensorError, ValueError, KeyError) as error:
        raise ZooError(f"{where}: is no safetensors file ({one_line(error)})") from None
    ordered = dict(sorted(tensors.items(), key=lambda pair: _order(pair[0])))
    return states.tensors_of(ordered, where=where, remark=partial(archive.remark, name=name))


def _order(key: str) -> tuple[list[Any], int, str]:
    layer, _, role = key.rpartition(".")
    return natural_order(layer), {"weight": 0, "bias": 1}.get(role, 2), role
