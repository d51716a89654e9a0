import pytest
import torch

from tests.zoo_gen.architecture.test_symmetry_group import NETWORKS, computed, weights_of
from zoo_gen.architecture import layers as L
from zoo_gen.architecture.network import Network
from zoo_gen.architecture.widening import split_units, widened
from zoo_gen.errors import ZooError


@pytest.mark.parametrize("name", NETWORKS)
def test_a_widened_network_computes_the_same(name):
    net, wide = NETWORKS[name], widened(NETWORKS[name])
    assert wide.n_outputs == net.n_outputs
    assert wide.layout.size > 1.8 * net.layout.size
    weights = weights_of(net, 3)
    split = split_units(net, weights, seed=0, keys=[4, 5, 6])
    assert split.shape == (3, wide.layout.size)
    images = torch.rand((4, *net.input_shape), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for row, function in enumerate(("relu", "gelu", "tanh")):
        before, after = computed(net, weights[row], function, images), computed(wide, split[row], function, images)
        torch.testing.assert_close(after, before, rtol=2e-5, atol=2e-5 * (30 if name == "siren" else 1))
    # The halves of a unit are read in another proportion in every network.
    again = split_units(net, weights[[0, 0]], seed=0, keys=[4, 5])
    assert (again[0] == split[0]).all()
    assert (again[0] != again[1]).any()


def test_units_that_are_added_to_others_cannot_be_split():
    layers = (
        L.Convolution("convolution1", 1, 3, 3, 1, 1, True),
        L.Convolution("convolution2", 3, 3, 3, 1, 1, True),
        L.Residual("residual1", "convolution1", 3),
        L.GlobalPooling("pooling1"),
        L.Linear("linear1", 3, 2, True),
    )
    with pytest.raises(ZooError, match="not read by the next layer alone"):
        widened(Network(layers, (1, 4, 4)))
