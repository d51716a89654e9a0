"""A folder of one's own: safetensors or state_dicts, and a CSV with a row a file. How most people keep their zoos.

The CSV names the files in a column (`file`, `path`, `checkpoint`, ...) and may say which run and epoch each is; every
other column is a metric if its name says so or if it varies within runs, and else a hyper-parameter. Parameters keep
their names and shapes.
"""

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from zoo_gen.architecture.network import Network
from zoo_gen.errors import ZooError, argument, needing, one_line
from zoo_gen.image_data import DataSource
from zoo_gen.published import splits
from zoo_gen.published.account import Account
from zoo_gen.published.archives.archive import Archive
from zoo_gen.published.archives.names import natural_order
from zoo_gen.published.archives.pickles import HARMLESS, HARMLESS_FAMILY, Reader
from zoo_gen.published.formats import folder_columns, folder_table, own_network, states, tables
from zoo_gen.published.formats.checkpoints import placed
from zoo_gen.published.formats.tables import Sheet
from zoo_gen.published.reading import Reading, Request
from zoo_gen.published.splits import SplitTable

_RUN_COLUMNS = ("run", "run_id", "model", "model_id", "trial", "modeldir")
_EPOCH_COLUMNS = ("epoch", "step", "iteration", "ckpt_epoch", "global_step")
_SPLIT_COLUMNS = ("split", "part")
_PERHAPS = ("model", "model_id")  # these may name an architecture


def read(archive: Archive, request: Request) -> Reading:
    """Return what the folder holds."""
    account = request.account
    table = folder_table.find(archive, request)
    sheet, members, where = table.sheet, table.members, table.sheet.where
    runs_column, epoch_column, split_column = _roles(sheet, table.column)
    run_of_row = _runs(sheet, runs_column) if runs_column else members
    runs = list(dict.fromkeys(run_of_row))
    number = {run: position for position, run in enumerate(runs)}
    model_of_row = np.array([number[run] for run in run_of_row], dtype=np.int64)
    published_epoch = (
        tables.whole(sheet.values, epoch_column, where=where) if epoch_column else np.ones_like(model_of_row)
    )
    places = placed(model_of_row, published_epoch, where=where, account=account)
    row_of = np.full((len(runs), len(places.epochs)), -1, dtype=np.int64)
    for row, place in enumerate(zip(model_of_row.tolist(), places.of_row.tolist(), strict=True)):
        if row_of[place] >= 0:
            raise ZooError(
                f"{where}: lines {row_of[place] + 2} and {row + 2} name one state of one run twice ({run_of_row[row]}, "
                f"epoch {published_epoch[row]}); expected a column epoch or run that tells them apart"
            )
        row_of[place] = row
    _note_roles(account, {table.column: "file", runs_column: "run", epoch_column: "epoch", split_column: "split"})
    rest = [name for name in sheet.names if name not in (table.column, runs_column, epoch_column, split_column)]
    columns = folder_columns.sort_out(
        sheet, rest, model=model_of_row, n_models=len(runs), unit=request.accuracies, account=account
    )
    metrics = {}
    for name, values in columns.metrics.items():
        grid = metrics[name] = np.full(row_of.shape, np.nan, dtype=np.float32)
        grid[model_of_row, places.of_row] = values
    reader = Reader(HARMLESS, family=HARMLESS_FAMILY, scratch=request.scratch, format="folder")

    def tensors_of(member: str) -> dict[str, np.ndarray]:
        if member.endswith(".safetensors"):
            return _safetensors(archive, member, account=account)
        return states.read_state(archive, reader, member, account=account)

    data = own_network.data_of(request.data)
    described = None if request.architecture is None else own_network.described(request.architecture)
    network = None if described is None else own_network.network_of(described, data, request.classes)
    classes = _classes(request, data, network)
    if described is not None and described.activation is not None and "activation" not in columns.hyperparameters:
        columns.hyperparameters["activation"] = pa.array([described.activation] * len(runs))
    stored = states.States(archive, request, tensors_of, renumbered=False)
    architectures = states.Architectures()
    wiring_of_model = np.zeros(len(runs), dtype=np.int64)
    for model, row in enumerate(tables.first_of_groups(model_of_row, len(runs))):
        shapes = stored.shapes(members[row])
        build = partial(states.wiring_of, shapes, None, None)  # equal shapes do not tell what is computed
        if described is not None and network is not None:
            build = partial(own_network.wiring_of, shapes, network, described.names, where=archive.where(members[row]))
        wiring_of_model[model] = architectures.number(frozenset(shapes), build)
    wirings = architectures.wirings

    def weights_of(model: int, checkpoints: np.ndarray) -> np.ndarray:
        return stored.vectors([members[row] for row in row_of[model, checkpoints]], wirings[wiring_of_model[model]])

    # As published: what was read in an unusual way stays the text that stood there.
    by_column = {
        f"source.{name}": (sheet.texts if name in sheet.how else sheet.values)[name].combine_chunks()
        for name in sheet.names
    }
    hyperparameters = columns.hyperparameters
    return Reading(
        name=archive.path.name.split(".")[0],
        wirings=tuple(wirings),
        wiring_of_model=wiring_of_model,
        models=pa.table({"run": pa.array(runs), **hyperparameters}),
        epochs=places.epochs,
        present=row_of >= 0,
        metrics=metrics,
        read=weights_of,
        states=pa.table({"model": pa.array(model_of_row), "epoch": pa.array(places.epoch_of_row), **by_column}),
        splits=_splits(request, sheet, split_column, runs, model_of_row, members),
        varying=tuple(name for name, values in hyperparameters.items() if len(values.unique()) > 1),
        classes=classes,
        data=None if data is None else data.model_dump(mode="json", exclude_defaults=True),
        epoch_means=places.means,
        architecture="" if described is None else described.architecture.name,
    )


