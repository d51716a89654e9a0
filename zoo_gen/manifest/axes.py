"""Axes: what varies between the models of a zoo, and how one hyper-parameter is drawn.

Axes combine in three ways and no other: every combination, rows of equal length, and fresh draws.
"""

import math
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, Strict, field_validator, model_validator

from zoo_gen.files.schema import Count, Schema
from zoo_gen.manifest.hyperparameters import Seed, Value, checked, known

Number = Annotated[float, Strict()] | Annotated[int, Strict()]


def _axis(axis: Any) -> Any:
    """Return the values of an axis: a list, { range = [first, last] } with both ends included, or Python's range."""
    if isinstance(axis, dict) and set(axis) == {"range"}:
        ends = axis["range"]
        if not (isinstance(ends, list | tuple) and len(ends) == 2 and all(type(end) is int for end in ends)):
            raise ValueError(f"range must be two whole numbers [first, last], got {ends!r}")
        axis = list(range(ends[0], ends[1] + 1))
        if not axis:
            raise ValueError(f"range {ends} is empty; expected first <= last")
    if isinstance(axis, range):
        axis = list(axis)
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
        """The hyper-parameters that have an axis."""
        return [*self.product, *self.zip, *(self.random.draw if self.random else ())]

    @property
    def varying(self) -> list[str]:
        """Those of `names` that have more than one value: an axis of one value says what all models share."""
        draws = self.random.draw if self.random else {}
        values = {**self.product, **self.zip, **{name: draw.values for name, draw in draws.items()}}
        return [name for name in self.names if len(set(values[name])) > 1]

    @property
    def n_models(self) -> int:
        """The number of models that the axes give."""
        rows = len(next(iter(self.zip.values()), (None,)))
        return math.prod(map(len, self.product.values())) * rows * (self.random.count if self.random else 1)
