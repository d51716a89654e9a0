"""The two forms in which a CPU computes a convolution of many models, and the rule that gives a zoo its form.

Forms round differently, so a zoo records the one that it was begun with, and every later run computes in that one.
"""

from collections.abc import Mapping, Sequence

from zoo_gen.architecture.layers import Convolution, Layer
from zoo_gen.errors import ZooError
from zoo_gen.machine.devices import can_compile

GROUPED = "grouped"  # torch's convolution of 8 models at once, a group a model
LANES = "lanes"  # our own kernels, a model a lane of the vector registers

MODELS_OF_A_GROUP = 8  # a CPU's cache holds the images of so many (measured: 16 and more are slower)
MODELS_IN_LANES = 16  # as many as the widest registers hold


def choose(layers: Sequence[Layer]) -> dict[str, str]:
    """Return the form of each convolution of a new zoo, name -> form: LANES where they can be compiled.

    Without llvmlite there is none, which means GROUPED.
    """
    names = [layer.name for layer in layers if isinstance(layer, Convolution)]
    return dict.fromkeys(names, LANES) if names and can_compile() else {}


def models_at_once(forms: Mapping[str, str]) -> int:
    """Return how many models with convolutions a CPU trains at once, by the forms of these."""
    return MODELS_IN_LANES if LANES in forms.values() else MODELS_OF_A_GROUP


def check(forms: Mapping[str, str]) -> None:
    """Refuse the recorded forms of a zoo that this machine cannot compute.

    Raises:
        ZooError: a form needs llvmlite, which is not installed, or is of another version of this package.
    """
    unknown = set(forms.values()).difference((GROUPED, LANES))
    if unknown:
        raise ZooError(f"forms: this version of zoo-gen has no {', '.join(sorted(unknown))}; expected grouped or lanes")
    if LANES in forms.values() and not can_compile():
        raise ZooError(
            "forms: this zoo was begun with kernels that llvmlite compiles, which is not installed here; "
            "expected pip install 'zoo-gen[generate]'"
        )
