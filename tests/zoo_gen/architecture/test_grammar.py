"""The open grammar: names, parameters and order of torch's own modules, and reorderings that change no output."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.grammar_networks import ACT, FLATTEN, NETWORKS, architecture, conv, inputs_of, linear, norm, residual
from zoo_gen.architecture.layers import layers_from_json, layers_to_json
from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.architecture.network import Network
from zoo_gen.architecture.registry import Layers, network


def network_of(name: str) -> Network:
    return network(Layers.model_validate(architecture(name)), NETWORKS[name][2], 10)


def filled(module: nn.Module, *, seed: int = 0) -> nn.Module:
    """Fill all parameters and running statistics with random numbers, variances above 0; in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point():
                values = torch.randn(tensor.shape, generator=generator) / 2
                tensor.copy_(values.abs() + 0.5 if name.endswith("running_var") else values)
    return module.eval()


def vectors(module: nn.Module, network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and buffers of a module as they lie in a zoo."""
    state = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    parts = [np.concatenate([state[p.name].ravel() for p in layout.parameters] or [np.zeros(0, "f4")])
             for layout in (network.layout, network.buffer_layout)]  # fmt: skip
    return parts[0], parts[1]


def with_vectors(module: nn.Module, network: Network, weights: np.ndarray, buffers: np.ndarray) -> nn.Module:
    values = network.layout.split(weights) | (
        network.buffer_layout.split(buffers) if network.buffer_layout.size else {}
    )
    module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in values.items()}, strict=False)
    return module.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_module_computes_what_plain_torch_computes(name):
    network, (_, build, shape) = network_of(name), NETWORKS[name]
    plain, module = filled(build(nn.Tanh, nn.Identity)), network.module(activation="tanh").eval()
    assert [tuple(p.shape) for p in module.parameters()] == [tuple(p.shape) for p in plain.parameters()]
    assert [p.name for p in network.layout.parameters] == [name for name, _ in module.named_parameters()]
    assert [p.shape for p in network.layout.parameters] == [tuple(p.shape) for p in module.parameters()]
    nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(plain.parameters()), module.parameters())
    stored = [tensor for name, tensor in module.named_buffers() if name in module.state_dict()]
    for ours, theirs in zip(stored, plain.buffers(), strict=True):
        ours.copy_(theirs)
    with torch.no_grad():
        torch.testing.assert_close(module(inputs_of(shape, 7)), plain(inputs_of(shape, 7)))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("name", NETWORKS)
def test_reordered_units_compute_the_same_and_the_inverse_restores_every_bit(name, activation):
    network, shape = network_of(name), NETWORKS[name][2]
    module = filled(network.module(activation=activation))
    weights, buffers = vectors(module, network)
    random = np.random.RandomState(0)
    orders = {symmetry.layer: random.permutation(symmetry.size) for symmetry in network.layout.symmetries}
    assert len(orders) == len(network.layout.symmetries)  # each has a name of its own
    index, buffer_index = network.layout.permutation(orders), network.buffer_layout.permutation(orders)
    inputs = inputs_of(shape, 20)
    with torch.no_grad():
        before = module(inputs)
        after = with_vectors(module, network, weights[index], buffers[buffer_index])(inputs)
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)
    back = {layer: np.argsort(order) for layer, order in reversed(orders.items())}  # sets may lie in others: heads
    np.testing.assert_array_equal(weights[index][network.layout.permutation(back)], weights)
    np.testing.assert_array_equal(buffers[buffer_index][network.buffer_layout.permutation(back)], buffers)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_move_is_needed(name):
    """Units that move in all parameters but one compute something else, so the test above can fail."""
    network, shape = network_of(name), NETWORKS[name][2]
    module = filled(network.module(activation="tanh"))
    weights, buffers = vectors(module, network)
    inputs = inputs_of(shape, 20)
    with torch.no_grad():
        before = module(inputs)
    for symmetry in (each for each in network.layout.symmetries if each.size > 1):
        order = {symmetry.layer: np.roll(np.arange(symmetry.size), 1)}
        for move in symmetry.moves:
            part = type(symmetry)(symmetry.layer, symmetry.size, tuple(m for m in symmetry.moves if m != move))
            index = ParameterLayout(network.layout.parameters, (part,)).permutation(order)
            buffer_index = network.buffer_layout.permutation(order)
            with torch.no_grad():
                after = with_vectors(module, network, weights[index], buffers[buffer_index])(inputs)
            # The bias of a key adds the same to all scores of a query, which softmax takes away again.
            assert (after - before).abs().max() > 1e-4 or move.parameter.endswith("key.bias"), move
        with_vectors(module, network, weights, buffers)


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_and_layouts_are_read_back_from_plain_data(name):
    network = network_of(name)
    assert layers_from_json(layers_to_json(network.layers)) == network.layers
    assert ParameterLayout.from_json(network.layout.to_json()) == network.layout


def sizes(layers: list[dict], shape: tuple[int, ...]) -> dict[str, int]:
    layout = network(Layers.model_validate({"name": "layers", "layers": layers}), shape, 10).layout
    return {symmetry.layer: symmetry.size for symmetry in layout.symmetries}


def test_units_of_a_residual_stream_move_together_and_those_of_blocks_alone():
    stream = [conv(4, 3), residual(conv(6, 1), ACT, conv(4, 1)), residual(conv(5, 1), ACT, conv(4, 1)), FLATTEN]
    layers = [*stream, linear(10)]
    assert sizes(layers, (1, 6, 6)) == {"convolution1": 4, "convolution2": 6, "convolution4": 5}
    layout = network(Layers.model_validate({"name": "layers", "layers": layers}), (1, 6, 6), 10).layout
    moved = {(move.parameter, move.axis) for move in layout.symmetries[0].moves}
    writers, readers = ("convolution1", "convolution3", "convolution5"), ("convolution2", "convolution4", "linear1")
    axes = {(f"{name}.{role}", 0) for name in writers for role in ("weight", "bias")}
    assert moved == axes | {(f"{name}.weight", 1) for name in readers}


def test_units_that_are_added_to_inputs_or_outputs_stay():
    assert sizes([linear(5), {"type": "residual", "source": "input"}, ACT, linear(10)], (5,)) == {}
    assert sizes([linear(10), ACT, residual(linear(7), linear(10)), linear(10), ACT, linear(10)], (5,)) == {
        "linear1": 10,
        "linear2": 7,
        "linear4": 10,
    }
    assert sizes([residual(linear(7), ACT, linear(10)), linear(10)], (10,)) == {"linear1": 7}


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        (
            [conv(4, 3), residual(conv(6, 1)), FLATTEN, linear(10)],
            (1, 6, 6),
            r"layers\[1\]: residual adds 4 x 4 x 4 to 6 x 4 x 4 values; expected equal shapes, or a shortcut",
        ),
        (
            [conv(4, 3), residual(conv(4, 1), linear(4)), FLATTEN, linear(10)],
            (1, 6, 6),
            r"layers\[1\]\.layers\[1\]: linear needs flat values",
        ),
        (
            [conv(4, 3), residual(conv(6, 1), shortcut=[norm("layer"), linear(4)]), FLATTEN, linear(10)],
            (1, 6, 6),
            r"layers\[1\]\.shortcut\[1\]: linear needs flat values",
        ),
        (
            [conv(4, 3), ACT, {"type": "residual", "source": "activation2"}, FLATTEN, linear(10)],
            (1, 6, 6),
            r"layers\[2\]: residual adds what is not there: unknown source 'activation2'; did you mean 'activation1'",
        ),
        ([{"type": "residual"}, linear(10)], (4,), r"layers\[0\]: residual needs either the layers of a block, or"),
    ],
)
def test_layers_that_do_not_fit_are_named(layers, shape, message):
    with pytest.raises(ValueError, match=message):
        network(Layers.model_validate({"name": "layers", "layers": layers}), shape, 10)
