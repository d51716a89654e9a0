"""ForwardPass: what some networks of one architecture compute for inputs, all at once, differentiable in the inputs.

The layers of a population are run as it runs them, on a CPU by its kernels on all cores; any other network through
torch.func. It knows the activation function of each network, which nobody is told who only runs it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo_gen.architecture.layers import (
    Activate,
    Convolution,
    Flatten,
    Function,
    Layer,
    Normalization,
    Residual,
    sources,
)
from zoo_gen.architecture.network import Network
from zoo_gen.errors import ZooError, one_line

if TYPE_CHECKING:
    from torch import Tensor

_MODELS = {"cpu": 16, "cuda": 128}  # at once: as many as share a register, or as fit beside their patches
_plain: ContextVar[bool] = ContextVar("plain", default=False)


@contextmanager
def by_torch_alone() -> Iterator[None]:
    """Compute inside by torch's own operations alone, which torch can count."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


@dataclass(frozen=True)
class ForwardPass:
    """The forward pass of some networks of one architecture.

    Attributes:
        network: the architecture.
        functions: the activation functions that occur where a layer names none.
        function_of: which of them each network has, int64 (network,).

    >>> from zoo_gen import open_zoo
    >>> view = open_zoo("zoos/tiny").view([0, 1])
    >>> import torch
    >>> view.forward_pass.run(torch.from_numpy(view.weights[:, -1].copy()), torch.rand(7, 1, 4, 4)).shape
    torch.Size([2, 7, 4])
    """

    network: Network
    functions: tuple[Function | None, ...]
    function_of: np.ndarray

    @classmethod
    def of(cls, network: Network, functions: Sequence[Function | None]) -> "ForwardPass":
        """Return that of networks with these activation functions, one each.

        Raises:
            ZooError: the networks keep running statistics, which are no part of the weights.
        """
        if network.buffer_layout.size:
            what = f"module {network.own_module.reference!r}" if network.own_module else "batch normalisation"
            raise ZooError(
                f"forward: {what} keeps running statistics, which are no part of a view's weights; expected networks "
                "without"
            )
        if not any(isinstance(layer, Activate) and layer.function is None for layer in network.layers):
            functions = [None] * len(functions)  # every layer names its own
        known = tuple(dict.fromkeys(functions))
        places = {function: place for place, function in enumerate(known)}
        return cls(network, known, np.array([places[function] for function in functions], dtype=np.int64))

    def part(self, rows: np.ndarray | slice) -> "ForwardPass":
        """Return that of some of the networks."""
        return replace(self, function_of=self.function_of[rows])

    def followed_by(self, other: "ForwardPass") -> "ForwardPass":
        """Return that of these networks and then of others of the architecture."""
        return ForwardPass.of(self.network, [*self._names, *other._names])

    @property
    def _names(self) -> list[Function | None]:
        return [self.functions[place] for place in self.function_of]

    def run(self, weights: "Tensor", inputs: "Tensor") -> "Tensor":
        """Return the outputs (network, input, output).

        Args:
            weights: float32 (network, parameter), in the order of the layout.
            inputs: (input, *input_shape) for all networks, or (network, input, *input_shape), each its own.

        Raises:
            ZooError: the inputs have another shape, or the layers cannot be stacked.
        """
        import torch

        shape, has_own_inputs = self.network.input_shape, inputs.dim() == 2 + len(self.network.input_shape)
        if tuple(inputs.shape[-len(shape) :]) != tuple(shape) or inputs.dim() not in (1 + len(shape), 2 + len(shape)):
            raise ZooError(
                f"forward: got inputs {list(inputs.shape)}; expected (input, {', '.join(map(str, shape))}), or the "
                "same with the networks in front"
            )
        if has_own_inputs and len(inputs) != len(weights):
            raise ZooError(f"forward: got inputs of {len(inputs)} networks; expected {len(weights)}, or one for all")
        if not len(weights):
            return inputs.new_zeros(0, inputs.shape[int(has_own_inputs)], self.network.n_outputs)
        # Networks of one function stand together, so that a function is computed once.
        order = np.argsort(self.function_of, kind="stable")
        blocks = list(self._blocks(self.function_of[order], weights.device.type))
        with_gradient, plain = torch.is_grad_enabled(), _plain.get()
        # A copy a block, so that gradients are added in this order, whichever thread is done first.
        copies = inputs.unsqueeze(0).expand(len(blocks), *inputs.shape).unbind(0)

        def compute(block: tuple[Function | None, slice], images: "Tensor") -> "Tensor":
            function, places = block
            rows = torch.from_numpy(order[places]).to(weights.device)
            token = _plain.set(plain)
            with torch.set_grad_enabled(with_gradient):
                some = weights.index_select(0, rows)
                outputs = self._run_alike(function, some, images.index_select(0, rows) if has_own_inputs else images)
            _plain.reset(token)
            return outputs

        threads = torch.get_num_threads() if weights.device.type == "cpu" and not plain else 1
        if threads > 1 and len(blocks) > 1:
            with ThreadPoolExecutor(threads) as pool:
                outputs = list(pool.map(compute, blocks, copies))
        else:
            outputs = [compute(*pair) for pair in zip(blocks, copies, strict=True)]
        back = torch.from_numpy(np.argsort(order, kind="stable")).to(weights.device)
        return torch.cat(outputs).index_select(0, back)

    def _blocks(self, function_of: np.ndarray, device: str) -> Iterator[tuple[Function | None, slice]]:
        """Yield neighbouring networks of one function that are computed at once."""
        for place, function in enumerate(self.functions):
            first, last = np.searchsorted(function_of, [place, place + 1])
            for start in range(int(first), int(last), _MODELS[device]):
                yield function, slice(start, min(start + _MODELS[device], int(last)))

    def _run_alike(self, function: Function | None, weights: "Tensor", inputs: "Tensor") -> "Tensor":
        """Return the outputs (network, input, output) of networks of one activation function."""
        parameters = {
            p.name: weights[:, p.start : p.stop].unflatten(1, p.shape) for p in self.network.layout.parameters
        }
        layers = self.network.layers
        if layers and all(map(_is_stacked, layers)):
            return _stacked(self.network, function, parameters, inputs)
        return _by_torch_func(self.network, function, parameters, inputs)


