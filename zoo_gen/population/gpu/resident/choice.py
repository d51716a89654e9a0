"""Which populations are trained in one multiprocessor a model, and which by the kernels that launch layer by layer."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from zoo_gen.architecture.layers import Convolution, Layer, Linear
from zoo_gen.architecture.network import Network
from zoo_gen.machine.warning import warn_once
from zoo_gen.population.columns import Members
from zoo_gen.population.gpu.resident import compiling, program, stages, step_code
from zoo_gen.population.gpu.resident.program import BY_INPUT, Program
from zoo_gen.population.gpu.resident.resident import Resident, compiled
from zoo_gen.population.gpu.resident.stages import UnservedError
from zoo_gen.population.tasks import Task

MOST_OF_LINEAR = 15_000  # products of an image, where there is no convolution: what was measured to be faster
# Images a step from which on a model may keep in global memory what activations were computed from. Smaller batches of
# such networks are left to the kernels that trained `medium_cifar10_jpeg_small_cnn_gap`: its digest is in results.
FEWEST_OUTSIDE = 256

_logger = logging.getLogger(__name__)


def serves(network: Network, *, batch_size: int, precision: str | None, device: str) -> bool:
    """Return whether models of a network and batch size are trained in one multiprocessor each, as `resident` says."""
    if precision is None or not device.startswith("cuda") or compiling.hindrance(device) is not None:
        return False
    return isinstance(_planned(network, batch_size, precision), Program)


def bytes_outside(network: Network, *, batch_size: int, precision: str) -> int:
    """Return what a model that is served keeps in global memory between layers, for the activation that needs most."""
    planned = _planned(network, batch_size, precision)
    return replace(planned, kinds=frozenset(BY_INPUT)).outside_size if isinstance(planned, Program) else 0


@cache
def _planned(network: Network, batch_size: int, precision: str) -> Program | str:
    """Return the program that trains a network, or what stands in the way."""
    try:
        _check_measured(network.layers)
        written = program.plan(
            stages.read(network), precision=precision, batch_size=batch_size, training=True, kinds=frozenset(),
            n_classes=network.n_outputs,
        )  # fmt: skip
        step_code.source(written)  # asks for its tables
        program.check_size(written)
    except UnservedError as unserved:
        return str(unserved)
    if written.outside and batch_size < FEWEST_OUTSIDE:
        return f"{batch_size} images a step, {FEWEST_OUTSIDE} are wanted where not all lies in shared memory"
    return written


def resident(
    network: Network,
    members: Members,
    task: Task,
    weights: Tensor,
    *,
    batch_size: int,
    steps: Sequence[int],
    n_epochs: int,
    precision: str,
) -> Resident | None:
    """Return what trains a population in one multiprocessor a model, None (and say why) where other kernels must.

    It follows from the layers, the batch size, the precision and the GPU, never from which models there are.
    `batch_size` is that of the table, `steps` are smaller where there are fewer images.
    """
    if not weights.is_cuda:
        return None
    reason = compiling.hindrance(str(weights.device))
    if reason is not None:
        warn_once(_logger, f"{reason}: kernels go layer by layer, which is slower for small networks")
        return None
    with torch.cuda.device(weights.device):
        try:
            planned = _planned(network, batch_size, precision)
            if isinstance(planned, str):
                raise UnservedError(planned)
            return Resident(
                network, members, task, weights,
                steps=steps, n_epochs=n_epochs, precision=precision, compiled=compiled,
            )  # fmt: skip
        except UnservedError as unserved:
            _logger.info("kernels go layer by layer: one multiprocessor does not train these models, %s", unserved)
            return None


def _check_measured(layers: Sequence[Layer]) -> None:
    """Refuse what is not known to be faster in one multiprocessor.

    Raises:
        UnservedError: linear layers alone, and larger ones than were measured.
    """
    linear = [layer for layer in layers if isinstance(layer, Linear)]
    products = sum(layer.inputs * layer.outputs for layer in linear)
    if products > MOST_OF_LINEAR and not any(isinstance(layer, Convolution) for layer in layers):
        raise UnservedError(f"linear layers alone of {products} products an image, up to {MOST_OF_LINEAR} are faster")
