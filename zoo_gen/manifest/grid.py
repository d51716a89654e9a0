"""From the axes of a manifest to the ordered table of models: one row a model, with its split.

The order is part of a zoo's identity: product axes as written, the last one fastest, then the rows of zip, then the
random draws. In a mixed zoo models of one architecture stand together, in that order.
"""

# ruff: noqa: D102, as `ZooManifest` says what each answer of a `Gridded` means

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from zoo_gen.image_data import DataSource
from zoo_gen.manifest.architectures import AXIS
from zoo_gen.manifest.axes import Axes, Draw
from zoo_gen.manifest.hyperparameters import checked, known
from zoo_gen.manifest.split import Split, parts

MOMENTUM = 0.9  # of the optimisers below, where a manifest names none
_WITH_MOMENTUM = ("momentum", "nesterov")
IMAGE = "image"  # that a network is fitted to; its number is the seed of a model whose manifest names none


class Gridded(Protocol):
    """What a manifest says of its grid; see `ZooManifest` for what each answer means."""

    @property
    def digest(self) -> str: ...
    @property
    def axes(self) -> Axes: ...
    @property
    def split(self) -> Split: ...
    @property
    def data(self) -> DataSource: ...
    @property
    def training(self) -> BaseModel: ...
    @property
    def hyperparameters(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class _Key:
    """A manifest by its digest, which can be hashed."""

    digest: str
    manifest: Gridded = field(compare=False)


def table_of_models(manifest: Gridded) -> pa.Table:
    """Return the table of a zoo's models: model_id, split, and every hyper-parameter, in the order of model_id."""
    return _table_of_models(_Key(manifest.digest, manifest))


# Every shard asks for the table of all models, which would make large zoos quadratic.
@lru_cache(maxsize=1)
def _table_of_models(key: _Key) -> pa.Table:
    manifest, n_models = key.manifest, key.manifest.axes.n_models
    columns: dict[str, pa.Array] = {"model_id": pa.array(np.arange(n_models))}
    hyperparameters = _hyperparameters(manifest, n_models)
    for name, values in hyperparameters.items():
        kind = {"name": pa.string(), "whole": pa.int64(), "number": pa.float64()}[known(name).kind]
        same = values.strides == (0,)
        columns[name] = pa.repeat(pa.scalar(values[0].item(), kind), n_models) if same else pa.array(values, kind)
    columns["split"] = parts(manifest.split, hyperparameters, n_models, image_parts=manifest.data.fitted_images)
    return pa.table(columns)


def split_of_models(manifest: Gridded) -> pa.Table:
    """Return the columns model_id and split of the table of models, which need a tenth of its memory."""
    n_models = manifest.axes.n_models
    hyperparameters = _hyperparameters(manifest, n_models)
    drawn = parts(manifest.split, hyperparameters, n_models, image_parts=manifest.data.fitted_images)
    return pa.table({"model_id": pa.array(np.arange(n_models)), "split": drawn})


def _hyperparameters(manifest: Gridded, n_models: int) -> dict[str, np.ndarray]:
    """Return the values (model,) of every hyper-parameter; those that do not vary take no memory."""
    varying = _varying(manifest.axes, n_models)
    columns: dict[str, np.ndarray] = {}
    for name in manifest.hyperparameters:
        constant = getattr(manifest.training, name)
        if name in varying:
            columns[name] = varying[name]
        elif name == "momentum" and constant is None:
            columns[name] = np.where(np.isin(columns["optimizer"], _WITH_MOMENTUM), MOMENTUM, 0.0)
        elif name == "seed" and constant is None:
            columns[name] = varying.get(IMAGE, np.broadcast_to(np.array(getattr(manifest.training, IMAGE)), n_models))
        else:
            columns[name] = np.broadcast_to(np.array(constant), n_models)
    return columns


def has_default(name: str, hyperparameters: Collection[str]) -> bool:
    """Return whether the table of models knows what a hyper-parameter is where a manifest does not say it."""
    return name == "momentum" or (name == "seed" and IMAGE in hyperparameters)


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
    if AXIS in columns:  # models of one architecture stand together, as they are trained
        places = {name: place for place, name in enumerate(_first_named(axes))}
        order = np.argsort([places[name] for name in columns[AXIS].tolist()], kind="stable")
        columns = {name: values[order] for name, values in columns.items()}
    return columns


def _first_named(axes: Axes) -> list[str]:
    """Return the names of architectures in the order in which an axis lists them."""
    draws = axes.random.draw if axes.random else {}
    values = axes.product.get(AXIS) or axes.zip.get(AXIS) or draws[AXIS].values
    return [str(name) for name in dict.fromkeys(values)]


def _draw(name: str, draw: Draw, seed: int, count: int) -> np.ndarray:
    """Return `count` draws; each axis has a stream of its own, so that adding one leaves the others as they are."""
    words = np.frombuffer(hashlib.sha256(f"{seed}:{name}".encode()).digest(), np.uint32)
    random = np.random.RandomState(words)
    if draw.choice is not None:
        return np.array([checked(name, value) for value in draw.choice])[random.randint(len(draw.choice), size=count)]
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