def _is_stacked(layer: Layer) -> bool:
    """Return whether populations compute a layer; some stand in published zoos alone."""
    if isinstance(layer, Flatten):
        return not layer.channels_last
    return not isinstance(layer, Normalization) and not (isinstance(layer, Residual) and layer.channels is not None)


def _stacked(
    network: Network, function: Function | None, parameters: Mapping[str, "Tensor"], inputs: "Tensor"
) -> "Tensor":
    """Return the outputs (network, input, output) of the layers of a population."""
    from zoo_gen.machine.devices import can_compile
    from zoo_gen.population.cpu.convolutions import LANES
    from zoo_gen.population.forward import forward

    count, layers = len(next(iter(parameters.values()))), network.layers
    each = inputs.dim() == 2 + len(network.input_shape)
    shared = inputs.transpose(0, 1) if each else inputs.unsqueeze(1).expand(len(inputs), count, *inputs.shape[1:])
    compiled = inputs.device.type == "cpu" and not _plain.get() and can_compile()
    forms = {layer.name: LANES for layer in layers if isinstance(layer, Convolution)} if compiled else {}
    first, is_alone = layers[0], not sources(layers)
    if isinstance(first, Convolution) and first.groups == 1 and is_alone and not each and not compiled:
        # What all networks read is convolved once, with the kernels of all as channels.
        shared = _convolved(first, inputs, parameters, count)
        layers = layers[1:]
    runs: Any = [(function, slice(0, count))]
    return forward(layers, parameters, runs, shared, forms=forms).transpose(1, 2)


def _convolved(layer: Convolution, inputs: "Tensor", parameters: Mapping[str, "Tensor"], count: int) -> "Tensor":
    """Return a convolution of shared inputs by all networks (input, network, channel, height, width)."""
    from torch.nn import functional

    weight = parameters[f"{layer.name}.weight"].flatten(0, 1)
    bias = parameters[f"{layer.name}.bias"].flatten() if layer.bias else None
    outputs = functional.conv2d(inputs, weight, bias, stride=layer.strides, padding=layer.paddings)
    return outputs.unflatten(1, (count, layer.outputs))


def _by_torch_func(
    network: Network, function: Function | None, parameters: Mapping[str, "Tensor"], inputs: "Tensor"
) -> "Tensor":
    """Return the outputs (network, input, output) of any module that torch.func can stack.

    Raises:
        ZooError: it cannot.
    """
    import torch
    from torch.func import functional_call, vmap

    module = network.module(activation=function).eval().to(inputs.device)

    def one(tensors: dict[str, "Tensor"], images: "Tensor") -> "Tensor":
        outputs: Tensor = functional_call(module, tensors, (images,))
        return outputs.unsqueeze(1) if outputs.dim() == 1 else outputs

    each = inputs.dim() == 2 + len(network.input_shape)
    run: Callable[..., Tensor] = vmap(one, in_dims=(0, 0 if each else None))
    try:
        return run(dict(parameters), inputs)
    except torch.OutOfMemoryError:
        raise
    # What vmap cannot stack it refuses in many ways.
    except (RuntimeError, NotImplementedError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise ZooError(f"forward: these networks cannot be stacked by torch.func ({one_line(error)})") from None