def _classes(request: Request, data: DataSource | None, network: Network | None) -> int | None:
    """Return the number of classes, if the caller says it or what the models were trained on."""
    of_data = None if data is None or data.task != "classification" else data.n_outputs
    counts = {argument("classes"): request.classes, argument("data", request.data): of_data}
    counts[argument("architecture")] = None if network is None else network.n_outputs
    known = {option: count for option, count in counts.items() if count is not None}
    if len(set(known.values())) > 1:
        raise ZooError(
            f"{', '.join(f'{option} gives {count} classes' for option, count in known.items())}; expected one number"
        )
    return next(iter(known.values()), None)


def _roles(sheet: Sheet, file_column: str) -> tuple[str | None, str | None, str | None]:
    """Return the columns of runs, epochs and parts of a split."""
    by_name: dict[str, str] = {}
    for name in sheet.names:
        if name != file_column:
            by_name.setdefault(name.lower().replace(" ", "_"), name)
    epoch = next((by_name[name] for name in _EPOCH_COLUMNS if name in by_name), None)
    split = next((by_name[name] for name in _SPLIT_COLUMNS if name in by_name), None)
    for name in _RUN_COLUMNS:
        if name in by_name:
            values = sheet.texts[by_name[name]]
            # Without epochs, a column "model" that says the same of several files names what they are, not which.
            if name not in _PERHAPS or epoch is not None or len(values.unique()) == len(values):
                return by_name[name], epoch, split
    return None, epoch, split


def _note_roles(account: Account, kinds: dict[str | None, Any]) -> None:
    for name, kind in kinds.items():
        if name is not None:
            account.column(name, kind)


def _runs(sheet: Sheet, column: str) -> list[str]:
    """Return the run of each row as its text."""
    runs = sheet.texts[column].to_pylist()
    if None in runs:
        raise ZooError(f"{sheet.where}: line {runs.index(None) + 2} has nothing in column {column}; expected its run")
    return runs


def _splits(
    request: Request, sheet: Sheet, column: str | None, runs: list[str], model_of_row: np.ndarray, members: list[str]
) -> dict[str, SplitTable]:
    split_tables = request.split_files(dict(zip(members, model_of_row.tolist(), strict=True)))
    if column is not None:
        part_of: dict[int, str] = {}
        for row, (model, text) in enumerate(zip(model_of_row.tolist(), sheet.texts[column].to_pylist(), strict=True)):
            part = splits.PARTS.get(str(text).lower(), "")
            if text is not None and (not part or part_of.setdefault(model, part) != part):
                raise ZooError(
                    f"{sheet.where}: line {row + 2}: column {column} says {text!r} of run {runs[model]}; expected one "
                    "part a run: train, validation or test"
                )
        split_tables["published"] = splits.of_parts(part_of, how=f"the column {column}")
    split_tables["run_wise"] = splits.run_wise(
        len(runs), how="runs in the order of the CSV, seed 42, shuffled, 70/15/15"
    )
    return split_tables


def _safetensors(archive: Archive, name: str, *, account: Account) -> dict[str, np.ndarray]:
    """Return the tensors of a safetensors file, layers by the numbers in their names, weight before bias.

    The file sorts them by type and name, so that the order of the module is lost.
    """
    with needing("safetensors files", extra="convert"):
        from safetensors import SafetensorError
        from safetensors.torch import load
    where = archive.where(name)
    content = archive.read(name)
    try:
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ZooError(f"{where}: {_unread_type(content) or f'is no safetensors file ({one_line(error)})'}") from None
    ordered = dict(sorted(tensors.items(), key=lambda item: _order(item[0])))
    return states.tensors_of(ordered, where=where, remark=partial(archive.remark, name=name), account=account)


def _unread_type(content: bytes) -> str:
    """Return which tensor of a safetensors file has a type that its reader does not have, if that is what is wrong."""
    import json

    from safetensors.torch import _TYPES

    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        for name, facts in header.items():
            if name != "__metadata__" and facts["dtype"] not in _TYPES:
                return f"{name}: is of type {facts['dtype']}; expected one of {', '.join(_TYPES)}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return ""


def _order(key: str) -> tuple[list[Any], int, str]:
    layer, _, role = key.rpartition(".")
    return natural_order(layer), {"weight": 0, "bias": 1}.get(role, 2), role
