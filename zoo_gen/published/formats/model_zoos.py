"""ModelZoos (Schürholt et al., 2022) and their kin: Ray folders of a run each, or the preprocessed .pt dumps.

A run is a folder with params.json and result.json; a state is checkpoint_<n>/checkpoints. Result lines are matched by
the iteration they name, never by their position, and optimiser states are not opened.
"""

import json
import math
import re
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from zoo_gen.errors import ZooError
from zoo_gen.published import splits
from zoo_gen.published.account import Account
from zoo_gen.published.archives.archive import Archive
from zoo_gen.published.archives.pickles import Reader
from zoo_gen.published.formats import hyper_representations, images, networks, states, tables
from zoo_gen.published.formats.checkpoints import placed
from zoo_gen.published.reading import Reading, Request, Wiring

FORMAT = "model_zoos"
STATE = re.compile(r"(?:(.*)/)?checkpoint_(\d+)/(?:checkpoints|checkpoints_training)")
ABOUT_A_RUN = ("params.json", "config.json", "result.json", "progress.csv")  # what is read of a run beside its states
_OURS = {
    "model::nlin": "activation",
    "model::dropout": "dropout",
    "model::init_type": "initialization",
    "optim::optimizer": "optimizer",
    "optim::lr": "learning_rate",
    "optim::wd": "weight_decay",
    "optim::momentum": "momentum",
    "training::batchsize": "batch_size",
}
_MOST_STARTS = 50  # of objects in a line whose beginning is no result
_NOISE = ("config", "timestamp", "date", "time_", "hostname", "node_ip", "pid", "experiment_", "trial_", "done")
_RUNNING = (
    "train_loss and train_accuracy are running means over the training epoch with dropout, as published; only those of "
    "the first epoch are evaluations"
)


def read(archive: Archive, request: Request) -> Reading:
    """Return what the archive holds."""
    files = {name: match for name in archive.members if (match := STATE.fullmatch(name))}
    if not files:
        return hyper_representations.read(archive, request, format=FORMAT)
    reader = Reader(scratch=request.scratch, format=FORMAT)
    state_of: dict[str, dict[int, str]] = {}
    for name, match in files.items():
        states_of_run = state_of.setdefault(match[1] or "", {})
        if int(match[2]) in states_of_run:
            raise ZooError(
                f"{archive.path}: {name} and {states_of_run[int(match[2])]} are the same checkpoint of one run"
            )
        states_of_run[int(match[2])] = name
    # A run that crashed before its first checkpoint keeps its row.
    without = {name.rpartition("/")[0] for name in archive.named("params.json")} - set(state_of)
    runs = sorted([*state_of, *(run for run in without if run)])
    rows = np.array([(model, epoch) for model, run in enumerate(runs) for epoch in state_of.get(run, {})])
    places = placed(rows[:, 0], rows[:, 1], where=str(archive.path), account=request.account)
    place_of = {(int(model), int(epoch)): int(at) for (model, epoch), at in zip(rows, places.of_row, strict=True)}
    present = np.zeros((len(runs), len(places.epochs)), dtype=bool)
    present[rows[:, 0], places.of_row] = True
    member_of = {(model, place_of[model, epoch]): state_of[runs[model]][epoch] for model, epoch in place_of}
    request.account.used.update(member_of.values())
    metrics: dict[str, np.ndarray] = {}
    configurations: list[dict[str, Any]] = []
    lines_of_states: list[dict[str, Any]] = []
    for model, run in enumerate(runs):
        parameters, lines = _run(archive, run, request.account)
        configurations.append(parameters)
        for epoch, line in sorted(lines.items()):
            place = place_of.get((model, epoch))
            stands_at = epoch if places.means == "epoch" else None if place is None else int(places.epochs[place])
            lines_of_states.append({"model": model, "epoch": stands_at, **_published(line)})
            for name, ours in tables.METRICS.items():
                value = line.get(name)
                if place is not None and isinstance(value, int | float) and value != tables.SENTINEL:
                    values = metrics.setdefault(ours, np.full(present.shape, np.nan, dtype=np.float32))
                    values[model, place] = value
    dataset = images.dataset_of(request.data or _dataset(configurations) or archive.path.name)
    stored = states.States(archive, request, partial(states.read_state, archive, reader, account=request.account))
    wirings, wiring_of_model, name = _wirings(stored, runs, state_of)
    hyperparameters = tables.columns_of(list(map(_hyperparameters, configurations)))
    network = wirings[0].network

    def weights_of(model: int, checkpoints: np.ndarray) -> np.ndarray:
        members = [member_of[model, place] for place in checkpoints.tolist()]
        return stored.vectors(members, wirings[wiring_of_model[model]])

    run_wise = splits.run_wise(
        len(runs), how="runs sorted by name (the papers' order is their file system's), seed 42, shuffled, 70/15/15"
    )
    return Reading(
        name=_top(archive, runs),
        wirings=tuple(wirings),
        wiring_of_model=wiring_of_model,
        models=pa.table({"run": pa.array(runs), **hyperparameters}),
        epochs=places.epochs,
        present=present,
        metrics=metrics,
        read=weights_of,
        states=_states(lines_of_states),
        splits={"run_wise": run_wise, **request.split_files(dict(zip(runs, range(len(runs)), strict=True)))},
        varying=tuple(name for name, column in hyperparameters.items() if len(column.unique()) > 1),
        classes=wirings[0].layout.parameters[-1].shape[0],
        data=None
        if network is None or len(network.input_shape) < 3
        else images.model_zoos(dataset, size=network.input_shape[-1]),
        architecture=name,
        notes=(_RUNNING,),
        epoch_means=places.means,
    )


