"""Checks of a manifest's [training] against its data, network and epochs: what changes nothing or cannot be done.

All raise ValueError.
"""

# ruff: noqa: D102, as `ZooManifest` says what each answer of a `Trained` means

import math
from collections.abc import Mapping
from itertools import product
from typing import Protocol

from zoo_gen.architecture.layers import Dropout, Normalization
from zoo_gen.architecture.mixed import AnyArchitecture, Mixed
from zoo_gen.architecture.network import Network
from zoo_gen.architecture.registry import Architecture
from zoo_gen.architecture.shapes import shapes as layer_shapes
from zoo_gen.errors import unknown_name
from zoo_gen.image_data import DataSource
from zoo_gen.manifest.architectures import AXIS
from zoo_gen.manifest.axes import Axes
from zoo_gen.manifest.hyperparameters import HYPERPARAMETERS, OPTIONAL, Value, is_own
from zoo_gen.manifest.split import Split
from zoo_gen.manifest.training import Training


class Trained(Protocol):
    """What a manifest says of training; see `ZooManifest` for what each answer means."""

    @property
    def data(self) -> DataSource: ...
    @property
    def training(self) -> Training: ...
    @property
    def axes(self) -> Axes: ...
    @property
    def split(self) -> Split: ...
    @property
    def hyperparameters(self) -> tuple[str, ...]: ...
    @property
    def architecture(self) -> AnyArchitecture: ...
    @property
    def architectures(self) -> Mapping[str, Architecture]: ...
    @property
    def networks(self) -> Mapping[str, Network]: ...
    @property
    def own_functions(self) -> Mapping[str, str]: ...
    def values(self, name: str) -> tuple[Value, ...]: ...
    def place(self, name: str) -> str: ...


def check_training(manifest: Trained) -> None:
    """Refuse what this data or this number of epochs leaves no room for; the error begins with its place."""
    values, place, shape = manifest.values, manifest.place, manifest.data.input_shape
    if any(values("label_smoothing")):
        if manifest.data.task != "classification":
            raise ValueError(f"{place('label_smoothing')}: the data has no classes; expected 0")
        if all(map(is_own, values("loss"))):
            raise ValueError(f"{place('label_smoothing')}: is of the standard loss, not of one's own; expected 0")
    for name in ("crop_padding", "flip"):
        if any(values(name)) and len(shape) != 3:
            raise ValueError(f"{place(name)}: the data has no images of rows and columns; expected 0")
    if (padding := max(map(int, values("crop_padding")))) > min(shape[1:], default=0):
        raise ValueError(f"{place('crop_padding')}: {padding} exceeds the {min(shape[1:])} pixels of a side")
    epochs = manifest.training.epochs
    if (warm_up := max(map(float, values("warm_up_epochs")))) >= epochs:
        raise ValueError(f"{place('warm_up_epochs')}: {warm_up:g} leaves none of {epochs} epochs after it")
    for reference in set(manifest.training.source_sha256).difference(manifest.own_functions):
        raise ValueError(f"training.source_sha256: {reference!r} is used by no part of this zoo; expected no digest")


def check_architectures(manifest: Trained) -> None:
    """Refuse architectures that do not fit the data, and an axis of architectures that names others.

    Raises:
        ValueError: one does; the message begins with its place.
    """
    try:
        known = manifest.architectures
    except ValueError as error:
        raise ValueError(f"architecture.{error}") from None
    for name in manifest.values(AXIS) if isinstance(manifest.architecture, Mixed) else ():
        if name not in known:
            raise ValueError(f"{manifest.place(AXIS)}: {unknown_name('architecture', str(name), known)}")
    try:
        _ = manifest.networks
    except ValueError as error:
        raise ValueError(f"architecture.{error}") from None


def check_use(manifest: Trained) -> None:
    """Refuse hyper-parameters that would change nothing; the error begins with its place."""
    layers = [layer for network in manifest.networks.values() for layer in network.layers]
    has_dropout = any(isinstance(layer, Dropout) for layer in layers)
    for name in [*manifest.training.model_fields_set, *manifest.axes.names]:
        if name in HYPERPARAMETERS and name not in (*manifest.hyperparameters, *OPTIONAL):
            raise ValueError(f"{manifest.place(name)}: is used by no part of this zoo; expected it to be left out")
    if not has_dropout and any(manifest.values("dropout")):
        raise ValueError(f"{manifest.place('dropout')}: {manifest.architecture.name} has no dropout layer; expected 0")


def check_initialization(manifest: Trained) -> None:
    """Refuse schemes that draw weights of two axes or more and biases, where a module has something else.

    Raises:
        ValueError: there is such a scheme; the message begins with its place.
    """
    others = [scheme for scheme in manifest.values("initialization") if scheme != "module"]
    modules = [network for network in manifest.networks.values() if network.own_module is not None]
    for parameter in [each for network in modules for each in network.layout.parameters] if others else ():
        if parameter.role != "bias" and not (parameter.role == "weight" and len(parameter.shape) > 1):
            raise ValueError(
                f"{manifest.place('initialization')}: {others[0]!r} does not draw {parameter.name} of shape "
                f"{list(parameter.shape)}; expected 'module', which is what the module itself draws"
            )


def check_images(manifest: Trained) -> None:
    """Refuse numbers of images that there are not, and splits by images where there are none.

    Raises:
        ValueError: there are such; the message begins with its place.
    """
    data, split = manifest.data, manifest.split
    n_images = sum(data.fitted_images)
    if not n_images:
        if split.by_image_part or split.group_by == "image":
            key = "by_image_part" if split.by_image_part else "group_by"
            raise ValueError(f"split.{key}: is for networks that are fitted to images; expected it to be left out")
        return
    largest = max(map(int, manifest.values("image")))
    if largest >= n_images:
        raise ValueError(
            f"{manifest.place('image')}: {largest} lies beyond the {n_images:,} images of the image set; expected "
            f"0 to {n_images - 1}"
        )


def check_batches(manifest: Trained) -> None:
    """Refuse batches of a single value where their mean and variance are asked for; the error begins with its place."""
    single = (
        layer.name
        for network in manifest.networks.values()
        for layer, shape in zip(network.layers, layer_shapes(network.layers, network.input_shape), strict=True)
        if isinstance(layer, Normalization) and math.prod(shape[1:]) == 1
    )
    name = next(single, None)
    if name is None:
        return
    shares = [float(share) for share in manifest.values("train_fraction") or (1.0,)]
    for batch_size, share in product(map(int, manifest.values("batch_size")), shares):
        last = max(1, round(share * manifest.data.n_train)) % batch_size
        if batch_size == 1 or (last == 1 and not manifest.training.drop_last):
            which = "a batch" if batch_size == 1 else "the last batch of an epoch"
            raise ValueError(
                f"{manifest.place('batch_size')}: {batch_size} leaves {which} one image, whose values {name} cannot "
                "normalise; expected another size" + (", or drop_last" if batch_size > 1 else "")
            )
