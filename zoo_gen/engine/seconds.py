"""The seconds that training takes of each model, from timed steps; of mixed zoos, of each architecture.

Of many architectures a few are timed, evenly spread by their operations, and the others lie between them.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from zoo_gen.architecture.network import Network
from zoo_gen.architecture.shapes import parameter_shapes, shapes
from zoo_gen.engine import timing
from zoo_gen.engine.training import by_architecture
from zoo_gen.manifest import ZooManifest

_MOST_TIMED = 4  # architectures


def of_models(
    manifest: ZooManifest, models: pa.Table, tasks: Sequence[np.ndarray], *, device: str
) -> tuple[np.ndarray, float]:
    """Return the seconds that each model takes (model,), and those of a process before its first step.

    Args:
        manifest: of the zoo.
        models: a row a model.
        tasks: the rows of the models that are one task of a worker.
        device: "cpu" or a GPU.
    """
    if not manifest.ragged:
        speed = timing.measure(manifest, models, tasks, device=device)
        return _with_speed(manifest, models, speed), speed.start
    members = dict(by_architecture(manifest, models))
    operations = {name: count_operations(manifest.networks[name]) for name in members}
    by_cost = sorted(members, key=lambda name: (operations[name], name))
    timed = timing.spread(by_cost, _MOST_TIMED)
    speeds = {}
    for name in timed:
        tasks_of_architecture = [np.flatnonzero(np.isin(members[name], rows)) for rows in tasks]
        speeds[name] = timing.measure(
            manifest.of_architecture(name),
            models.take(members[name]),
            [rows for rows in tasks_of_architecture if len(rows)],
            device=device,
            budget=timing.BUDGET / len(timed),
        )
    compilation = float(np.mean([speed.compilation for speed in speeds.values()]))
    seconds = np.empty(len(models))
    for name, rows in members.items():
        some = models.take(rows)
        each = [_with_speed(manifest, some, speeds[other]) for other in timed]  # as if it cost what the other does
        places = [operations[other] for other in timed]
        between = [np.interp(operations[name], places, of_model) for of_model in zip(*each, strict=True)]
        seconds[rows] = np.array(between) + compilation / len(rows)
    return seconds, float(np.mean([speed.start - speed.compilation for speed in speeds.values()]))


def count_operations(network: Network) -> int:
    """Return how many products of a weight and a value a forward pass of one input takes, about."""
    if network.own_module is not None:
        return network.layout.size
    count = 0
    for layer, shape in zip(network.layers, shapes(network.layers, network.input_shape), strict=True):
        places = int(np.prod(shape[1:])) if len(shape) == 3 else shape[0] if len(shape) == 2 else 1
        count += places * sum(int(np.prod(of_one)) for _, of_one in parameter_shapes(layer))
    return count


def kinds(manifest: ZooManifest, models: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return the batch size of each model, and the number of its training images."""
    fractions = models["train_fraction"].to_numpy() if "train_fraction" in models.column_names else 1.0
    n_train = np.maximum(1, np.rint(fractions * manifest.data.n_train)).astype(np.int64)
    return models["batch_size"].to_numpy().astype(np.int64), np.broadcast_to(n_train, len(models))


def steps(manifest: ZooManifest, batch_sizes: np.ndarray, n_train: np.ndarray) -> np.ndarray:
    """Return the steps of one epoch of each model."""
    whole, rest = np.divmod(n_train, batch_sizes)
    return whole + ((rest > 0) & (not manifest.training.drop_last))


def _with_speed(manifest: ZooManifest, models: pa.Table, speed: timing.Speed) -> np.ndarray:
    """Return the seconds that training takes of each model, its share of what is trained together."""
    batch_sizes, n_train = kinds(manifest, models)
    measured = manifest.checkpoints.train_images
    n_evaluated = n_train if measured == "all" else np.minimum(n_train, measured)
    images = len(manifest.checkpoint_epochs) * (n_evaluated + manifest.data.n_validation + manifest.data.n_test)
    taken = manifest.training.epochs * steps(manifest, batch_sizes, n_train)
    return speed.beginning + taken * speed.step(batch_sizes) + images * speed.evaluation
