"""From the axes of a manifest to the ordered table of models: one row a model, with its split.

The order is part of a zoo's identity: product axes as written, the last one fastest, then the rows of zip, then the
random draws.
"""

import hashlib
import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pyarrow as pa

from zoo_gen.files import schema
from zoo_gen.manifest import Split, ZooManifest
from zoo_gen.manifest.axes import Axes, Draw
from zoo_gen.manifest.hyperparameters import known

PARTS = ("train", "validation", "test")
MOMENTUM = 0.9  # of the optimiser `momentum`, where a manifest names none


def count_models(manifest: ZooManifest) -> int:
    """Return the number of models of a zoo."""
    axes = manifest.axes
    rows = len(next(iter(axes.zip.values()), (None,)))
    return math.prod(map(len, axes.product.values())) * rows * (axes.random.count if axes.random else 1)


def table_of_models(manifest: ZooManifest) -> pa.Table:
    """Return the table of a zoo's models: model_id, split, and every hyper-parameter, in the order of model_id."""
    return _table_of_models(_Key(schema.digest(manifest, exclude={"description"}), manifest))


@dataclass(frozen=True)
class _Key:
    """A manifest by what it says, which can be hashed."""

    digest: str
    manifest: ZooManifest = field(compare=False)


# Every shard asks for the table of all models, which would make large zoos quadratic.
@lru_cache(maxsize=1)
def _table_of_models(key: _Key) -> pa.Table:
    manifest = key.manifest
    n_models = count_models(manifest)
    columns: dict[str, pa.Array] = {"model_id": pa.array(np.arange(n_models))}
    hyperparameters = _hyperparameters(manifest, n_models)
    for name, values in hyperparameters.items():
        kind = {"name": pa.string(), "whole": pa.int64(), "number": pa.float64()}[known(name).kind]
        same = values.strides == (0,)
        columns[name] = pa.repeat(pa.scalar(values[0].item(), kind), n_models) if same else pa.array(values, kind)
    columns["split"] = parts(manifest.split, hyperparameters, n_models)
    return pa.table(columns)


def split_of_models(manifest: ZooManifest) -> pa.Table:
    """Return the columns model_id and split of the table of models, which need a tenth of its memory."""
    n_models = count_models(manifest)
    drawn = parts(manifest.split, _hyperparameters(manifest, n_models), n_models)
    return pa.table({"model_id": pa.array(np.arange(n_models)), "split": drawn})


def _hyperparameters(manifest: ZooManifest, n_models: int) -> dict[str, np.ndarray]:
    """Return the values (model,) of every hyper-parameter; those that do not vary take no memory."""
    varying = _varying(manifest.axes, n_models)
    found: dict[str, np.ndarray] = {}
    for name in manifest.hyperparameters:
        constant = getattr(manifest.training, name)
        found[name] = varying[name] if name in varying else np.broadcast_to(np.array(constant), n_models)
        if name == "momentum" and manifest.values(name) == ():
            found[name] = np.where(found["optimizer"] == "momentum", MOMENTUM, 0.0)
    return found


def split_sha256(models: pa.Table) -> str:
    """Return the SHA-256 (hex) of which model is in which part, from the columns model_id and split."""
    table = models.select(["model_id", "split"]).sort_by("model_id")
    found = hashlib.sha256()
    for start in range(0, len(table), 10_000):  # a large zoo's rows as Python objects would be its driver's memory
        columns = table.slice(start, 10_000).to_pydict()
        rows = "\n".join(f"{model_id},{part}" for model_id, part in zip(*columns.values(), strict=True))
        found.update(("\n" if start else "").encode() + rows.encode())
    return found.hexdigest()


def parts(split: Split, hyperparameters: dict[str, np.ndarray], n_models: int) -> pa.Array:
    """Return the part of the split (model,) of each model. Groups are ranked by hash: all machines find the same.

    Args:
        split: the shares, and what stays together.
        hyperparameters: all of them, and the seed, name -> (model,).
        n_models: of the zoo.
    """
    group_of_model, n_groups = _groups(split, hyperparameters, n_models)
    digests = (hashlib.sha256(f"{split.seed}:{group}".encode()).digest() for group in range(n_groups))
    ranks = np.argsort(np.fromiter(digests, dtype="S32", count=n_groups), kind="stable")
    shares = np.cumsum([split.train, split.validation, split.test])
    ends = np.rint(shares * n_groups).astype(int)
    part_of_group = np.empty(n_groups, dtype=np.int8)
    start = 0
    for part, end in enumerate(ends):
        part_of_group[ranks[start:end]] = part
        start = end
    return pa.array(PARTS).take(pa.array(part_of_group[group_of_model]))


def _varying(axes: Axes, n_models: int) -> dict[str, np.ndarray]:
    """Return the values (model,) of each hyper-parameter that varies."""
    rows = np.arange(n_models)
    columns: dict[str, np.ndarray] = {}
    if axes.random:
        for name, draw in axes.random.draw.items():
            columns[name] = _draw(name, draw, axes.random.seed, n_models)
        rows = rows // axes.random.count
    if axes.zip:
        length = len(next(iter(axes.zip.values())))
        for name, values in axes.zip.items():
            columns[name] = np.array(values)[rows % length]
        rows = rows // length
    for name, values in reversed(axes.product.items()):
        columns[name] = np.array(values)[rows % len(values)]
        rows = rows // len(values)
    return columns


def _draw(name: str, draw: Draw, seed: int, count: int) -> np.ndarray:
    """Return `count` draws; each axis has a stream of its own, so that adding one leaves the others as they are."""
    words = np.frombuffer(hashlib.sha256(f"{seed}:{name}".encode()).digest(), np.uint32)
    random = np.random.RandomState(words)
    if draw.choice is not None:
        return np.array(draw.choice)[random.randint(len(draw.choice), size=count)]
    uniform = random.random_sample(count)
    if draw.log_uniform is not None:
        low, high = np.log(draw.log_uniform)
        values = np.exp(low + (high - low) * uniform)
        return np.rint(values).astype(np.int64) if known(name).kind == "whole" else values
    assert draw.uniform is not None  # the manifest has checked that one of the three is given
    first, last = draw.uniform
    if known(name).kind == "whole":
        return (int(first) + np.floor(uniform * (int(last) - int(first) + 1))).astype(np.int64)
    return first + (last - first) * uniform


def _groups(split: Split, hyperparameters: dict[str, np.ndarray], n_models: int) -> tuple[np.ndarray, int]:
    """Return the group (model,) of each model, numbered by first appearance, and the number of groups."""
    if split.group_by == "model":
        return np.arange(n_models), n_models
    names = ["seed"] if split.group_by == "seed" else [name for name in hyperparameters if name != "seed"]
    numbers: dict[tuple[object, ...], int] = {}
    rows = zip(*(hyperparameters[name].tolist() for name in names), strict=True)
    groups = np.array([numbers.setdefault(row, len(numbers)) for row in rows])
    return groups, len(numbers)
