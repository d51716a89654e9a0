"""ZooManifest: the one text file that says what a zoo is, checked before anything is computed.

A hyper-parameter stands either in [training], equal for all models, or in [axes], where it varies; never in both.
"""

import math
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import BeforeValidator, Field, Strict, field_validator, model_validator

from zoo_gen import schema
from zoo_gen.architectures import Architecture
from zoo_gen.errors import ZooError, unknown_name
from zoo_gen.hyperparameters import HYPERPARAMETERS, Seed, Value, checked, known
from zoo_gen.image_data import DataSource
from zoo_gen.schema import Schema

Count = Annotated[int, Strict(), Field(gt=0)]
Fraction = Annotated[float, Strict(), Field(ge=0, le=1)]
Number = Annotated[float, Strict()] | Annotated[int, Strict()]


def _axis(axis: Any) -> Any:
    """Return the values of an axis written as a list or as { range = [first, last] }, both ends included."""
    if isinstance(axis, dict) and set(axis) == {"range"}:
        ends = axis["range"]
        if not (isinstance(ends, list) and len(ends) == 2 and all(type(end) is int for end in ends)):
            raise ValueError(f"range must be two whole numbers [first, last], got {ends!r}")
        axis = list(range(ends[0], ends[1] + 1))
        if not axis:
            raise ValueError(f"range {ends} is empty; expected first <= last")
    if not isinstance(axis, list | tuple):
        raise ValueError(f"expected a list of values or {{ range = [first, last] }}, got {axis!r}")
    if not axis:
        raise ValueError("is empty; expected at least one value")
    return axis


Axis = Annotated[tuple[Any, ...], BeforeValidator(_axis)]


class Draw(Schema):
    """How one hyper-parameter is drawn: exactly one of the three. A whole-numbered one is drawn from whole numbers."""

    uniform: tuple[Number, Number] | None = None
    log_uniform: tuple[Number, Number] | None = None
    choice: Axis | None = None

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        if sum(way is not None for way in (self.uniform, self.log_uniform, self.choice)) != 1:
            raise ValueError("expected exactly one of uniform, log_uniform, choice")
        for bounds in (self.uniform, self.log_uniform):
            if bounds is not None and not bounds[0] < bounds[1]:
                raise ValueError(f"bounds {list(bounds)} are empty; expected low < high")
        if self.log_uniform is not None and self.log_uniform[0] <= 0:
            raise ValueError(f"log_uniform bounds {list(self.log_uniform)} must be positive")
        return self

    @property
    def values(self) -> tuple[Value, ...]:
        """What is written: the bounds or the choices."""
        return self.uniform or self.log_uniform or self.choice or ()


class RandomAxes(Schema):
    """`count` fresh draws for every combination of the other axes; the same seed gives the same draws."""

    count: Count
    seed: Seed
    draw: dict[str, Draw] = Field(min_length=1)


class Axes(Schema):
    """What varies: every combination of `product`, times the rows of `zip`, times the draws of `random`."""

    product: dict[str, Axis] = Field(default_factory=dict)
    zip: dict[str, Axis] = Field(default_factory=dict)
    random: RandomAxes | None = None

    @field_validator("product", "zip")
    @classmethod
    def _known_values(cls, axes: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Value, ...]]:
        for name in axes:
            known(name)
        return {
            name: tuple(checked(name, value, where=f"{name}[{position}]") for position, value in enumerate(values))
            for name, values in axes.items()
        }

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        for name, draw in (self.random.draw if self.random else {}).items():
            if known(name).kind == "name" and draw.choice is None:
                raise ValueError(f"random.draw.{name}: its values are names; expected choice = [...]")
            for value in draw.values:
                checked(name, value, where=f"random.draw.{name}")
        for name, values in self.product.items():
            if len(set(values)) != len(values):
                raise ValueError(f"product.{name}: holds a value twice, which would train the same models twice")
        if len({len(values) for values in self.zip.values()}) > 1:
            lengths = ", ".join(f"{name} has {len(values)}" for name, values in self.zip.items())
            raise ValueError(f"zip: axes must be of one length, but {lengths}")
        for name in self.names:
            if self.names.count(name) > 1:
                raise ValueError(f"{name}: stands in more than one of product, zip and random")
        if not self.names:
            raise ValueError("the grid is empty; expected an axis, such as product.seed = { range = [1, 100] }")
        return self

    @property
    def names(self) -> list[str]:
        """The hyper-parameters that vary."""
        return [*self.product, *self.zip, *(self.random.draw if self.random else ())]


