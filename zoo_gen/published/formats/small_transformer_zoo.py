"""Small Transformer Zoo (Tran et al., ICLR 2025): a state_dict a file, <run>_<epoch>_<accuracy>.pt, and a CSV.

Accuracies stand in the names, times 10,000 and cut. Files called `best` are of an epoch that nothing says, chosen by
test accuracy: no place on the axis of checkpoints is theirs, so their accuracies are kept and their weights are not.
Those of AG-News lack the embedding of words that all runs share, so that their weights alone compute nothing.
"""

import re
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from zoo_gen.architecture import registry
from zoo_gen.architecture.modules import position_codes
from zoo_gen.errors import ZooError
from zoo_gen.published.archives.archive import Archive
from zoo_gen.published.archives.names import natural_order
from zoo_gen.published.archives.pickles import Reader
from zoo_gen.published.formats import states, tables
from zoo_gen.published.formats.states import Shapes
from zoo_gen.published.reading import Reading, Request, Wiring, in_order

_NAME = re.compile(r"(?:.*/)?([^/_]+)_(\d+|best\d*)(?:_(\d+))?\.pt")
_CODES = "embedding.pos_embedding"
_HEADS = 2  # of both grids; shapes do not tell
_STEPS = 512  # the longest text
_BLOCK = re.compile(r"encoder\.(\d+)\.(?:attention\.(\w+)|fc([12]))\.(weight|bias)")
_PARTS = {"queries": "query", "keys": "key", "values": "value", "out_projection": "output"}
_OURS = {"lr": "learning_rate", "w_init_std": "initialization_deviation", "l2_regularize": "weight_decay"}
_HYPERPARAMETERS = ("optimizer", *_OURS, "train_fraction", "dropout", "seed", "batch_size")


def read(archive: Archive, request: Request) -> Reading:
    """Return what the archive holds."""
    members: dict[tuple[str, int], str] = {}
    accuracy_of: dict[tuple[str, int], float] = {}
    best: dict[str, float] = {}
    for member in sorted(archive.named("*.pt"), key=natural_order):
        match = _NAME.fullmatch(member)
        if match is None:
            if member.rpartition("/")[2] == "embedding.pt":  # of words, which all runs share
                continue
            raise ZooError(f"{archive.where(member)}: expected a name such as <run>_75_9132.pt")
        run, epoch, digits = match.groups()
        accuracy = np.nan if digits is None else int(digits) / 10_000
        if not epoch.isdigit():
            best[run] = accuracy
            continue
        key = run, int(epoch)
        if key in members:
            raise ZooError(f"{archive.where(member)}: epoch {epoch} of {run} is also in {members[key]}; expected one")
        members[key], accuracy_of[key] = member, accuracy
    if not members:
        raise ZooError(f"{archive.path}: holds no <run>_<epoch>_<accuracy>.pt")
    runs = sorted({run for run, _ in members})
    epochs = np.array(sorted({epoch for _, epoch in members}), dtype=np.int32)
    present = np.array([[(run, int(epoch)) in members for epoch in epochs] for run in runs])
    accuracies = [[accuracy_of.get((run, int(epoch)), np.nan) for epoch in epochs] for run in runs]
    configurations = _configurations(archive)
    reader = Reader(scratch=request.scratch, format="small_transformer_zoo")

    def tensors_of(member: str) -> dict[str, np.ndarray]:
        tensors = states.read_state(archive, reader, member, account=request.account)
        codes = tensors.pop(_CODES, None)
        if codes is not None and (
            codes.ndim != 2 or not np.allclose(codes, position_codes(*codes.shape).numpy(), atol=1e-3)
        ):
            raise ZooError(
                f"{archive.where(member)}: {_CODES} is {list(codes.shape)} and no sines; expected fixed codes"
            )
        steps[member] = None if codes is None else len(codes)
        return tensors

    steps: dict[str, int | None] = {}
    stored = states.States(archive, request, tensors_of, renumbered=False)
    architectures = states.Architectures()
    wiring_of_model = np.zeros(len(runs), dtype=np.int64)
    rows: list[dict[str, Any]] = []
    for model, run in enumerate(runs):
        member = members[run, int(epochs[np.flatnonzero(present[model])[0]])]
        shapes, row = stored.shapes(member), configurations.get(run, {})
        heads = int(row.get("n_attention_heads") or _HEADS)
        build = partial(_wiring, shapes, steps[member], heads, where=archive.where(member))
        wiring_of_model[model] = architectures.number((shapes, steps[member], heads), build)
        rows.append({**_hyperparameters(row), **({"best_accuracy": best.get(run)} if best else {})})
    wirings = architectures.wirings
    hyperparameters = tables.columns_of(rows)
    reads_images = all(wiring.network is not None for wiring in wirings)

    def weights_of(model: int, checkpoints: np.ndarray) -> np.ndarray:
        chosen = [members[runs[model], int(epochs[column])] for column in checkpoints]
        return stored.vectors(chosen, wirings[wiring_of_model[model]])

    return Reading(
        name=archive.path.name.split(".")[0],
        wirings=tuple(wirings),
        wiring_of_model=wiring_of_model,
        models=pa.table({"run": pa.array(runs), **hyperparameters}),
        epochs=epochs,
        present=present,
        metrics={"test_accuracy": np.array(accuracies, dtype=np.float32)},
        read=weights_of,
        splits=request.split_files({run: model for model, run in enumerate(runs)}),
        varying=tuple(
            name for name, column in hyperparameters.items() if name != "best_accuracy" and len(column.unique()) > 1
        ),
        classes=10 if reads_images else 4,
        data={"source": "torchvision", "dataset": "MNIST", "normalize": "symmetric"} if reads_images else None,
        recomputable=reads_images,
        architecture="vit" if reads_images else "text_transformer",
        notes=(
            "accuracies are cut to four digits",
            *(("the files called best are of an epoch that nothing says; best_accuracy is theirs",) if best else ()),
            *(() if configurations else ("there is no CSV of the runs, so that hyper-parameters are not known",)),
            *(() if reads_images else ("the embedding of words, which all runs share, is no part of the weights",)),
        ),
    )


