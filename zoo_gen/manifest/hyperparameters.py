"""The hyper-parameters that may differ between the models of one zoo, and what their values must be."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, Strict, TypeAdapter

from zoo_gen.architecture.layers import Activation
from zoo_gen.errors import unknown_name

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
Optimizer = Literal["sgd", "momentum", "adam", "adamw", "rmsprop"]
Schedule = Literal["constant", "one_cycle", "warmup_cosine"]
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


HYPERPARAMETERS: dict[str, Hyperparameter] = {
    "seed": Hyperparameter("whole", TypeAdapter(Seed)),
    "activation": Hyperparameter("name", TypeAdapter(Activation)),
    "initialization": Hyperparameter("name", TypeAdapter(Initialization)),
    # Of `normal` and `truncated_normal`, whose standard deviation is otherwise 1.
    "initialization_deviation": Hyperparameter("number", TypeAdapter(Positive)),
    # Multiplies what any scheme draws.
    "initialization_scale": Hyperparameter("number", TypeAdapter(Positive)),
    "initial_bias": Hyperparameter("number", TypeAdapter(Annotated[float, Strict(), Field(allow_inf_nan=False)])),
    "optimizer": Hyperparameter("name", TypeAdapter(Optimizer)),
    "learning_rate": Hyperparameter("number", TypeAdapter(Positive)),
    "schedule": Hyperparameter("name", TypeAdapter(Schedule)),
    "momentum": Hyperparameter("number", TypeAdapter(Rate)),
    "weight_decay": Hyperparameter("number", TypeAdapter(NotNegative)),
    "l2": Hyperparameter("number", TypeAdapter(NotNegative)),
    "dropout": Hyperparameter("number", TypeAdapter(Rate)),
    "batch_size": Hyperparameter("whole", TypeAdapter(Annotated[int, Strict(), Field(gt=0)])),
    "train_fraction": Hyperparameter("number", TypeAdapter(Share)),
    "label_noise": Hyperparameter("number", TypeAdapter(Annotated[float, Strict(), Field(ge=0, le=1)])),
    # Of the wave that a model of the source `sine` is fitted to: amplitude * sin(frequency * x).
    "amplitude": Hyperparameter("number", TypeAdapter(Positive)),
    "frequency": Hyperparameter("number", TypeAdapter(Positive)),
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
    try:
        return known(name).values.validate_python(value)
    except pydantic.ValidationError as error:
        message = error.errors()[0]["msg"]
        place = f"{where}: " if where else ""
        raise ValueError(f"{place}{message[0].lower()}{message[1:]}, got {value!r}") from None
