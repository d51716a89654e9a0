"""The hyper-parameters that may differ between the models of one population, and what their values must be."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, Strict, TypeAdapter

from zoo_gen.architectures import Activation
from zoo_gen.errors import unknown_name

Initialization = Literal["uniform", "normal", "kaiming_uniform", "kaiming_normal", "xavier_uniform", "xavier_normal"]
Optimizer = Literal["sgd", "adam"]
Seed = Annotated[int, Strict(), Field(ge=0, lt=2**63)]
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
    "optimizer": Hyperparameter("name", TypeAdapter(Optimizer)),
    "learning_rate": Hyperparameter(
        "number", TypeAdapter(Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)])
    ),
    "momentum": Hyperparameter("number", TypeAdapter(Annotated[float, Strict(), Field(ge=0, lt=1)])),
    "weight_decay": Hyperparameter("number", TypeAdapter(Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)])),
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
