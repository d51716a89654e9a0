"""Settings: every choice of SNE, with the names under which docs/encoders/sne.md discusses them.

Where the paper leaves a choice open there is a setting, and its default is the reading that is argued for there. What
depends on the zoo (chunk, loss, invariance) may be "auto" and is settled once the training views are known.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args, get_type_hints

from zoo_gen.errors import ZooError, unknown_name

Positions = Literal["none", "elem", "chunk", "elem+chunk", "rowcol", "boundary"]


@dataclass(frozen=True)
class Settings:
    """What determines an SNE encoder, its training aside."""

    target: str = "test_accuracy"  # a metric of the zoo, "epoch", or a hyper-parameter that is a number
    checkpoints: Literal["last", "all"] = "last"  # which checkpoints of the training views it learns from
    width: int = 64  # h, also the dimension of the embedding; the paper has 32 for sine INRs
    heads: int = 4
    chunk: int | Literal["auto", "row"] = "auto"  # c: entries (kernels of a convolution) a chunk, or one neuron's inputs
    pos: Positions = "none"  # codes of positions inside a tensor
    conv_tokens: Literal["scalars", "kernels"] = "scalars"  # an element of a convolution's chunk: a number or a kernel
    kernel_code: bool = False  # with scalars: a code of the place in the kernel
    type_code: Literal["sinusoid", "learned", "none"] = "sinusoid"
    level: Literal["absolute", "relative", "both_ends", "none"] = "absolute"
    role_code: bool = False  # a code that tells biases from weights
    bias_route: Literal["separated", "own_layer"] = "separated"
    skip_single: bool = False  # a layer of one tensor skips the separated layer encoder
    hierarchy: bool = True  # without: all chunks of a network are one set
    n_sab: int = 2  # of the layer, separated layer and network encoders
    log_feature: bool = False  # sign(w) log(1 + |w| / s) beside w
    linear_path: bool = True  # a linear map of each number past the first layer norms
    normalize: bool = False  # divide all weights by their standard deviation over the training views
    head_width: int = 512
    head_layers: int = 2  # hidden layers of the head
    dropout: float = 0.0  # in the head
    loss: Literal["auto", "bce", "mse"] = "auto"
    nu: float | Literal["auto"] = "auto"  # weight of the logit invariance
    invariance_on: Literal["logit", "embedding"] = "logit"

    def __post_init__(self) -> None:
        for name, type_ in get_type_hints(type(self)).items():
            _check(name, getattr(self, name), type_)
        if self.width < 1 or self.heads < 1 or self.width % self.heads:
            raise ZooError(f"sne: width {self.width} with heads {self.heads}; expected a width that heads divide")
        if isinstance(self.chunk, int) and self.chunk < 1:
            raise ZooError(f"sne: chunk {self.chunk}; expected at least 1")

    @classmethod
    def of(cls, settings: dict[str, Any]) -> Self:
        """Return the settings that a mapping names.

        Raises:
            ZooError: a name or a value is not valid.
        """
        names = get_type_hints(cls)
        for name in settings:
            if name not in names:
                raise ZooError("sne: " + unknown_name("setting", name, names))
        return cls(**settings)

    def to_config(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        return asdict(self)


def _check(name: str, value: object, type_: Any) -> None:
    """Refuse a value that is not of the setting's type (a Literal, a class, or a union of both)."""
    options = get_args(type_) if not isinstance(type_, type) else (type_,)
    if options and not isinstance(value, bool) and isinstance(value, int) and float in options:
        return
    for option in options:
        if isinstance(option, type):
            if isinstance(value, option) and (option is bool or not isinstance(value, bool)):
                return
        elif value in (get_args(option) or (option,)):
            return
    names = ", ".join(o.__name__ if isinstance(o, type) else repr(o) for o in options)
    raise ZooError(f"sne: {name} = {value!r}; expected {names}")
