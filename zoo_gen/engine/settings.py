"""How the models of a manifest are trained on a device: in which precision and forms, and how many at once.

A zoo keeps the forms of convolutions that it was begun with; all else follows from the manifest and the device alone.
"""

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from zoo_gen.architecture.layers import Convolution, Flatten, Linear
from zoo_gen.architecture.own_module import resolve_as_of
from zoo_gen.errors import ZooError
from zoo_gen.machine.devices import lacks_for_gpu_kernels
from zoo_gen.machine.warning import warn_once
from zoo_gen.manifest import ZooManifest
from zoo_gen.population.cpu import convolutions

if TYPE_CHECKING:
    from zoo_gen.population.population import TrainingSettings

_logger = logging.getLogger(__name__)


def models_on_device(manifest: ZooManifest, *, device: str) -> tuple[int, int]:
    """Return how many models of a zoo a GPU trains at once, and what each takes in bytes, by the largest batch.

    Where models differ in architecture, it is the fewest of one, and the most bytes.

    Raises:
        ZooError: not one fits.
    """
    each = [_of_one_architecture(manifest.of_architecture(name), device=device) for name in manifest.networks]
    return min(models for models, _ in each), max(size for _, size in each)


def _of_one_architecture(manifest: ZooManifest, *, device: str) -> tuple[int, int]:
    from zoo_gen.population.gpu import memory
    from zoo_gen.population.train import bytes_on_device, is_resident

    batch_size = max(map(int, manifest.values("batch_size")))
    settings = training_settings(manifest, device=device)
    (network,) = manifest.networks.values()
    each = bytes_on_device(network, settings, batch_size=batch_size, n_train=manifest.data.n_train)
    fitting = memory.models_that_fit(memory.total(device), each, device=device)
    resident = is_resident(network, settings, batch_size=batch_size)
    return min(fitting, memory.enough(batch_size, resident=resident)), each


def check_own_functions(manifest: ZooManifest) -> None:
    """Try the losses, optimisers and schedules of the user's own on random numbers.

    Raises:
        ZooError: one cannot be imported, has another source than the manifest knows, or does not do what it stands for.
    """
    functions = manifest.own_functions
    if not functions:
        return
    from zoo_gen.population.columns import numeric
    from zoo_gen.population.own_functions import check_loss, check_optimizer, check_schedule

    for reference, what in functions.items():
        function = resolve_as_of(reference, manifest.training.source_sha256[reference], what=what)
        if what == "loss":
            check_loss(reference, function, n_outputs=manifest.data.n_outputs, task=manifest.data.task)
        elif what == "optimizer":
            for network in manifest.networks.values():
                check_optimizer(
                    reference, function, layout=network.layout, hyperparameters=numeric(manifest.rows(slice(0, 1)))
                )
        else:
            check_schedule(reference, function, n_epochs=manifest.training.epochs)


def choose_forms(manifest: ZooManifest, *, device: str) -> dict[str, str]:
    """Return the forms of convolutions, name -> form, that a new zoo is begun with; see `cpu.convolutions`."""
    layers = [layer for network in manifest.networks.values() for layer in network.layers]
    return convolutions.choose(layers) if device == "cpu" else {}


def training_settings(
    manifest: ZooManifest, *, device: str, forms: Mapping[str, str] = MappingProxyType({})
) -> "TrainingSettings":
    """Return how all models of a manifest's zoo are trained on a device.

    Args:
        manifest: of the zoo, whose models have one architecture.
        device: "cpu", "cuda" or "cuda:N".
        forms: of its convolutions on a CPU; there may be more.

    Raises:
        ZooError: the manifest wants a precision that only our own kernels have, and this GPU cannot run them.
    """
    from zoo_gen.population.population import TrainingSettings

    measured, (network,) = manifest.checkpoints.train_images, manifest.networks.values()
    convolutions_here = {layer.name for layer in network.layers if isinstance(layer, Convolution)}
    return TrainingSettings(
        epochs=manifest.training.epochs,
        n_evaluated=None if measured == "all" else measured,
        drop_last=manifest.training.drop_last,
        stop_loss=manifest.training.stop_loss,
        device=device,
        kernels=_precision(manifest, device=device),
        forms={name: form for name, form in forms.items() if name in convolutions_here and device == "cpu"},
        functions=manifest.training.source_sha256,
    )


def _precision(manifest: ZooManifest, *, device: str) -> str | None:
    """Return the precision of our own kernels, or None where torch's operations are used."""
    precision = manifest.training.precision
    if device == "cpu":
        if precision != "float32":
            warn_once(_logger, f"{manifest.name}: precision {precision} is a GPU's; a CPU computes in float32")
        return None
    lacking = _lacks_for_kernels(manifest, device=device)
    if lacking is None:
        return precision
    if precision != "float32":
        raise ZooError(f"training.precision {precision!r}: {lacking}; expected 'float32', which torch has without them")
    warn_once(_logger, f"{lacking}; torch's own operations are used, which are slower")
    return None


def _lacks_for_kernels(manifest: ZooManifest, *, device: str) -> str | None:
    """Return why our kernels cannot train a zoo on a GPU, None if they can."""
    (network,) = manifest.networks.values()
    if network.own_module is not None:
        return f"{manifest.name}: our kernels know layers; a module of one's own is stacked by torch.func"
    if not manifest.data.read_by_kernels:
        return f"{manifest.name}: our kernels read bytes of classes, and fit waves and images in grey"
    from zoo_gen.population.gpu import served, updates

    crops = served.reads_crops(network.layers, manifest.data.input_shape)
    if (name := updates.unserved(manifest.values, crops=crops)) is not None:
        return f"{manifest.name}: our kernels do not know this {name}"
    first = next(layer for layer in network.layers if not isinstance(layer, Flatten))
    if not isinstance(first, Convolution | Linear):
        return f"{manifest.name}: our kernels read images by a convolution or a linear layer, not by {first.name}"
    layer = served.unserved(network.layers, manifest.data.input_shape)
    if layer is not None:
        return f"{manifest.name}: our kernels do not know {layer.name}"
    return lacks_for_gpu_kernels(device)
