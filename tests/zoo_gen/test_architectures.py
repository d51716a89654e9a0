import pytest
import torch

from tests.plain_loop import ACTIVATIONS
from zoo_gen import architectures
from zoo_gen.architectures import MLP, build_module, parameter_layout


@pytest.mark.parametrize(
    ("widths", "bias", "parameters"), [((16, 5, 4), False, 100), ((64, 24, 10), True, 1810), ((7, 3), True, 24)]
)
def test_parameter_counts_are_the_known_ones_and_torchs(widths, bias, parameters):
    architecture = MLP(name="mlp", widths=widths, bias=bias)
    module = build_module(architecture, activation="relu")
    layout = parameter_layout(architecture)
    assert layout.size == parameters == sum(p.numel() for p in module.parameters())
    assert {p.name: p.shape for p in layout.parameters} == {n: tuple(t.shape) for n, t in module.state_dict().items()}
    assert [p.name for p in layout.parameters] == list(module.state_dict())


@pytest.mark.parametrize("activation", architectures.ACTIVATIONS)
def test_the_module_computes_what_its_activation_says(activation):
    module = build_module(MLP(name="mlp", widths=(4, 3, 2)), activation=activation)
    images = torch.randn(5, 1, 2, 2)
    first, second = module.linear1, module.linear2
    expected = second(ACTIVATIONS[activation]()(first(images.flatten(1))))
    assert torch.equal(module(images), expected)
