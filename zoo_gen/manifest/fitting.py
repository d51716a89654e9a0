"""Checks of a manifest's [training] against its data and its epochs: what would change nothing, or cannot be done."""

from collections.abc import Mapping
from typing import Protocol

from zoo_gen.image_data import DataSource
from zoo_gen.manifest.hyperparameters import Value, is_own
from zoo_gen.manifest.training import Training


class Trained(Protocol):
    """What a manifest says of training."""

    @property
    def data(self) -> DataSource:
        """What the models learn."""

    @property
    def training(self) -> Training:
        """How they are trained."""

    @property
    def own_functions(self) -> Mapping[str, str]:
        """The functions and classes of the user's own, by reference."""

    def values(self, name: str) -> tuple[Value, ...]:
        """Return the values that a hyper-parameter can take."""

    def place(self, name: str) -> str:
        """Return where a hyper-parameter stands in the file."""


def check_training(manifest: Trained) -> None:
    """Refuse what this data or this number of epochs leaves no room for.

    Raises:
        ValueError: something does; the message begins with its place.
    """
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
