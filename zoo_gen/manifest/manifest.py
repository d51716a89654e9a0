"""ZooManifest: the one text file that says what a zoo is, checked before anything is computed.

A hyper-parameter stands either in [training], equal for all models, or in [axes], where it varies; never in both.
"""

from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pydantic
from pydantic import Field, model_validator

from zoo_gen.architecture import registry
from zoo_gen.architecture.layers import Activate, Layer
from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.architecture.mixed import AnyArchitecture, Mixed
from zoo_gen.architecture.network import BUFFERS, Network
from zoo_gen.architecture.registry import Architecture
from zoo_gen.errors import ZooError
from zoo_gen.files import schema
from zoo_gen.files.schema import Schema
from zoo_gen.image_data import HYPERPARAMETERS_OF_DATA, DataSource
from zoo_gen.manifest import architectures, grid, own_functions
from zoo_gen.manifest.axes import Axes
from zoo_gen.manifest.converted import Origin, SplitFacts
from zoo_gen.manifest.fitting import (
    check_architectures,
    check_batches,
    check_images,
    check_initialization,
    check_training,
    check_use,
)
from zoo_gen.manifest.hyperparameters import HYPERPARAMETERS, OF_SCHEDULES, OPTIONAL, OWN, Value, is_own
from zoo_gen.manifest.split import Split
from zoo_gen.manifest.toml import toml, toml_value
from zoo_gen.manifest.training import Checkpoints, CheckpointSchedule, Storage, Training


