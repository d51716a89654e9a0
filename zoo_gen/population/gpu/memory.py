"""What a model takes on a GPU while it is trained, and how many fit: by counting, before anything is allocated."""

import math
from dataclasses import dataclass

from zoo_gen.architecture.layers import (
    Activate,
    Attention,
    Convolution,
    Dropout,
    Flatten,
    Linear,
    Recurrent,
    Shift,
)
from zoo_gen.architecture.network import Network
from zoo_gen.architecture.shapes import shapes
from zoo_gen.errors import ZooError
from zoo_gen.population.gpu import transformer_form

# So many images a step fill a GPU (measured on an H100: more are no faster, docs/gpu.md), and so many models at least
# where batches are large, because those of one zoo may fall into several populations. More would only be lost by an
# interruption.
FULL = 2**18
LEAST, MOST = 1024, 8192
# Where a model has a multiprocessor for itself, the last ones leave most others empty: with few models, for long.
LEAST_RESIDENT = 4096
# Of the free memory, without what the images and the sorting of their order take of it, which is at most half of this
# share: the rest is what torch keeps beside.
_SHARE = 0.6
_BESIDE = 8e8  # bytes


@dataclass(frozen=True)
class Room:
    """The memory of a device."""

    total: int  # bytes
    free: int  # bytes, those that this process holds and does not use included


def room(device: str) -> Room:
    """Return the memory of a CUDA device."""
    import torch

    free, total = torch.cuda.mem_get_info(device)
    return Room(total, free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def total(device: str) -> int:
    """Return the bytes of a CUDA device, without taking any for a context of it."""
    import torch

    return torch.cuda.get_device_properties(device).total_memory


def bytes_per_model(
    network: Network, *, batch_size: int, n_train: int, precision: str | None, resident: bool = False
) -> int:
    """Return what one more model takes on the device.

    Args:
        network: of the model.
        batch_size: images a step.
        n_train: training images, whose order is kept.
        precision: of our own kernels; None where torch's operations are used.
        resident: whether the model lives in one multiprocessor, so that no value between layers is in memory but what
            `choice.bytes_outside` counts.
    """
    size = 2 if precision == "bfloat16" else 4
    images = max(batch_size, 128) if precision else batch_size
    values = 0 if resident else _values(network, precision)
    arrays = 6  # weights, two moments, gradient, and a copy of two on their way to the host
    if precision is not None and transformer_form.read(network.layers, network.input_shape) is not None:
        arrays += transformer_form.SPLITS - 1
    state = arrays * network.layout.size * 4
    return values * images * size + state + n_train * 4


def _values(network: Network, precision: str | None) -> int:
    """Return how many numbers an image takes between layers."""
    values = 0
    if network.own_module is not None:
        from zoo_gen.architecture.stacking import count_values

        # Each value with its gradient, and the copies of vmap.
        values = 4 * count_values(network.own_module, network.input_shape)
    before = network.input_shape
    if precision is not None and (form := transformer_form.read(network.layers, before)) is not None:
        features = -(-form.embedding.convolution.outputs // 8) * 8
        parts = 1 + len(form.mixing)
        rest = [layer.outputs for layer in form.rest if isinstance(layer, Linear)]
        return 2 * (parts * form.steps * features + features + sum(-(-count // 8) * 8 for count in rest))
    for layer, shape in zip(network.layers, shapes(network.layers, network.input_shape), strict=True):
        if precision is None:
            # torch keeps every value, its gradient, the patches that a convolution multiplies, and every gate.
            values += 2 * math.prod(shape)
            if isinstance(layer, Convolution):
                values += 4 * layer.inputs * math.prod(layer.kernels) * math.prod(shape[1:])
            elif isinstance(layer, Attention):
                values += 16 * layer.inner * before[0]  # products, their order by heads, and both again as gradients
            elif isinstance(layer, Recurrent):
                values += 8 * layer.gates * layer.outputs * before[0]
        elif not isinstance(layer, Activate | Dropout | Flatten | Shift):
            values += 2 * math.prod(shape[1:]) * -(-shape[0] // 8) * 8
        before = shape
    return values


def enough(batch_size: int, *, resident: bool = False) -> int:
    """Return how many models of a batch size fill a GPU, so that more at once are no faster."""
    return max(LEAST_RESIDENT if resident else LEAST, min(MOST, FULL // batch_size))


def models_that_fit(free: int, each: int, *, device: str) -> int:
    """Return how many models fit.

    Args:
        free: bytes of the device.
        each: bytes that a model takes.
        device: its name, for the message.

    Raises:
        ZooError: not one fits.
    """
    models = int(_SHARE * free - min(_BESIDE, _SHARE * free / 2)) // each
    if models < 1:
        raise ZooError(
            f"device {device!r}: one model needs {each / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; expected a smaller "
            "batch_size, or a GPU with more memory"
        )
    return models
