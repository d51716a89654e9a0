"""The tables of a manifest beside data and architecture: training, checkpoints and storage."""

from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, Field, Strict, field_validator

from zoo_gen.files.schema import Count, Schema
from zoo_gen.manifest.hyperparameters import HYPERPARAMETERS, Positive, Precision, checked


class Training(Schema):
    """How every model is trained. A hyper-parameter without a default must stand either here or in the axes.

    `drop_last` leaves the last batch of an epoch out where it is short. A model whose mean loss over an epoch is
    `stop_loss` or less keeps its weights from then on. `precision` is that of products on a GPU; a CPU has float32.
    Networks that are fitted to images have the number of their image as `seed`, where no other is given.
    `source_sha256` has the digest of each function and class of the user's own; it is looked up.
    """

    epochs: Annotated[int, Strict(), Field(gt=0, le=1_000_000)]
    drop_last: Annotated[bool, Strict()] = False
    stop_loss: Positive | None = None
    precision: Precision = "float32"
    source_sha256: dict[str, str] = Field(default_factory=dict)
    architecture: Any = None  # an axis always
    seed: Any = None
    activation: Any = None
    initialization: Any = None
    initialization_deviation: Any = 1.0
    initialization_scale: Any = 1.0
    initial_bias: Any = 0.01  # Schürholt et al., NeurIPS 2021, as in their public code
    loss: Any = "standard"
    label_smoothing: Any = 0.0
    optimizer: Any = None
    learning_rate: Any = None
    schedule: Any = "constant"
    warm_up_epochs: Any = 0.0
    decay_every: Any = None
    milestones: Any = None
    decay_factor: Any = 0.1
    clip_norm: Any = 0.0
    momentum: Any = None
    weight_decay: Any = 0.0
    l2: Any = 0.0
    dropout: Any = 0.0
    batch_size: Any = None
    crop_padding: Any = 0
    flip: Any = 0.0
    train_fraction: Any = 1.0
    label_noise: Any = 0.0
    amplitude: Any = 1.0
    frequency: Any = None
    image: Any = None

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


class Storage(Schema):
    """How the models are cut into shards; None lets the store choose by size."""

    models_per_shard: Count | None = None