def _configurations(archive: Archive) -> dict[str, dict[str, Any]]:
    """Return the row of each run in the CSVs that name files; of several, which differ in the epoch, the first."""
    by_run: dict[str, dict[str, Any]] = {}
    for member in archive.named("*.csv"):
        table = tables.read_csv(archive, member)
        if "ckpt_file" not in table.column_names:
            continue
        for row in table.to_pylist():
            match = _NAME.fullmatch(str(row["ckpt_file"]))
            if match is not None:
                by_run.setdefault(match[1], row)
    return by_run


def _hyperparameters(row: dict[str, Any]) -> dict[str, Any]:
    """Return the hyper-parameters of a run by our names."""
    values = {_OURS.get(name, name): row[name] for name in _HYPERPARAMETERS if row.get(name) is not None}
    if values.get("optimizer") == "sgd_momentum":
        values["optimizer"] = "momentum"
    return {**values, "activation": "relu"}  # of all of them, as the public code has it


def _wiring(shapes: Shapes, steps: int | None, heads: int, *, where: str) -> Wiring:
    """Return the architecture that the shapes of a state's tensors are of."""
    shape_of = dict(shapes)
    patches = shape_of.get("embedding.conv1.weight")
    hidden, head = shape_of.get("encoder.0.fc1.weight"), shape_of.get("classifier.fc2.weight")
    if hidden is None or head is None or (patches is None) != (steps is None):
        raise ZooError(f"{where}: has {', '.join(list(shape_of)[:4])}, ...; expected a transformer as published")
    n_blocks = 1 + max(int(match[1]) for name in shape_of if (match := _BLOCK.fullmatch(name)))
    patch, channels = (4, 1) if patches is None else (patches[2], patches[1])
    side = patch * round((steps or 1) ** 0.5)
    vit = registry.ViT(
        name="vit", patch=patch, width=hidden[1], heads=heads, blocks=n_blocks, mlp_ratio=hidden[0] // hidden[1]
    )
    try:
        network = registry.network(vit, (channels, side, side), head[0])
        if patches is None:  # what the embedding gives takes the place of the patches
            network = registry.network(
                registry.Layers(name="layers", layers=registry.layers_of(vit, head[0])[1:]),
                (_STEPS, hidden[1]),
                head[0],
            )
    except ValueError as error:
        raise ZooError(f"{where}: is no transformer as published ({error})") from None
    sources = in_order((name, shape, _parameter(name, n_blocks)) for name, shape in shapes)
    expected = {parameter.name: parameter.shape for parameter in network.layout.parameters}
    if {source.parameter: source.shape for source in sources} != expected:
        raise ZooError(f"{where}: its tensors have other names or shapes than a transformer as published")
    if patches is None:
        return Wiring(network.layout, sources)
    return Wiring.of(network, sources)


def _parameter(name: str, n_blocks: int) -> str:
    """Return our name of a published tensor; its own where it is none of a transformer's."""
    if match := _BLOCK.fullmatch(name):
        block, part, number, role = match.groups()
        if part is not None:
            return f"attention{int(block) + 1}.{_PARTS.get(part, part)}.{role}"
        return f"linear{2 * int(block) + int(number)}.{role}"
    owner, _, role = name.rpartition(".")
    ours = {
        "embedding.conv1": "convolution1",
        "classifier.fc1": f"linear{2 * n_blocks + 1}",
        "classifier.fc2": f"linear{2 * n_blocks + 2}",
    }
    return f"{ours.get(owner, owner)}.{role}"
