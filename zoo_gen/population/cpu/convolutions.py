"""The forms in which a CPU computes a convolution of many models, and the rule that gives a zoo its form.

Forms round differently, so a zoo records the one that it was begun with, and every later run computes in that one.
"""

from collections.abc import Iterable, Mapping

from zoo_gen.architecture.network import Network
from zoo_gen.errors import ZooError
from zoo_gen.machine.devices import can_compile

GROUPED = "grouped"  # torch's convolution of 8 models at once, a group a model
ALONE = "alone"  # a module of the user's own, computed for one model after the other
LANES = "lanes"  # our own kernels, a model a lane of the vector registers

MODELS_OF_A_GROUP = 8  # a CPU's cache holds the images of so many (measured: 16 and more are slower)
MODELS_IN_LANES = 16  # as many as the widest registers hold


def choose(networks: Iterable[Network]) -> dict[str, str]:
    """Return the form of each convolution of a new zoo, by its name in `Network.convolutions`.

    A layer is in LANES where these can be compiled; without llvmlite it has no form, which means GROUPED. A kernel of a
    module of the user's own is ALONE; those of zoos that were begun before have no form, and are stacked.
    """
    forms: dict[str, str] = {}
    for network in networks:
        if network.own_module is not None:
            forms |= dict.fromkeys(network.convolutions, ALONE)
        elif network.convolutions and can_compile():
            forms |= dict.fromkeys(network.convolutions, LANES)
    return forms


def models_at_once(forms: Mapping[str, str]) -> int:
    """Return how many models with convolutions a CPU trains at once, by the forms of these."""
    return MODELS_IN_LANES if LANES in forms.values() else MODELS_OF_A_GROUP


def check(forms: Mapping[str, str]) -> None:
    """Refuse the recorded forms of a zoo that this machine cannot compute.

    Raises:
        ZooError: a form needs llvmlite, which is not installed, or is of another version of this package.
    """
    unknown = set(forms.values()).difference((ALONE, GROUPED, LANES))
    if unknown:
        names = ", ".join(sorted(unknown))
        raise ZooError(f"forms: this version of zoo-gen has no {names}; expected alone, grouped or lanes")
    if LANES in forms.values() and not can_compile():
        raise ZooError(
            "forms: this zoo was begun with kernels that llvmlite compiles, which is not installed here; "
            "expected pip install 'zoo-gen[generate]'"
        )