class ZooManifest(Schema):
    """Everything that determines a zoo that is trained here; a file, or made in Python of plain dictionaries.

    >>> manifest = ZooManifest(
    ...     name="small",
    ...     data={"source": "tetris"},
    ...     architecture={"name": "mlp", "widths": [16, 5, 4]},
    ...     training={
    ...         "epochs": 2, "batch_size": 32, "optimizer": "adam", "learning_rate": 0.001,
    ...         "activation": "tanh", "initialization": "uniform",
    ...     },
    ...     axes={"product": {"seed": range(1, 11)}},
    ... )
    >>> manifest.n_models, manifest.n_parameters, manifest.checkpoint_epochs
    (10, 109, (0, 1, 2))

    Raises:
        ZooError: a value is wrong or missing; the line names its place.
    """

    name: str = Field(pattern=schema.NAME, max_length=100)
    description: str = ""
    data: DataSource
    architecture: AnyArchitecture
    training: Training
    checkpoints: Checkpoints = Checkpoints()
    axes: Axes
    split: Split = Split()
    storage: Storage = Storage()

    # What a converted zoo says beside; see `ConvertedManifest`.
    origin: ClassVar[Origin | None] = None
    origin_text: ClassVar[str] = ""
    splits: ClassVar[Mapping[str, SplitFacts]] = {}
    permutation_sha256: ClassVar[str | None] = None
    recomputable: ClassVar[bool] = True

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        for name in HYPERPARAMETERS:
            here, varies = name in self.training.model_fields_set, name in self.axes.names
            if here and varies:
                raise ValueError(f"training.{name}: also stands in axes; expected one of the two")
        check_architectures(self)
        check_use(self)
        check_initialization(self)
        check_training(self)
        for name in self.hyperparameters:
            if not self.values(name) and not grid.has_default(name, self.hyperparameters):
                raise ValueError(f"training.{name}: is missing; expected here or as an axis")
        check_batches(self)
        check_images(self)
        n_used = max(1, round(min(map(float, self.values("train_fraction") or (1.0,))) * self.data.n_train))
        largest = max(map(int, self.values("batch_size")))
        if largest > n_used:
            raise ValueError(f"training.batch_size: {largest} exceeds the {n_used} {self.data.examples} of a model")
        if self.checkpoint_epochs[-1] > self.training.epochs:
            last = self.checkpoint_epochs[-1]
            raise ValueError(f"checkpoints.epochs: {last} lies after the last epoch, {self.training.epochs}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _look_up_functions(cls, document: Any) -> Any:
        return architectures.with_axis(own_functions.look_up(document))

    @model_validator(mode="wrap")
    @classmethod  # the last validator, so that it is outside of the others
    def _error_as_one_line(cls, document: Any, handler: pydantic.ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(_plain(document))
        except pydantic.ValidationError as error:
            raise ZooError(schema.one_line(error, document, cls)) from None

    @property
    def own_functions(self) -> dict[str, str]:
        """The functions and classes of the user's own that train models: reference -> what it is, such as loss."""
        return {str(value): name for name in OWN for value in self.values(name) if is_own(value)}

    def place(self, name: str) -> str:
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
        layers = [layer for network in self.networks.values() for layer in network.layers]
        if not any(isinstance(layer, Activate) and layer.function is None for layer in layers):
            left_out.add("activation")
        if not self.ragged:
            left_out.add(architectures.AXIS)
        left_out |= {
            name
            for name in OPTIONAL
            if name not in self.axes.names and getattr(self.training, name) == Training.model_fields[name].default
        }
        schedules = self.values("schedule")
        left_out |= {name for name, users in OF_SCHEDULES.items() if not set(users).intersection(schedules)}
        return tuple(name for name in HYPERPARAMETERS if name not in left_out)

    @property
    def n_models(self) -> int:
        """The number of models."""
        return self.axes.n_models

    @property
    def n_parameters(self) -> int:
        """The number of parameters of a model; of the largest where they differ."""
        return max(network.layout.size for network in self.networks.values())

    @property
    def metric_widths(self) -> tuple[tuple[str, int], ...]:
        """What is kept beside weights at every checkpoint: name and numbers a checkpoint, 1 or one a class."""
        n_buffers = max(network.buffer_layout.size for network in self.networks.values())
        return (*self.data.metrics, *([(BUFFERS, n_buffers)] if n_buffers else []))

    @property
    def models_per_shard(self) -> int | None:
        """The models of a shard, where the manifest says it."""
        return self.storage.models_per_shard

    @property
    def varying(self) -> tuple[str, ...]:
        """The names of the hyper-parameters that vary, and of the columns that the data tells of each model."""
        return (*self.axes.names, *self.data.columns)

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
        """Whether models differ in architecture."""
        return isinstance(self.architecture, Mixed)

    @property
    def generated(self) -> Self:
        """The manifest itself, as its models were trained here; of a converted zoo it is None."""
        return self

    @property
    def training_sentence(self) -> str:
        """What each model is and how it was trained."""
        what = f"Each is a\n`{self.architecture.name}` of {self.n_parameters} parameters"
        if self.ragged:
            what = f"They have up to\n{self.n_parameters} parameters in {len(self.networks)} architectures"
        return (
            f"{what}, trained on {self.data.source} for\n{self.training.epochs} epochs and kept at "
            f"{len(self.checkpoint_epochs)} checkpoints."
        )

    def rows(self, models: slice) -> pa.Table:
        """Return the rows of some models as far as the manifest determines them: model_id, hyper-parameters, split."""
        return grid.table_of_models(self).slice(models.start, models.stop - models.start)

    @cached_property
    def architectures(self) -> dict[str, Architecture]:
        """The architectures by their names."""
        if isinstance(self.architecture, Mixed):
            return self.architecture.architectures(self.data.input_shape, self.data.n_outputs)
        return {self.architecture.name: self.architecture}

    @cached_property
    def networks(self) -> dict[str, Network]:
        """The networks that there are models of, by the names of their architectures."""
        names = dict.fromkeys(map(str, self.values(architectures.AXIS))) if self.ragged else self.architectures
        shape, n_outputs = self.data.input_shape, self.data.n_outputs
        return {name: registry.network(self.architectures[name], shape, n_outputs) for name in names}

    def of_architecture(self, name: str) -> "ZooManifest":
        """Return the manifest of an ordinary zoo of one architecture, by which its models are trained and counted.

        Its axes say no more of architectures, so that there may be none; that of an ordinary zoo is itself.
        """
        if not self.ragged:
            return self
        axes = architectures.without_axis(self.axes)
        return self.model_copy(update={"architecture": self.architectures[name], "axes": axes})

    @property
    def network(self) -> Network | None:
        """The network of every model; None where they differ."""
        return None if self.ragged else next(iter(self.networks.values()))

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of every model; none where they differ."""
        return () if self.network is None else self.network.layers

    @property
    def layout(self) -> ParameterLayout | None:
        """Where each parameter lies in the weights of a model; None where models differ in architecture."""
        return None if self.network is None else self.network.layout

    @cached_property
    def sizes(self) -> np.ndarray | None:
        """The parameters of each model, int64 (model,), where models differ in architecture; else None."""
        if not self.ragged:
            return None
        of_each = {name: network.layout.size for name, network in self.networks.items()}
        names = self.rows(slice(0, self.n_models))[architectures.AXIS].to_pylist()
        return np.array([of_each[name] for name in names], dtype=np.int64)

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

    @cached_property
    def content(self) -> bytes:
        """The bytes of its file: those it was read from, or its TOML where it was made in Python."""
        return self.to_toml().encode()

    def to_toml(self) -> str:
        """Return the manifest as TOML, which reads as an equal manifest of the same digest."""
        plain = self.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        for name in ("data", "architecture"):  # with their defaults, which tell apart what they may hold
            plain[name] = getattr(self, name).model_dump(mode="json", exclude_none=True)
        # Tables come after other keys in TOML, but the order of axes orders the models: a line each.
        axes = plain.pop("axes")
        random = axes.pop("random", None)
        lines = [f"{kind}.{name} = {toml_value(_brief(v))}" for kind, each in axes.items() for name, v in each.items()]
        lines += [f"random = {toml_value(random)}"] if random else []
        return toml(plain) + "\n[axes]\n" + "".join(f"{line}\n" for line in lines)


def _brief(values: list[Any]) -> object:
    """Return the values of an axis as TOML may say them, neighbouring whole numbers by their ends."""
    whole = len(values) > 2 and all(type(value) is int for value in values)
    if whole and all(after - before == 1 for before, after in pairwise(values)):
        return {"range": [values[0], values[-1]]}
    return values


def _plain(value: Any) -> Any:
    """Return what a manifest is made from with lists and numbers in place of numpy's arrays and numbers, or pandas'."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value
    return value.tolist() if hasattr(value, "tolist") else value
