"""ZooManifest: the one text file that says what a zoo is, checked before anything is computed.

A hyper-parameter stands either in [training], equal for all models, or in [axes], where it varies; never in both.
"""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import BeforeValidator, Field, Strict, field_validator, model_validator

from zoo_gen.architecture import registry
from zoo_gen.architecture.layers import Activate, Dropout, Layer, parameter_layout
from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.architecture.registry import Architecture
from zoo_gen.files import schema
from zoo_gen.files.location import Folder
from zoo_gen.files.schema import Count, Schema
from zoo_gen.image_data import HYPERPARAMETERS_OF_DATA, DataSource
from zoo_gen.manifest.axes import Axes
from zoo_gen.manifest.hyperparameters import HYPERPARAMETERS, Positive, Precision, Seed, Value, checked

Fraction = Annotated[float, Strict(), Field(ge=0, le=1)]


class Training(Schema):
    """How every model is trained. A hyper-parameter without a default must stand either here or in the axes.

    `drop_last` leaves the last batch of an epoch out where it is short. A model whose mean loss over an epoch is
    `stop_loss` or less keeps its weights from then on. `precision` is that of products on a GPU; a CPU has float32.
    """

    epochs: Annotated[int, Strict(), Field(gt=0, le=1_000_000)]
    drop_last: Annotated[bool, Strict()] = False
    stop_loss: Positive | None = None
    precision: Precision = "float32"
    seed: Any = None
    activation: Any = None
    initialization: Any = None
    initialization_deviation: Any = 1.0
    initialization_scale: Any = 1.0
    initial_bias: Any = 0.01  # Schürholt et al., NeurIPS 2021, as in their public code
    optimizer: Any = None
    learning_rate: Any = None
    schedule: Any = "constant"
    momentum: Any = None
    weight_decay: Any = 0.0
    l2: Any = 0.0
    dropout: Any = 0.0
    batch_size: Any = None
    train_fraction: Any = 1.0
    label_noise: Any = 0.0
    amplitude: Any = 1.0
    frequency: Any = None

    @field_validator(*HYPERPARAMETERS)
    @classmethod
    def _known_value(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        return checked(str(info.field_name), value)


class CheckpointSchedule(Schema):
    """Every epoch up to `first`, every multiple of `every`, and the last one."""

    first: Annotated[int, Strict(), Field(ge=0)] = 0
    every: Count


def _rising(epochs: Any) -> Any:
    if epochs == "all" or isinstance(epochs, dict | CheckpointSchedule):
        return epochs
    whole = isinstance(epochs, list | tuple) and all(type(epoch) is int for epoch in epochs)
    if not whole or not epochs or list(epochs) != sorted(set(epochs)) or epochs[0] < 0:
        raise ValueError(
            f'expected "all", a rising list such as [0, 1, 10], or {{ first = 3, every = 20 }}, got {epochs!r}'
        )
    return tuple(epochs)


class Checkpoints(Schema):
    """Which epochs are kept (0 is before training), and how many training images the metrics are measured on."""

    epochs: Annotated[Literal["all"] | tuple[int, ...] | CheckpointSchedule, BeforeValidator(_rising)] = "all"
    train_images: Literal["all"] | Count = "all"


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
        try:
            sequence = self.layers
        except ValueError as error:
            raise ValueError(f"architecture.{error}") from None
        self._only_what_is_used(sequence)
        for name in self.hyperparameters:
            if name != "momentum" and not self.values(name):  # of momentum, the table of models knows a default
                raise ValueError(f"training.{name}: is missing; expected here or as an axis")
        n_used = max(1, round(min(map(float, self.values("train_fraction") or (1.0,))) * self.data.n_train))
        largest = max(map(int, self.values("batch_size")))
        if largest > n_used:
            raise ValueError(f"training.batch_size: {largest} exceeds the {n_used} training images of a model")
        if self.checkpoint_epochs[-1] > self.training.epochs:
            last = self.checkpoint_epochs[-1]
            raise ValueError(f"checkpoints.epochs: {last} lies after the last epoch, {self.training.epochs}")
        return self

    def _only_what_is_used(self, sequence: tuple[Layer, ...]) -> None:
        """Refuse hyper-parameters that would change nothing."""
        has_dropout = any(isinstance(layer, Dropout) for layer in sequence)
        for name in [*self.training.model_fields_set, *self.axes.names]:
            if name in HYPERPARAMETERS and name not in self.hyperparameters:
                raise ValueError(f"{self._place(name)}: is used by no part of this zoo; expected it to be left out")
        if not has_dropout and any(self.values("dropout")):
            raise ValueError(f"{self._place('dropout')}: {self.architecture.name} has no dropout layer; expected 0")

    def _place(self, name: str) -> str:
        """Return where a hyper-parameter stands in the file."""
        if name not in self.axes.names:
            return f"training.{name}"
        return f"axes.product.{name}" if name in self.axes.product else f"axes: {name}"

    def values(self, name: str) -> tuple[Value, ...]:
        """Return the values that a hyper-parameter can take (the bounds, of one drawn at random); () if it has none."""
        axes = self.axes
        if name in self.axes.names:
            drawn = axes.random.draw if axes.random else {}
            return drawn[name].values if name in drawn else axes.product.get(name) or axes.zip[name]
        constant = getattr(self.training, name)
        return () if constant is None else (constant,)

    @cached_property
    def hyperparameters(self) -> tuple[str, ...]:
        """The names of the hyper-parameters that the models of this zoo have."""
        left_out = set(HYPERPARAMETERS_OF_DATA.difference(self.data.hyperparameters))
        if not any(isinstance(layer, Activate) and layer.function is None for layer in self.layers):
            left_out.add("activation")
        return tuple(name for name in HYPERPARAMETERS if name not in left_out)

    @property
    def varying(self) -> tuple[str, ...]:
        """The names of the hyper-parameters that vary."""
        return tuple(self.axes.names)

    @property
    def n_classes(self) -> int | None:
        """The number of classes."""
        return self.data.n_classes

    @property
    def data_name(self) -> str:
        """What the models are trained on."""
        return self.data.source

    @property
    def ragged(self) -> bool:
        """Whether models differ in architecture; those of a generated zoo never do."""
        return False

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of every model."""
        return registry.layers(self.architecture, self.data.input_shape, self.data.n_outputs)

    @cached_property
    def layout(self) -> ParameterLayout:
        """Where each parameter lies in the weights of a model."""
        return parameter_layout(self.layers, self.data.input_shape)

    @cached_property
    def checkpoint_epochs(self) -> tuple[int, ...]:
        """The epochs whose weights and metrics are kept; 0 is before training."""
        epochs, last = self.checkpoints.epochs, self.training.epochs
        if epochs == "all":
            return tuple(range(last + 1))
        if isinstance(epochs, CheckpointSchedule):
            return tuple(e for e in range(last + 1) if e <= epochs.first or e % epochs.every == 0 or e == last)
        return epochs

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything but the description."""
        return schema.digest(self, exclude={"description"})


def read_manifest(path: Folder) -> ZooManifest:
    """Read and check one manifest.

    Raises:
        ZooError: the file is missing or wrong; the message names the place.
    """
    return schema.read_toml(path, ZooManifest)


def shipped_manifests() -> dict[str, Path]:
    """Return the manifests that come with the package, name -> path."""
    return schema.shipped("zoos", installed=Path(__file__).parent / "shipped")


def find_manifest(name_or_path: str) -> Folder:
    """Return where a manifest is that is given as a path or URL (ending in .toml) or as the name of a shipped one.

    Raises:
        ZooError: no shipped manifest has that name.
    """
    return schema.find("zoo", name_or_path, shipped_manifests())
