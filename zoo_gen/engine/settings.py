"""How the models of a manifest are trained on a device: in which precision and forms, and how many at once.

A zoo keeps the forms of convolutions that it was begun with; all else follows from the manifest and the device alone.
"""

import logging
import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from zoo_gen import store
from zoo_gen.architecture.layers import Convolution, Flatten, Linear
from zoo_gen.errors import ZooError
from zoo_gen.manifest import ZooManifest

if TYPE_CHECKING:
    from zoo_gen.population.population import Regime

OLDEST_GPU = 8  # compute capability from which there are bfloat16 and tf32

_logger = logging.getLogger(__name__)


def check_device(device: str) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        ZooError: it is not "cpu", "cuda" or "cuda:N", or there is no such GPU.
    """
    if device == "cpu":
        return
    if not re.fullmatch(r"cuda(:\d+)?", device):
        raise ZooError(f"device {device!r}: expected cpu, cuda or cuda:N")
    import torch

    count = torch.cuda.device_count()
    if int(device.partition(":")[2] or 0) >= count:
        raise ZooError(f"device {device!r}: torch {torch.__version__} sees {count} CUDA devices; expected --device cpu")


def models_on_device(manifest: ZooManifest, *, device: str) -> tuple[int, int]:
    """Return how many models of a zoo a GPU trains at once, and what each takes in bytes, by the largest batch.

    Raises:
        ZooError: not one fits.
    """
    from zoo_gen.population.gpu import memory

    batch_size = max(map(int, manifest.values("batch_size")))
    each = memory.bytes_per_model(
        manifest.layers,
        manifest.data.input_shape,
        manifest.layout,
        batch_size=batch_size,
        n_train=manifest.data.n_train,
        precision=regime(manifest, device=device).kernels,
    )
    return memory.models_that_fit(memory.room(device).total, each, batch_size=batch_size, device=device), each


def choose_forms(manifest: ZooManifest, *, device: str) -> dict[str, str]:
    """Return the forms of convolutions, name -> form, that a new zoo is begun with; see `population.wisdom`."""
    if device != "cpu" or not any(isinstance(layer, Convolution) for layer in manifest.layers):
        return {}
    from zoo_gen.population.cpu import wisdom
    from zoo_gen.population.train import single_threaded

    with single_threaded():
        return wisdom.forms_of(manifest, models_per_shard=store.Extent.of(manifest).models_per_shard)


def regime(manifest: ZooManifest, *, device: str, forms: Mapping[str, str] = store.NO_FORMS) -> "Regime":
    """Return how all models of a manifest's zoo are trained on a device.

    Args:
        manifest: of the zoo.
        device: "cpu", "cuda" or "cuda:N".
        forms: of its convolutions on a CPU.

    Raises:
        ZooError: the manifest wants a precision that only our own kernels have, and this GPU cannot run them.
    """
    from zoo_gen.population.population import Regime

    measured = manifest.checkpoints.train_images
    return Regime(
        epochs=manifest.training.epochs,
        n_evaluated=None if measured == "all" else measured,
        drop_last=manifest.training.drop_last,
        stop_loss=manifest.training.stop_loss,
        device=device,
        kernels=_precision(manifest, device=device),
        forms=forms if device == "cpu" else store.NO_FORMS,
    )


def _precision(manifest: ZooManifest, *, device: str) -> str | None:
    """Return the precision of our own kernels, or None where torch's operations are used."""
    wanted = manifest.training.precision
    if device == "cpu":
        if wanted != "float32":
            _warn_once(f"{manifest.name}: precision {wanted} is a GPU's; a CPU computes in float32")
        return None
    hindrance = _hindrance(manifest, device=device)
    if hindrance is None:
        return wanted
    if wanted != "float32":
        raise ZooError(f"training.precision {wanted!r}: {hindrance}; expected 'float32', which torch has without them")
    _warn_once(f"{hindrance}; torch's own operations are used, which are slower")
    return None


@cache
def _warn_once(message: str) -> None:
    _logger.warning(message)


def _hindrance(manifest: ZooManifest, *, device: str) -> str | None:
    """Return why our kernels cannot train a zoo on a GPU, None if they can."""
    import importlib.util

    import torch

    if importlib.util.find_spec("triton") is None:
        return f"torch {torch.__version__} has no Triton"
    first = next(layer for layer in manifest.layers if not isinstance(layer, Flatten))
    if not isinstance(first, Convolution | Linear):
        return f"{manifest.name}: our kernels read images by a convolution or a linear layer, not by {first.name}"
    major, minor = torch.cuda.get_device_capability(device)
    if major < OLDEST_GPU:
        return (
            f"{torch.cuda.get_device_name(device)} has compute capability {major}.{minor}, kernels need {OLDEST_GPU}.0"
        )
    return None
