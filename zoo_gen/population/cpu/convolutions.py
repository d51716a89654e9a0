"""The forms in which a CPU computes a convolution of many models; they give the same numbers up to rounding.

Because they round differently, a zoo's are chosen once, when it is begun, and are recorded with it.
"""

from collections.abc import Mapping

from zoo_gen.errors import ZooError
from zoo_gen.machine.compiling import can_compile

GROUPED = "grouped"  # torch's convolution of 8 models at once, a group a model
SINGLE = "single"  # torch's convolution, model after model
PATCHES = "patches"  # a batched matrix product of weights and patches of the images
LANES = "lanes"  # our own kernels, a model a lane of the vector registers

MODELS_OF_A_GROUP = 8  # a CPU's cache holds the images of so many (measured: 16 and more are slower)
MODELS_IN_LANES = 16  # as many as the widest registers hold


def forms() -> tuple[str, ...]:
    """Return the forms that this machine can compute."""
    return (GROUPED, SINGLE, PATCHES, *([LANES] if can_compile() else []))


def models_at_once(chosen: Mapping[str, str]) -> int:
    """Return how many models with convolutions a CPU trains at once, by the forms of these."""
    return MODELS_IN_LANES if LANES in chosen.values() else MODELS_OF_A_GROUP


def check(chosen: Mapping[str, str]) -> None:
    """Refuse what this machine cannot compute.

    Raises:
        ZooError: a form needs llvmlite, which is not installed, or is of another version of this package.
    """
    unknown = set(chosen.values()).difference((GROUPED, SINGLE, PATCHES, LANES))
    if unknown:
        raise ZooError(f"forms: {', '.join(sorted(unknown))} is none that this version knows; expected a newer zoo-gen")
    if set(chosen.values()).difference(forms()):
        raise ZooError(
            "forms: this zoo was begun with kernels that llvmlite compiles, which is not installed here; "
            "expected pip install 'zoo-gen[generate]'"
        )
