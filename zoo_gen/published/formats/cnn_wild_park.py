"""CNN Wild Park (Kofinas et al., ICLR 2024): <trial>/<checkpoint>/checkpoint.pt of CNNs of many architectures.

A file holds the weights, the optimiser's state, the architecture as an OmegaConf node of a class that was never
published, and Ray's state with the test accuracy. Nodes are read through stand-ins; what they hold are plain values.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from zoo_gen.architecture.layers import Activate, Convolution, GlobalPooling, Layer, Linear, Residual
from zoo_gen.errors import ZooError
from zoo_gen.published import splits
from zoo_gen.published.account import Account
from zoo_gen.published.archives.archive import Archive
from zoo_gen.published.archives.pickles import Reader, plain
from zoo_gen.published.formats import networks, states, tables
from zoo_gen.published.formats.checkpoints import placed
from zoo_gen.published.reading import Reading, Request, Wiring
from zoo_gen.published.splits import SplitTable

_NODES = ("AnyNode", "BooleanNode", "BytesNode", "EnumNode", "FloatNode", "IntegerNode", "PathNode", "StringNode")
_PLAIN = ("int", "str", "float", "bool", "dict", "list", "tuple", "type", "bytes", "object", "NoneType", "set")
EXPECTED = frozenset(
    [f"omegaconf.{name}" for name in ("dictconfig.DictConfig", "listconfig.ListConfig", "base.ContainerMetadata")]
    + [f"omegaconf.{name}" for name in ("base.Metadata", "base.SCMode", "nodes.UnionNode", "base.UnionNode")]
    + [f"omegaconf.nodes.{name}" for name in (*_NODES, "ValueNode", "InterpolationResultNode")]
    + [f"typing.{name}" for name in ("Any", "Dict", "List", "Tuple", "Union", "Optional", "Sequence")]
    + [f"builtins.{name}" for name in _PLAIN]
    + ["operator.getitem", "_operator.getitem", "types.GenericAlias", "types.UnionType", "collections.defaultdict"]
    + ["pathlib.PosixPath", "pathlib.Path", "datetime.datetime", "enum.Enum", "typing._GenericAlias", "types.NoneType"]
    + [f"numpy.{place}.multiarray.scalar" for place in ("core", "_core")]
    + ["numpy.dtype", "copyreg._reconstructor"]
)
# The module that was never published, and the one that was.
FAMILY = re.compile(r"((\w+\.)*create_random_cnns|(\w+\.)*cnn_sampler)\.\w+")
FORMAT = "cnn_wild_park"
_STATE = re.compile(r"(?:(.*)/)?([^/]+)/([^/]+)/checkpoint\.pt")
_NUMBER = re.compile(r"\d+")
_SIDE = 32  # of the images of CIFAR-10, on which all were trained


def read(archive: Archive, request: Request) -> Reading:
    """Return what the archive holds."""
    files = {name: match for name in archive.named("checkpoint.pt") if (match := _STATE.fullmatch(name))}
    if not files:
        raise ZooError(f"{archive.path}: holds no <trial>/<checkpoint>/checkpoint.pt")
    reader = Reader(EXPECTED, family=FAMILY, scratch=request.scratch, format=FORMAT)
    runs = sorted({name.rsplit("/", 2)[0] for name in files})  # sorted paths, as the public code numbers them
    number = {run: position for position, run in enumerate(runs)}
    facts: list[dict[str, Any]] = []
    stored = states.States(archive, request, partial(states.read_state, archive, reader, account=request.account))
    architectures = states.Architectures()
    wiring_of_model = np.full(len(runs), -1, dtype=np.int64)
    hyperparameters: list[dict[str, Any]] = [{} for _ in runs]
    member_of: dict[tuple[int, int], str] = {}
    for name in sorted(files):
        model = number[name.rsplit("/", 2)[0]]
        fact, config, shapes = _look(archive, reader, stored, name, request.account)
        facts.append({"model": model, "epoch": fact["iteration"], "source.path": name, **fact["results"]})
        if (model, fact["iteration"]) in member_of:
            raise ZooError(
                f"{archive.where(name)}: is iteration {fact['iteration']}, as {member_of[model, fact['iteration']]}"
            )
        member_of[model, fact["iteration"]] = name
        key = (states.signature(shapes), repr(config))
        number_of = architectures.number(key, partial(_wiring, shapes, config, where=archive.where(name)))
        if wiring_of_model[model] not in (-1, number_of):
            raise ZooError(f"{archive.where(name)}: has another architecture than the earlier states of its trial")
        wiring_of_model[model] = number_of
        hyperparameters[model] = {key: _short(value) for key, value in (config or {}).items()}
    rows = np.array(list(member_of), dtype=np.int64)
    places = placed(rows[:, 0], rows[:, 1], where=str(archive.path), account=request.account, means="iteration")
    place_of = dict(zip(member_of, places.of_row.tolist(), strict=True))
    member_at = {(model, place_of[model, epoch]): name for (model, epoch), name in member_of.items()}
    present = np.zeros((len(runs), len(places.epochs)), dtype=bool)
    metrics = {name: np.full(present.shape, np.nan, dtype=np.float32) for name in ("test_accuracy", "test_loss")}
    for fact in facts:
        cell = fact["model"], place_of[fact["model"], fact["epoch"]]
        present[cell] = True
        fact["source.iteration"], fact["epoch"] = fact["epoch"], int(places.epochs[cell[1]])
        for ours, theirs in (("test_accuracy", "source.test/acc"), ("test_loss", "source.test/loss")):
            if isinstance(fact.get(theirs), int | float):
                metrics[ours][cell] = fact[theirs]
    wirings = architectures.wirings
    columns = tables.columns_of(hyperparameters)
    by_column = tables.columns_of(facts)

    def weights_of(model: int, checkpoints: np.ndarray) -> np.ndarray:
        members = [member_at[model, place] for place in checkpoints.tolist()]
        return stored.vectors(members, wirings[wiring_of_model[model]])

    return Reading(
        name=archive.path.name.split(".")[0],
        wirings=tuple(wirings),
        wiring_of_model=wiring_of_model,
        models=pa.table({"run": pa.array(runs), **columns}),
        epochs=places.epochs,
        present=present,
        metrics={name: values for name, values in metrics.items() if np.isfinite(values).any()},
        read=weights_of,
        states=pa.table({**by_column, "epoch": by_column["epoch"].cast(pa.int32())}),
        splits=_splits(archive, request, runs, member_of),
        varying=tuple(name for name, column in columns.items() if len(column.unique()) > 1),
        classes=wirings[0].layout.parameters[-1].shape[0],
        data={"source": "torchvision", "dataset": "CIFAR10", **_NORMALIZED},
        epoch_means=places.means,
        architecture="wild_park_cnn",
        notes=("epochs are Ray's iterations; the metrics are those of last_result, on the test images",),
    )


_NORMALIZED = {"normalize": {"mean": [0.4914, 0.4822, 0.4465], "deviation": [0.2470, 0.2435, 0.2616]}}


def _look(
    archive: Archive, reader: Reader, stored: states.States, name: str, account: Account
) -> tuple[dict[str, Any], dict[str, Any] | None, states.Shapes]:
    """Return iteration and results of a checkpoint, its architecture as plain data, and the shapes of its tensors."""
    where = archive.where(name)
    tree = reader.member(archive, name)
    if not isinstance(tree, Mapping):
        raise ZooError(f"{where}: holds {type(tree).__name__}; expected a table with model, config and last_result")
    shapes = stored.shapes(name, states.tensors_of(tree, where=where, account=account))
    config = plain(tree.get("config"))
    results = plain(tree.get("last_result")) or {}
    iteration = tree.get("iteration", tree.get("_iteration", results.get("training_iteration")))
    if not isinstance(iteration, int):
        numbers = _NUMBER.findall(name.rsplit("/", 2)[1])
        if not numbers:
            raise ZooError(f"{where}: names no iteration, and neither does its folder")
        iteration = int(numbers[-1])
    stays = {key: value for key, value in results.items() if isinstance(value, int | float) and "/" in str(key)}
    fact = {"iteration": iteration, "results": {f"source.{key}": value for key, value in stays.items()}}
    return fact, config if isinstance(config, dict) else None, shapes


def _wiring(shapes: states.Shapes, config: Mapping[str, Any] | None, *, where: str) -> Wiring:
    """Return an architecture: convolutions with activations and additions as configured, a mean, a linear layer."""
    convolutions = [shape for _, shape in shapes if len(shape) == 4]
    matrices = [shape for _, shape in shapes if len(shape) == 2]
    expected = [shape for kernel in (*convolutions, *matrices) for shape in (kernel, kernel[:1])]
    if config is None or len(matrices) != 1 or expected != [shape for _, shape in shapes]:
        return states.wiring_of(shapes, None, None)
    n_layers = len(convolutions)
    activations = _list(config, "activation", n_layers, "relu", where=where)
    strides = _list(config, "stride", n_layers, 1, where=where)
    paddings = _list(config, "padding", n_layers, None, where=where)
    residuals = _list(config, "residual", n_layers, -1, where=where)
    layers: list[Layer] = []
    for number, kernel in enumerate(convolutions):
        side = kernel[2]
        padding = side // 2 if paddings[number] is None else int(paddings[number])
        name = f"convolution{number + 1}"
        layers.append(Convolution(name, kernel[1], kernel[0], side, int(strides[number]), padding, bias=True))
        earlier = int(residuals[number])
        if earlier >= 0:
            channels = min(convolutions[earlier][0], kernel[0])
            layers.append(Residual(f"residual{number + 1}", f"activation{earlier + 1}", channels))
        function: Any = networks.activation(activations[number])
        layers.append(Activate(f"activation{number + 1}", function))
    layers += [GlobalPooling("global_average_pooling1"), Linear("linear1", *matrices[0][::-1], bias=True)]
    return states.wiring_of(shapes, layers, (convolutions[0][1], _SIDE, _SIDE))


def _list(config: Mapping[str, Any], name: str, length: int, default: Any, *, where: str) -> Sequence[Any]:
    """Return a list of the configuration, a value a layer; one value stands for all."""
    value = config.get(name, default)
    if not isinstance(value, list):
        value = [value] * length
    if len(value) != length:
        raise ZooError(f"{where}: its configuration has {len(value)} values of {name}; expected {length}, one a layer")
    return value


def _short(value: Any) -> Any:
    """Return a value of a configuration as a cell: a list as text."""
    return ",".join(map(str, value)) if isinstance(value, list) else value


def _splits(
    archive: Archive, request: Request, runs: list[str], member_of: Mapping[tuple[int, int], str]
) -> dict[str, SplitTable]:
    model_of_path = {name: model for (model, _), name in member_of.items()}
    split_tables = request.split_files(model_of_path)
    for name in archive.named("cnn_park_splits.json")[:1]:
        path = archive.on_disk(name, request.scratch)
        split_tables.setdefault("wild_park", splits.of_paths(path, model_of_path))
    if len(runs) > 75:
        how = "trials sorted by path, train_test_split with seed 42: 50 for testing, then 25 for validation"
        split_tables["wild_park_code"] = splits.grouped(len(runs), test=50, validation=25, seed=42, how=how)
    if not split_tables:
        how = "trials sorted by path, seed 42, shuffled, 70/15/15; the publication's own file was not given"
        split_tables["run_wise"] = splits.run_wise(len(runs), how=how)
    return split_tables
