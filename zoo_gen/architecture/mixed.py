"""Mixed: several architectures in one zoo, some written in the manifest, others drawn at random.

Each has a name, which is the value of the hyper-parameter `architecture`.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from zoo_gen.architecture import registry
from zoo_gen.architecture.drawn import RandomCNNs
from zoo_gen.architecture.layers import Shape
from zoo_gen.architecture.registry import Architecture, One
from zoo_gen.files import schema
from zoo_gen.files.schema import Schema

ALL = "all"  # stands for all of them where a manifest lists names
Name = Annotated[str, Field(pattern=schema.NAME, max_length=100)]


class Mixed(Schema):
    """Several architectures: those `named`, name -> architecture, and those drawn at `random`, called cnn_0, cnn_1, ...

    >>> from zoo_gen.architecture.mixed import Mixed
    >>> mixed = Mixed(
    ...     name="mixed", named={"small": {"name": "cnn_small"}}, random={"count": 2, "depth": (1, 2), "kernels": (3,)}
    ... )
    >>> mixed.names
    ['small', 'cnn_0', 'cnn_1']
    >>> [len(each.layers) for each in list(mixed.architectures((1, 28, 28), 10).values())[1:]]
    [5, 5]
    """

    name: Literal["mixed"]
    named: dict[Name, Architecture] = Field(default_factory=dict)
    random: RandomCNNs | None = None

    @model_validator(mode="after")
    def _has_several(self) -> Self:
        for name in self.names:
            if name == ALL or self.names.count(name) > 1:
                raise ValueError(f"named.{name}: has a meaning of its own; expected another name")
        if len(self.names) < 2:
            raise ValueError(f"has {len(self.names)} architectures; expected two or more, `named` or at `random`")
        return self

    @property
    def names(self) -> list[str]:
        """The names of all architectures, in their order."""
        return [*self.named, *(self.random.names if self.random else ())]

    def architectures(self, input_shape: Shape, n_outputs: int) -> dict[str, Architecture]:
        """Return the architectures by their names, for inputs of a shape and so many outputs.

        Raises:
            ValueError: they cannot be drawn, or one does not fit; the message begins with its place.
        """
        drawn: list[Architecture] = []
        if self.random:
            try:
                drawn += self.random.draw(input_shape, n_outputs)
            except ValueError as error:
                raise ValueError(f"random: {error}") from None
        for name, architecture in self.named.items():
            try:
                registry.network(architecture, input_shape, n_outputs)
            except ValueError as error:
                raise ValueError(f"named.{name}.{error}") from None
        return dict(zip(self.names, [*self.named.values(), *drawn], strict=True))


AnyArchitecture = Annotated[One | Mixed, Field(discriminator="name")]