def _run(archive: Archive, run: str, account: Account) -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
    """Return the configuration of a run, and its result lines by the iteration that each names."""
    prefix = f"{run}/" if run else ""
    parameters: dict[str, Any] = {}
    for name in ("params.json", "config.json"):
        if prefix + name in archive.members:
            parameters = _json(archive, prefix + name)
            break
    name = prefix + "result.json"
    if name in archive.members:
        return parameters, _results(archive, name, account=account)
    if prefix + "progress.csv" in archive.members:  # which Ray writes beside it
        sheet = tables.read_sheet(archive, prefix + "progress.csv")
        tables.needed(sheet.values, ("training_iteration",), where=sheet.where)
        iterations = tables.whole(sheet.values, "training_iteration", where=sheet.where)
        for note in sheet.notes:
            account.note(note)
        return parameters, dict(zip(iterations.tolist(), sheet.values.to_pylist(), strict=True))
    account.note(f"{run or archive.path.name}: has no result.json, so that none of its states has metrics")
    return parameters, {}


def _results(archive: Archive, name: str, *, account: Account) -> dict[int, dict[str, Any]]:
    """Return the lines of a log by their iteration; one that was cut off when its run was killed is left out.

    A run that was resumed says the same iteration again, and the last is what was kept; its first line then stands
    behind the one that was cut off.
    """
    results: dict[int, dict[str, Any]] = {}
    lines = archive.read(name).decode(errors="replace").splitlines(keepends=True)
    for number, text in enumerate(lines, start=1):
        if not text.strip("\0 \t\r\n"):  # a full disk or a power cut leaves zeros
            continue
        line = _result(text)
        is_cut = line is None and number == len(lines) and not text.endswith("\n") and text.lstrip().startswith("{")
        if line is None and not is_cut:
            starts = [match.start() for match in re.finditer(r'\{"', text)][1:_MOST_STARTS]
            line = next((result for start in starts if (result := _result(text[start:])) is not None), None)
            if line is None:
                raise ZooError(f"{archive.where(name)}: line {number} is no result with a training_iteration")
            is_cut = True
        if is_cut:
            account.note(f"{name}: line {number} begins with a result that was cut off; that was left out")
        if line is not None:
            results[int(line["training_iteration"])] = line
    return results


def _result(text: str) -> dict[str, Any] | None:
    """Return the result that a line is, or None."""
    try:
        line = json.loads(text.strip("\0 \t\r\n"))
        int(line["training_iteration"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def _json(archive: Archive, name: str) -> dict[str, Any]:
    try:
        content = json.loads(archive.read(name))
    except (ValueError, RecursionError) as error:
        raise ZooError(f"{archive.where(name)}: cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise ZooError(f"{archive.where(name)}: holds {type(content).__name__}; expected a table of names and values")
    return content


def _published(line: dict[str, Any]) -> dict[str, Any]:
    """Return what a result line says, under `source.`, without what only tells of the machine."""
    stays = {key: value for key, value in line.items() if not key.startswith(_NOISE)}
    return {f"source.{key}": value for key, value in stays.items() if isinstance(value, int | float | str | bool)}


def _states(rows: list[dict[str, Any]]) -> pa.Table | None:
    if not rows:
        return None
    columns = tables.columns_of(rows)
    columns["epoch"] = columns["epoch"].cast(pa.int32())  # null where a line is of no state that was kept
    return pa.table(columns)


def _hyperparameters(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration as columns: our names where there is one, no paths of the authors' machines."""
    columns: dict[str, Any] = {}
    for key, value in parameters.items():
        if not isinstance(value, int | float | str | bool) or (isinstance(value, str) and value.startswith(("/", "~"))):
            continue
        ours = _OURS.get(key, key)
        columns[ours] = networks.activation(value) if ours == "activation" else value
        if isinstance(value, float) and not math.isfinite(value):
            columns[ours] = None
    return columns


def _dataset(configurations: list[dict[str, Any]]) -> str | None:
    """Return what the configurations say of the images: the name in the path of their data."""
    for parameters in configurations[:1]:
        for key in ("dataset::name", "dataset::dump", "training::data_path"):
            value = parameters.get(key)
            if isinstance(value, str) and images.dataset_of(value):
                return value
    return None


def _top(archive: Archive, runs: list[str]) -> str:
    """Return the name of the folder of all runs, or of the archive."""
    parents = {run.rpartition("/")[0] for run in runs}
    named = parents.pop().rpartition("/")[2] if len(parents) == 1 else ""
    return named or archive.path.name.split(".")[0]


def _wirings(
    stored: states.States, runs: list[str], state_of: dict[str, dict[int, str]]
) -> tuple[list[Wiring], np.ndarray, str]:
    """Return the architectures, which one each run has, and the name of the most common one.

    The first state of each run is looked at: within a run the architecture stays.
    """
    architectures = states.Architectures()
    names: list[str] = []

    def build(shapes: states.Shapes) -> Wiring:
        wiring, name = networks.model_zoo_wiring(shapes)
        names.append(name)
        return wiring

    wiring_of_model = np.full(len(runs), -1, dtype=np.int64)
    for model, run in enumerate(runs):
        if run in state_of:
            shapes = stored.shapes(state_of[run][min(state_of[run])])
            key = states.signature(shapes)
            wiring_of_model[model] = architectures.number(key, partial(build, shapes))
    most = int(np.bincount(wiring_of_model[wiring_of_model >= 0]).argmax())
    wiring_of_model[wiring_of_model < 0] = most  # runs without any state
    return architectures.wirings, wiring_of_model, names[most]
