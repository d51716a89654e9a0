"""Peers embed networks that compute the same function alike, as their papers promise, and learn."""

import numpy as np
import pytest
import torch

from tests import grammar_networks
from tests.grammar_networks import architecture
from tests.zoo_gen.architecture.test_symmetry_group import NETWORKS, weights_of
from zoo_bench.encoders import make_encoder
from zoo_bench.encoders.graph_network.encoder import Settings as GraphSettings
from zoo_bench.encoders.graph_network.encoder import graph_network
from zoo_bench.encoders.nfn.encoder import nfn
from zoo_bench.encoders.nfn.layers import EquivariantLayer, axes_of
from zoo_bench.encoders.probing.encoder import probing
from zoo_bench.encoders.scale_graph_network.encoder import Settings as ScaleSettings
from zoo_bench.encoders.scale_graph_network.encoder import scale_graph_network
from zoo_bench.encoders.training.loop import TrainingSettings
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.protocol.problem import Problem
from zoo_bench.protocol.views import HiddenRows, TrainingView, WeightsView
from zoo_gen import open_zoo
from zoo_gen.architecture.registry import Layers, network
from zoo_gen.errors import ZooError

SHORT = TrainingSettings(epochs=4, batch_size=16, learning_rate=3e-3, optimizer="adam", bfloat16=False)
TINY_GRAPHS = GraphSettings(width=8, rounds=2, head_width=16)
TINY_SCALED = ScaleSettings(width=8, rounds=2, head_width=16)
PEERS = {
    "nfn_np": lambda: nfn("np", training=SHORT),
    "nfn_hnp": lambda: nfn("hnp", training=SHORT),
    "graph_network": lambda: graph_network(TINY_GRAPHS, training=SHORT),
    "scale_graph_network": lambda: scale_graph_network(TINY_SCALED, training=SHORT),
    "probing": lambda: probing(probes=8, training=SHORT),
}


def moved_by(view, **drawn):
    member = view.symmetries.draw(seed=3, **drawn)
    return WeightsView(member.apply(view.weights[:, 0])[:, None], view.layout, view.computing)


@pytest.fixture(scope="module")
def views(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    parts = [TrainingView.of(zoo.view(zoo.split(part))) for part in ("train", "validation")]
    return *parts, HiddenRows.of(zoo.view(zoo.split("test"))).view


@pytest.fixture(scope="module")
def fitted(views):
    networks = {}
    for name, make in PEERS.items():
        encoder = make()
        encoder.runtime = Runtime(device="cpu")
        networks[name] = encoder.fit([views[0]], [views[1]], problem=Problem(), seed=0)
    return networks


@pytest.mark.parametrize("name", PEERS)
def test_embeddings_do_not_change_with_the_order_of_units(fitted, views, name):
    encoder, view = fitted[name], views[2]
    embeddings = encoder.encode(view)
    assert embeddings.std(axis=0).max() > 1e-3
    moved = moved_by(view)
    assert (moved.weights != view.weights).any(axis=(1, 2)).all()
    np.testing.assert_allclose(encoder.encode(moved), embeddings, atol=1e-5 * np.abs(embeddings).max())


def test_embeddings_change_with_factors_and_signs_where_they_may(fitted, views):
    moved = moved_by(views[2], scales=(1, 10), flips=True)
    for name, encoder in fitted.items():
        before, after = encoder.encode(views[2]), encoder.encode(moved)
        change = np.abs(after - before).max() / np.abs(before).max()
        most = {"probing": 1e-4, "scale_graph_network": 1e-5}
        assert change < most[name] if name in most else change > 1e-2, name


def test_probing_in_several_threads_is_fitted_alike_each_time(views):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        embeddings = []
        for _ in range(2):
            encoder = probing(probes=8, training=SHORT)
            encoder.runtime = Runtime(device="cpu")
            embeddings.append(encoder.fit([views[0]], [views[1]], problem=Problem(), seed=0).encode(views[2]))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*embeddings)


@pytest.mark.parametrize("name", PEERS)
def test_a_saved_peer_encodes_as_before(fitted, views, tmp_path, name):
    fitted[name].save(tmp_path / name)
    again = PEERS[name]()
    again.runtime = Runtime(device="cpu")
    again.load(tmp_path / name)
    np.testing.assert_array_equal(again.encode(views[2]), fitted[name].encode(views[2]))
    assert again.parameter_count == fitted[name].parameter_count > 1000


def test_every_peer_is_registered():
    for name in ("nfn_np", "nfn_hnp", "graph_network", "scale_graph_network", "probing"):
        rates = [make_encoder(f"{name}{size}").config["training"]["learning_rate"] for size in ("", "_small")]
        assert min(rates) == 1e-3


