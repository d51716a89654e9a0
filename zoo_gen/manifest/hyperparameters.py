"""The hyper-parameters that may differ between the models of one zoo, and what their values must be."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from pydantic import BeforeValidator, Field, Strict, TypeAdapter

from zoo_gen.architecture.layers import Activation
from zoo_gen.errors import unknown_name
from zoo_gen.files.schema import NAME

Initialization = Literal[
    "uniform",
    "normal",
    "truncated_normal",
    "kaiming_uniform",
    "kaiming_normal",
    "xavier_uniform",
    "xavier_normal",
    "orthogonal",
    "glorot_normal",
    "he_normal",
    "siren",
    "siren_dwsnets",
    "module",
]
Optimizer = Literal["sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop"]
Schedule = Literal["constant", "one_cycle", "cosine", "step", "milestones"]
Loss = Literal["standard"]
# A function or class of the user's own in place of a name: "package.module:name".
Reference = Annotated[str, Strict(), Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")]
# To what a GPU rounds the operands of products; weights, sums and everything else are float32.
Precision = Literal["float32", "tf32", "bfloat16"]
Seed = Annotated[int, Strict(), Field(ge=0, lt=2**63)]
Positive = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Strict(), Field(ge=0, lt=1)]  # of what is lost: never all
Share = Annotated[float, Strict(), Field(gt=0, le=1)]  # of what is kept: never nothing
Value = str | int | float


@dataclass(frozen=True)
class Hyperparameter:
    """One hyper-parameter: whether its values are names, whole numbers or numbers, and which are valid."""

    kind: Literal["name", "whole", "number"]
    values: TypeAdapter[Any]
    may_be_own: bool = False  # whether a function or class of the user's own may stand in place of a name


def _milestones(epochs: Any) -> str:
    """Return a rising list of epochs as the text that tables of models hold; such text stays."""
    numbers = epochs
    if isinstance(epochs, str):
        numbers = [int(part) for part in epochs.split(", ") if part.isdecimal()]
    whole = isinstance(numbers, list | tuple) and all(type(number) is int and number > 0 for number in numbers)
    text = ", ".join(map(str, numbers)) if whole else ""
    if not text or list(numbers) != sorted(set(numbers)) or epochs not in (numbers, text):
        raise ValueError("expected a rising list of epochs above 0, such as [30, 60]")
    return text


HYPERPARAMETERS: dict[str, Hyperparameter] = {
    # Of mixed zoos, one of the names in their table [architecture].
    "architecture": Hyperparameter("name", TypeAdapter(Annotated[str, Strict(), Field(pattern=NAME)])),
    "seed": Hyperparameter("whole", TypeAdapter(Seed)),
    "activation": Hyperparameter("name", TypeAdapter(Activation)),
    "initialization": Hyperparameter("name", TypeAdapter(Initialization)),
    # Of `normal` and `truncated_normal`, whose standard deviation is otherwise 1.
    "initialization_deviation": Hyperparameter("number", TypeAdapter(Positive)),
    # Multiplies what any scheme draws.
    "initialization_scale": Hyperparameter("number", TypeAdapter(Positive)),
    "initial_bias": Hyperparameter("number", TypeAdapter(Annotated[float, Strict(), Field(allow_inf_nan=False)])),
    "loss": Hyperparameter("name", TypeAdapter(Loss | Reference), may_be_own=True),
    "label_smoothing": Hyperparameter("number", TypeAdapter(Rate)),
    "optimizer": Hyperparameter("name", TypeAdapter(Optimizer | Reference), may_be_own=True),
    "learning_rate": Hyperparameter("number", TypeAdapter(Positive)),
    "schedule": Hyperparameter("name", TypeAdapter(Schedule | Reference), may_be_own=True),
    # Epochs in which the learning rate rises linearly, before and beside any schedule.
    "warm_up_epochs": Hyperparameter("number", TypeAdapter(NotNegative)),
    # Of the schedules `step`, which decays every so many epochs, and `milestones`.
    "decay_every": Hyperparameter("whole", TypeAdapter(Annotated[int, Strict(), Field(gt=0)])),
    "milestones": Hyperparameter("name", TypeAdapter(Annotated[str, BeforeValidator(_milestones)])),
    "decay_factor": Hyperparameter("number", TypeAdapter(Share)),
    # The largest norm of a model's gradient; 0: any.
    "clip_norm": Hyperparameter("number", TypeAdapter(NotNegative)),
    "momentum": Hyperparameter("number", TypeAdapter(Rate)),
    "weight_decay": Hyperparameter("number", TypeAdapter(NotNegative)),
    "l2": Hyperparameter("number", TypeAdapter(NotNegative)),
    "dropout": Hyperparameter("number", TypeAdapter(Rate)),
    "batch_size": Hyperparameter("whole", TypeAdapter(Annotated[int, Strict(), Field(gt=0)])),
    # Of training images: pixels of black around them before a random crop, and how likely they are mirrored.
    "crop_padding": Hyperparameter("whole", TypeAdapter(Annotated[int, Strict(), Field(ge=0)])),
    "flip": Hyperparameter("number", TypeAdapter(Annotated[float, Strict(), Field(ge=0, le=1)])),
    "train_fraction": Hyperparameter("number", TypeAdapter(Share)),
    "label_noise": Hyperparameter("number", TypeAdapter(Annotated[float, Strict(), Field(ge=0, le=1)])),
    # Of the wave that a model of the source `sine` is fitted to: amplitude * sin(frequency * x).
    "amplitude": Hyperparameter("number", TypeAdapter(Positive)),
    "frequency": Hyperparameter("number", TypeAdapter(Positive)),
    # The number of the image that a model of the source `image_fields` is fitted to.
    "image": Hyperparameter("whole", TypeAdapter(Annotated[int, Strict(), Field(ge=0)])),
}

OWN = tuple(name for name, parameter in HYPERPARAMETERS.items() if parameter.may_be_own)
# Models have these only where a manifest says another value than the default.
OPTIONAL = ("loss", "label_smoothing", "warm_up_epochs", "clip_norm", "crop_padding", "flip")
# Schedules that alone use a hyper-parameter.
OF_SCHEDULES = {
    "decay_every": ("step",),
    "milestones": ("milestones",),
    "decay_factor": ("step", "milestones"),
}


def known(name: str) -> Hyperparameter:
    """Return the hyper-parameter of that name.

    Raises:
        ValueError: there is none; the message lists the names there are.
    """
    if name not in HYPERPARAMETERS:
        raise ValueError(unknown_name("hyper-parameter", name, HYPERPARAMETERS))
    return HYPERPARAMETERS[name]


def checked(name: str, value: Any, *, where: str = "") -> Value:
    """Return a value of one hyper-parameter in its canonical type (a learning rate of 1 becomes 1.0).

    Raises:
        ValueError: the name is unknown, or the value is not valid for it; the message begins with `where`.
    """
    if isinstance(value, np.generic):
        value = value.item()
    try:
        return known(name).values.validate_python(value)
    except pydantic.ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        place = f"{where}: " if where else ""
        more = ', or "module:name" of your own' if known(name).may_be_own else ""
        raise ValueError(f"{place}{message[0].lower()}{message[1:]}{more}, got {value!r}") from None


def is_own(value: object) -> bool:
    """Return whether a value names a function or class of the user's own."""
    return isinstance(value, str) and ":" in value
