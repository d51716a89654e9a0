"""Settings: every choice of SNE, with the names under which docs/encoders/sne.md discusses them.

Where the paper leaves a choice open there is a setting, and its default is the reading that is argued for there. What
depends on the zoo (chunk, invariance) may be "auto" and is settled once the training views are known.
"""

from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from zoo_gen.errors import ZooError

Positions = Literal["none", "rowcol", "boundary"]


@dataclass(frozen=True)
class Settings:
    """What determines an SNE encoder, its training aside.

    Raises:
        ZooError: a value is not one of those that its setting takes.
    """

    width: int = 64  # h, also the dimension of the embedding; the paper has 32 for sine INRs
    heads: int = 4
    chunk: int | Literal["auto", "row"] = "auto"  # c: entries (kernels of a convolution), or one neuron's inputs
    pos: Positions = "none"  # codes of positions inside a tensor
    conv_tokens: Literal["scalars", "kernels"] = "scalars"  # an element of a convolution's chunk: a number or a kernel
    kernel: int = 1  # kernels are padded to this side at least, so that larger ones than those of the zoo can be read
    type_code: Literal["sinusoid", "none"] = "sinusoid"
    level: Literal["absolute", "none"] = "absolute"
    hierarchy: bool = True  # without: all chunks of a network are one set
    log_feature: bool = False  # sign(w) log(1 + |w| / s) beside w
    norm: Literal["post", "pre"] = "post"  # layer norms after residual sums, as printed, or before what reads them
    linear_path: bool = True  # a linear map of each number past the first layer norms
    normalize: bool = False  # divide all weights by their standard deviation over the training views
    head_width: int = 512  # of the head's two hidden layers
    head_norm: bool = True  # a batch norm between embedding and head
    noise: float = 0.0  # in training each number read is multiplied by 1 + noise times a standard normal draw
    nu: float | Literal["auto"] = "auto"  # weight of the logit invariance
    signs: bool = False  # learn from networks with random hidden units negated: for odd activations (sine, tanh)

    def __post_init__(self) -> None:
        for name, type_ in get_type_hints(type(self)).items():
            _check(name, getattr(self, name), type_)
        if self.width < 1 or self.heads < 1 or self.width % self.heads:
            raise ZooError(f"sne: width {self.width} with heads {self.heads}; expected a width that heads divide")
        if isinstance(self.chunk, int) and self.chunk < 1:
            raise ZooError(f"sne: chunk {self.chunk}; expected at least 1")


def _check(name: str, value: object, type_: Any) -> None:
    """Refuse a value that is not of the setting's type: a class, a Literal, or a union of both."""
    types = get_args(type_) if isinstance(type_, UnionType) or get_origin(type_) is Union else (type_,)
    classes = tuple(member for member in types if isinstance(member, type))
    words = tuple(word for member in types if member not in classes for word in get_args(member))
    of_class = type(value) in classes or (type(value) is int and float in classes)
    if not of_class and not (isinstance(value, str) and value in words):
        valid = ", ".join([*(member.__name__ for member in classes), *map(repr, words)])
        raise ZooError(f"sne: {name} = {value!r}; expected {valid}")