@pytest.mark.parametrize("name", ["groups", "gru over a sequence", "depthwise"])
def test_units_that_are_parts_of_an_axis_are_refused(name):
    net = network(Layers.model_validate(architecture(name)), grammar_networks.NETWORKS[name][2], 10)
    with pytest.raises(ZooError, match=r"nfn: units of \S+ are a part of axis"):
        axes_of(net.layout, "hnp")


@pytest.mark.parametrize("kind", ["np", "hnp"])
@pytest.mark.parametrize("name", ["cnn_small", "small_cnn_gap", "siren", "normalised"])
def test_a_layer_commutes_with_reordered_units(kind, name):
    """Reordering what comes out is the same as reordering what goes in."""
    layout = NETWORKS[name].layout
    weights = torch.from_numpy(weights_of(NETWORKS[name], 1)).double()
    random = np.random.default_rng(0)
    orders = {symmetry.layer: random.permutation(symmetry.size) for symmetry in layout.symmetries}
    moved = weights[:, layout.permutation(orders)]
    axes = axes_of(layout, kind)
    assert sum(part.channels * (part.rows or (0, 1))[1] * (part.columns or (0, 1))[1] for part in axes) == layout.size
    torch.manual_seed(0)
    layer = EquivariantLayer(axes, [part.channels for part in axes], 3).double()
    outputs, of_moved = (layer([part.read(each) for part in axes]) for each in (weights, moved))
    for part, plain, other in zip(axes, outputs, of_moved, strict=True):
        expected = plain
        for side, axis in ((part.rows, 1), (part.columns, 2)):
            if side and side[0] in orders:
                expected = expected.index_select(axis, torch.from_numpy(orders[side[0]]))
        torch.testing.assert_close(other, expected, rtol=1e-10, atol=1e-10)


def test_a_layer_computes_what_that_of_the_authors_computes():
    """NP on fully connected layers, from the same parameters as `nfn` 0.1.2."""
    pytest.importorskip("nfn")
    from nfn.common import NetworkSpec, WeightSpaceFeatures
    from nfn.common.data import ArraySpec
    from nfn.layers import NPLinear

    net = NETWORKS["mlp"]
    tensors = net.layout.parameters
    spec = NetworkSpec(
        [ArraySpec(p.shape) for p in tensors if p.role == "weight"],
        [ArraySpec(p.shape) for p in tensors if p.role == "bias"],
    )
    theirs = NPLinear(spec, 1, 3)
    axes = axes_of(net.layout, "np")
    ours = EquivariantLayer(axes, [1] * len(axes), 3)
    copy_parameters(theirs, ours, [p.name for p in tensors])
    weights = torch.from_numpy(weights_of(net, 2))
    values = [part.read(weights) for part in axes]
    features = WeightSpaceFeatures(
        [value.permute(0, 3, 1, 2) for value in values[::2]], [value[:, :, 0].transpose(1, 2) for value in values[1::2]]
    )
    expected = theirs(features)
    for number, value in enumerate(ours(values)):
        layer, is_bias = divmod(number, 2)
        weight, bias = expected[layer]
        other = bias.transpose(1, 2).unsqueeze(2) if is_bias else weight.permute(0, 2, 3, 1)
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-5)


def copy_parameters(theirs, ours, names):
    """Give our layer the parameters of theirs: columns of theirs by what each of them reads."""
    count = len(names) // 2
    # Theirs reads totals as all weights, then all biases; ours weight and bias layer by layer.
    total_order = [place for layer in range(count) for place in (layer, count + layer)]
    with torch.no_grad():
        for number in range(2 * count):
            layer, is_bias = divmod(number, 2)
            kind = "bias" if is_bias else "layer"
            their_own, total = getattr(theirs, f"{kind}_{layer}"), getattr(theirs, f"{kind}_{layer}_rc")
            ours.total[number].weight.copy_(total.weight[:, total_order])
            ours.total[number].bias.copy_(total.bias)
            if is_bias:
                # Their pointwise map of a bias reads what ours reads by neurons; our pointwise map is set to 0.
                ours.own[number].weight.zero_()
                ours.own[number].bias.zero_()
                rows = their_own
            else:
                ours.own[number].weight.copy_(their_own.weight.flatten(1))
                ours.own[number].bias.copy_(their_own.bias)
                rows = getattr(theirs, f"layer_{layer}_c")
                columns = getattr(theirs, f"layer_{layer}_r")
                # Theirs begins with the layer's own means, ours with those of the layer before.
                ours.columns[number].weight.copy_(columns.weight[:, [1, 2, 0] if layer else [0], 0])
                ours.columns[number].bias.copy_(columns.bias)
            ours.rows[number].weight.copy_(rows.weight[:, :, 0])
            ours.rows[number].bias.copy_(rows.bias)
