"""Networks that are run together compute what their plain modules compute."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from tests import grammar_networks
from tests.zoo_gen.architecture.test_symmetry_group import NETWORKS, OPEN, computed, weights_of
from zoo_gen import open_zoo
from zoo_gen.architecture import layers as L
from zoo_gen.architecture.network import Network
from zoo_gen.architecture.registry import CNNLarge, Layers, network
from zoo_gen.errors import ZooError
from zoo_gen.zoo.forward import ForwardPass, by_torch_alone

FUNCTIONS = ["relu", "tanh", "gelu", "relu", "silu", "sigmoid", "leaky_relu"]
RESIDUAL = Network(
    (
        L.Convolution("convolution1", 1, 3, 3, 1, 1, True),
        L.Activate("activation1", "elu"),
        L.Convolution("convolution2", 3, 3, 3, 1, 1, True),
        L.Residual("residual1", "activation1", 2),
        L.Activate("activation2", "identity"),
        L.Flatten("flatten1", channels_last=True),
        L.Linear("linear1", 75, 2, True),
    ),
    (1, 5, 5),
)
LARGE = network(CNNLarge(name="cnn_large"), (3, 32, 32), 10)


EVERY = {**NETWORKS, **OPEN, "cnn_large": LARGE, "published_residual": RESIDUAL}


@pytest.mark.parametrize("net", EVERY.values(), ids=EVERY)
def test_all_networks_at_once_compute_what_each_computes(net):
    weights = weights_of(net, len(FUNCTIONS))
    images = torch.rand((5, *net.input_shape), generator=torch.Generator().manual_seed(0))
    outputs = ForwardPass.of(net, FUNCTIONS).run(torch.from_numpy(weights), images)
    assert outputs.shape == (len(FUNCTIONS), 5, net.n_outputs)
    for row, function in enumerate(FUNCTIONS):
        expected = computed(net, weights[row], function, images.double()).float()
        torch.testing.assert_close(outputs[row], expected, rtol=1e-4, atol=2e-4)
    scaled = images.unsqueeze(0) * torch.arange(1, len(FUNCTIONS) + 1).view(-1, *[1] * images.dim())
    outputs = ForwardPass.of(net, FUNCTIONS).run(torch.from_numpy(weights), scaled)
    expected = computed(net, weights[3], FUNCTIONS[3], scaled[3].double()).float()
    torch.testing.assert_close(outputs[3], expected, rtol=1e-4, atol=1e-3)
    with by_torch_alone():
        shared = ForwardPass.of(net, FUNCTIONS).run(torch.from_numpy(weights), images)
    expected = computed(net, weights[3], FUNCTIONS[3], images.double()).float()
    torch.testing.assert_close(shared[3], expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("name", grammar_networks.NETWORKS)
def test_networks_of_any_layers_of_the_grammar_are_run(name, alone):
    layers = Layers.model_validate(grammar_networks.architecture(name))
    net = network(layers, grammar_networks.NETWORKS[name][2], 10)
    if net.buffer_layout.size:
        with pytest.raises(ZooError, match="batch normalisation keeps running statistics"):
            ForwardPass.of(net, ["relu"])
        return
    weights, functions = weights_of(net, 3), ["relu", "tanh", "relu"]
    images = grammar_networks.inputs_of(net.input_shape, 5)
    with by_torch_alone() if alone else nullcontext():
        outputs = ForwardPass.of(net, functions).run(torch.from_numpy(weights), images)
    for row, function in enumerate(functions):
        expected = computed(net, weights[row], function, images.double()).float()
        torch.testing.assert_close(outputs[row], expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("net", [NETWORKS["cnn_small"], RESIDUAL], ids=["cnn_small", "residual"])
def test_gradients_reach_the_inputs(net):
    weights = weights_of(net, 3)
    images = torch.rand((2, *net.input_shape), generator=torch.Generator().manual_seed(0)).requires_grad_()
    functions = ["tanh", "relu", "tanh"]
    outputs = ForwardPass.of(net, functions).run(torch.from_numpy(weights), images)
    (gradient,) = torch.autograd.grad(outputs.square().sum(), images)
    total = torch.zeros((), dtype=torch.float64)
    exact = images.detach().double().requires_grad_()
    for row, function in enumerate(functions):
        module = net.module(activation=function).double()
        values = net.layout.split(weights[row])
        module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in values.items()})
        total = total + module(exact).square().sum()
    (expected,) = torch.autograd.grad(total, exact)
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-3, atol=1e-4)


def test_a_network_computes_the_same_beside_any_others():
    net = NETWORKS["cnn_small"]
    weights = torch.from_numpy(weights_of(net, 40))
    functions = [FUNCTIONS[number % 3] for number in range(40)]
    images = torch.rand((4, *net.input_shape), generator=torch.Generator().manual_seed(0))
    whole = ForwardPass.of(net, functions)
    outputs = whole.run(weights, images)
    rows = np.array([31, 2, 17])
    torch.testing.assert_close(whole.part(rows).run(weights[rows], images), outputs[rows])
    both = whole.part(slice(10, 20)).followed_by(whole.part(slice(0, 10)))
    torch.testing.assert_close(both.run(torch.cat([weights[10:20], weights[:10]]), images)[10:], outputs[:10])
    with by_torch_alone():
        torch.testing.assert_close(whole.run(weights, images), outputs, rtol=1e-4, atol=1e-5)


def test_a_view_of_a_zoo_is_run(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    view = zoo.view([3, 17, 30, 5])
    images = torch.rand((6, 1, 4, 4))
    outputs = view.forward_pass.run(torch.from_numpy(view.weights[:, 2].copy()), images)
    for row, model in enumerate([3, 17, 30, 5]):
        torch.testing.assert_close(outputs[row], zoo.module(model, 2)(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 4, 4), (2, 16), (3, 5, 1, 4, 4), (1, 1, 4, 5)])
def test_inputs_of_another_shape_are_refused(shape):
    forward = ForwardPass.of(NETWORKS["mlp"], ["relu"] * 2)
    with pytest.raises(ZooError, match="forward: got inputs"):
        forward.run(torch.from_numpy(weights_of(NETWORKS["mlp"], 2)), torch.rand(shape))
