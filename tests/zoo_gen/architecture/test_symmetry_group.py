"""Changed weights compute what the plain modules of the old ones compute."""

import numpy as np
import pytest
import torch

from tests import grammar_networks
from zoo_gen.architecture import layers as L
from zoo_gen.architecture.network import Network
from zoo_gen.architecture.registry import CNN3FC2, MLP, CNNSmall, Layers, Siren, SmallCNNGap, network
from zoo_gen.architecture.symmetry_group import HOMOGENEOUS, ODD, SymmetryGroup
from zoo_gen.errors import ZooError

NETWORKS = {
    "mlp": network(MLP(name="mlp", widths=(16, 6, 5, 4)), (1, 4, 4), 4),
    "cnn_small": network(CNNSmall(name="cnn_small"), (1, 28, 28), 10),
    "small_cnn_gap": network(SmallCNNGap(name="small_cnn_gap"), (1, 28, 28), 10),
    "cnn3_fc2": network(CNN3FC2(name="cnn3_fc2", kernel=3), (1, 28, 28), 10),
    "siren": network(Siren(name="siren"), (1,), 1),
    "normalised": Network(
        (
            L.Convolution("convolution1", 1, 3, 3, 1, 0, True),
            L.Normalization("normalization1", 3, 1e-5),
            L.Activate("activation1"),
            L.Pooling("pooling1", "average", 2, 2),
            L.Flatten("flatten1"),
            L.Linear("linear1", 12, 5, True),
            L.Activate("activation2", "relu"),
            L.Linear("linear2", 5, 2, True),
        ),
        (1, 6, 6),
    ),
}

# What the open grammar adds: units that are added to others, groups, norms, steps.
OPEN = {
    "residual": Network(
        (
            L.Convolution("convolution1", 1, 4, 3, 1, 1, True),
            L.Activate("activation1"),
            L.Convolution("convolution2", 4, 4, 3, 1, 1, True),
            L.Activate("activation2"),
            L.Convolution("convolution3", 4, 4, 3, 1, 1, True),
            L.Residual("residual1", "activation1"),
            L.Activate("activation3"),
            L.GlobalPooling("pooling1", "max"),
            L.Linear("linear1", 4, 3, True),
        ),
        (1, 6, 6),
    ),
    "groups": Network(
        (
            L.Convolution("convolution1", 2, 4, 3, 1, 0, True),
            L.Activate("activation1"),
            L.Convolution("convolution2", 4, 4, 3, 1, 0, True, groups=4),
            L.Activate("activation2"),
            L.Convolution("convolution3", 4, 6, 1, 1, 0, True, groups=2),
            L.GroupNorm("group_norm1", 3, 6, 1e-5, True),
            L.Activate("activation3"),
            L.Flatten("flatten1"),
            L.Linear("linear1", 24, 3, True),
        ),
        (2, 6, 6),
    ),
    "norms": Network(
        (
            L.Linear("linear1", 5, 6, True),
            L.LayerNorm("layer_norm1", (6,), 1e-5, True),
            L.Activate("activation1"),
            L.Linear("linear2", 6, 4, True),
            L.Activate("activation2"),
            L.Linear("linear3", 4, 2, True),
        ),
        (5,),
    ),
    "recurrent": Network(
        (
            L.Recurrent("recurrent1", "gru", 3, 5, True, True),
            L.Recurrent("recurrent2", "rnn", 5, 4, True, False),
            L.Linear("linear1", 4, 6, True),
            L.Activate("activation1"),
            L.Linear("linear2", 6, 2, True),
        ),
        (7, 3),
    ),
}


def group_of(net, functions):
    names = sorted(set(functions))
    places = np.array([names.index(name) for name in functions])
    return SymmetryGroup.of(net.layout, net.layers, functions=names, function_of=places)


def weights_of(net, count, seed=0):
    weights = np.random.default_rng(seed).normal(size=(count, net.layout.size)) * 0.3
    for parameter in net.layout.parameters:
        if parameter.role == "running_var":
            weights[:, parameter.start : parameter.stop] = 0.5 + weights[:, parameter.start : parameter.stop] ** 2
    return weights.astype(np.float32)


def computed(net, weights, function, images):
    """The outputs of one plain module in float64."""
    module = net.module(activation=function).double()
    by_name = dict(module.named_parameters()) | dict(module.named_buffers())
    for name, values in net.layout.split(weights).items():
        by_name[name].data.copy_(torch.from_numpy(values.copy()))
    return module.eval()(images).detach()