class Training(Schema):
    """How every model is trained. A hyper-parameter without a default must stand either here or in the axes."""

    epochs: Count
    batch_size: Count
    seed: Any = None
    activation: Any = None
    initialization: Any = None
    optimizer: Any = None
    learning_rate: Any = None
    momentum: Any = 0.0
    weight_decay: Any = 0.0

    @field_validator(*HYPERPARAMETERS)
    @classmethod
    def _known_value(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        return checked(str(info.field_name), value)


class Checkpoints(Schema):
    """Which epochs are kept: "all" (0, before training, to the last), or a list."""

    epochs: Literal["all"] | tuple[Annotated[int, Strict(), Field(ge=0)], ...] = "all"

    @field_validator("epochs", mode="before")
    @classmethod
    def _rising(cls, epochs: Any) -> Any:
        if epochs == "all":
            return epochs
        whole = isinstance(epochs, list | tuple) and all(type(epoch) is int for epoch in epochs)
        if not whole or not epochs or list(epochs) != sorted(set(epochs)):
            raise ValueError(f'expected "all" or a rising list of epochs such as [0, 1, 10], got {epochs!r}')
        return epochs


class Split(Schema):
    """The shares of the models in each part, and what must stay together in one part.

    `group_by`: "model" (every model on its own), "configuration" (all seeds of one setting of the other
    hyper-parameters together) or "seed" (all settings of one seed together).
    """

    train: Fraction = 0.70
    validation: Fraction = 0.15
    test: Fraction = 0.15
    seed: Seed = 0
    group_by: Literal["model", "configuration", "seed"] = "model"

    @model_validator(mode="after")
    def _shares_of_one(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train, validation and test must add up to 1, got {total:g}")
        return self


class Storage(Schema):
    """How the models are cut into shards; None lets the store choose by size."""

    models_per_shard: Count | None = None


class ZooManifest(Schema):
    """Everything that determines a zoo."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=100)
    description: str = ""
    data: DataSource
    architecture: Architecture
    training: Training
    checkpoints: Checkpoints = Checkpoints()
    axes: Axes
    split: Split = Split()
    storage: Storage = Storage()

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        for name in HYPERPARAMETERS:
            here, varies = name in self.training.model_fields_set, name in self.axes.names
            if here and varies:
                raise ValueError(f"training.{name}: also stands in axes; expected one of the two")
            if not varies and getattr(self.training, name) is None:
                raise ValueError(f"training.{name}: is missing; expected here or as an axis")
        pixels, classes = math.prod(self.data.image_shape), self.data.n_classes
        if self.architecture.widths[0] != pixels:
            first = self.architecture.widths[0]
            raise ValueError(
                f"architecture.widths: begins with {first}; {self.data.source} images have {pixels} pixels"
            )
        if self.architecture.widths[-1] != classes:
            last = self.architecture.widths[-1]
            raise ValueError(f"architecture.widths: ends with {last}; {self.data.source} has {classes} classes")
        if self.training.batch_size > self.data.n_train:
            limit = self.data.n_train
            raise ValueError(f"training.batch_size: {self.training.batch_size} exceeds the {limit} training images")
        if self.checkpoint_epochs[-1] > self.training.epochs:
            last = self.checkpoint_epochs[-1]
            raise ValueError(f"checkpoints.epochs: {last} lies after the last epoch, {self.training.epochs}")
        return self

    @property
    def checkpoint_epochs(self) -> tuple[int, ...]:
        """The epochs whose weights and metrics are kept; 0 is before training."""
        if self.checkpoints.epochs == "all":
            return tuple(range(self.training.epochs + 1))
        return self.checkpoints.epochs

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything but the description."""
        return schema.digest(self, exclude={"description"})


def read_manifest(path: Path) -> ZooManifest:
    """Read and check one manifest.

    Raises:
        ZooError: the file is missing or wrong; the message names the place.
    """
    return schema.read_toml(path, ZooManifest)


def shipped_manifests() -> dict[str, Path]:
    """Return the manifests that come with the package, name -> path."""
    package = Path(__file__).parent
    # An installed wheel carries them inside the package; a checkout has them beside it.
    folders = [package / "manifests", package.parent / "manifests" / "zoos"]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def find_manifest(name_or_path: str) -> Path:
    """Return the path of a manifest given as a path (ending in .toml) or as the name of a shipped one.

    Raises:
        ZooError: no shipped manifest has that name.
    """
    if name_or_path.endswith(".toml"):
        return Path(name_or_path)
    shipped = shipped_manifests()
    if name_or_path not in shipped:
        raise ZooError(unknown_name("zoo", name_or_path, shipped) + ", or a path that ends in .toml")
    return shipped[name_or_path]