@pytest.mark.parametrize("name", [*NETWORKS, *OPEN])
@pytest.mark.parametrize("drawn", [{}, {"scales": (1, 10)}, {"flips": True}, {"scales": (1, 1000), "flips": True}])
def test_changed_networks_compute_the_same(name, drawn):
    net, functions = (NETWORKS | OPEN)[name], ["relu", "tanh", "gelu", "relu", "leaky_relu"]
    weights = weights_of(net, len(functions))
    images = torch.rand((4, *net.input_shape), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    member = group_of(net, functions).draw(seed=5, **drawn)
    moved = member.apply(weights)
    assert (moved != weights).mean() > 0.4
    for row, function in enumerate(functions):
        before, after = (computed(net, each[row], function, images) for each in (weights, moved))
        torch.testing.assert_close(after, before, rtol=2e-5, atol=2e-5 * (30 if name == "siren" else 1))
    np.testing.assert_allclose(member.inverse().apply(moved), weights, rtol=1e-6)
    np.testing.assert_allclose(member.apply(member.inverse().apply(weights)), weights, rtol=1e-6)


@pytest.mark.parametrize("name", grammar_networks.NETWORKS)
def test_changed_networks_of_any_layers_of_the_grammar_compute_the_same(name):
    layers = Layers.model_validate(grammar_networks.architecture(name))
    net, functions = network(layers, grammar_networks.NETWORKS[name][2], 10), ["relu", "tanh", "relu"]
    weights = weights_of(net, len(functions))
    images = grammar_networks.inputs_of(net.input_shape, 4).double()
    moved = group_of(net, functions).draw(seed=5, scales=(1, 10), flips=True).apply(weights)
    for row, function in enumerate(functions):
        before, after = (computed(net, each[row], function, images) for each in (weights, moved))
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def changed_by(net, functions, **drawn):
    """Whether each network's weights change beside their order."""
    weights = weights_of(net, len(functions))
    return (group_of(net, functions).draw(seed=1, orders=False, **drawn).apply(weights) != weights).any(axis=1)


def test_factors_change_homogeneous_networks_and_signs_odd_ones():
    net, functions = NETWORKS["mlp"], ["relu", "tanh", "gelu", "sigmoid", "leaky_relu"]
    assert changed_by(net, functions, scales=(1, 10)).tolist() == [True, False, False, False, True]
    assert changed_by(net, functions, flips=True).tolist() == [False, True, False, False, False]
    group = group_of(net, functions)
    assert group.rows_with(HOMOGENEOUS).tolist() == [True, False, False, False, True]
    assert group.rows_with(ODD).tolist() == [False, True, False, False, False]


def test_signs_do_not_pass_the_maximum_of_a_window():
    weights = weights_of(NETWORKS["cnn_small"], 1)
    member = group_of(NETWORKS["cnn_small"], ["tanh"]).draw(seed=1, orders=False, flips=True)
    changed = NETWORKS["cnn_small"].layout.split((member.apply(weights) != weights)[0])
    assert not changed["convolution1.weight"].any()
    assert changed["convolution3.weight"].any()  # no pooling behind it


def test_a_draw_follows_from_seed_and_key_alone():
    net = NETWORKS["mlp"]
    together = group_of(net, ["relu"] * 4).draw(seed=3, scales=(1, 10), keys=[7, 8, 9, 7])
    alone = group_of(net, ["relu"]).draw(seed=3, scales=(1, 10), keys=[9])
    np.testing.assert_array_equal(together.factor[2], alone.factor[0])
    np.testing.assert_array_equal(together.index[0], together.index[3])
    assert (together.factor[0] != together.factor[1]).any()
    other = group_of(net, ["relu"]).draw(seed=4, scales=(1, 10), keys=[9])
    assert (other.factor != alone.factor).any()
    factors = together.factor[:, :96]  # of the first layer, which nothing divides
    assert 1 <= factors.min() < factors.max() <= 10


def test_factors_are_refused_where_functions_are_not_told():
    net = NETWORKS["mlp"]
    group = SymmetryGroup.of(net.layout, net.layers, functions=(), function_of=np.zeros(2, int), reason="not told")
    assert (group.draw(seed=0).factor == 1).all()
    with pytest.raises(ZooError, match="not told; expected orders alone"):
        group.draw(seed=0, scales=(1, 10))
