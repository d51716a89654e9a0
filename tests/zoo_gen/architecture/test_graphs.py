import numpy as np
import pytest

from tests.zoo_bench.encoders.peers.graph_views import GRAMMAR, of_grammar
from tests.zoo_gen.architecture.test_symmetry_group import NETWORKS, weights_of
from zoo_gen.architecture import layers as L
from zoo_gen.architecture import registry
from zoo_gen.architecture.graphs import Graphs, graph_structure
from zoo_gen.architecture.network import Network
from zoo_gen.errors import ZooError


@pytest.mark.parametrize("name", NETWORKS)
def test_every_number_of_a_network_stands_once_in_its_graph(name):
    net = NETWORKS[name]
    structure = graph_structure(net)
    places = np.concatenate([structure.node_index.reshape(-1), structure.edge_index.reshape(-1)])
    np.testing.assert_array_equal(np.sort(places[places >= 0]), np.arange(net.layout.size))


def test_edges_join_the_units_whose_kernel_they_hold():
    net = NETWORKS["cnn_small"]
    weights = weights_of(net, 2)
    graphs = Graphs.of(net, weights)
    tensors = net.layout.split(weights)
    structure = graphs.structure
    layers = ["convolution1", "convolution2", "convolution3", "linear1", "linear2"]
    for number, (start, stop) in enumerate(structure.edges.T.tolist()):
        layer = structure.layer_of_node[stop]
        assert structure.layer_of_node[start] == layer - 1 == structure.layer_of_edge[number] - 1
        unit, source = structure.place_of_node[[stop, start]]
        kernel = tensors[f"{layers[layer - 1]}.weight"][:, unit].reshape(2, -1)
        width = kernel.shape[1] // (structure.layer_of_node == layer - 1).sum()
        np.testing.assert_array_equal(graphs.edges[:, number, :width], kernel[:, source * width : (source + 1) * width])
        assert not graphs.edges[:, number, width:].any()
    biases = np.concatenate([tensors[f"{layer}.bias"] for layer in layers], axis=1)
    np.testing.assert_array_equal(graphs.nodes[:, 1:, 0], biases)


def test_a_flattened_image_in_tensorflows_order_gives_each_unit_its_positions():
    layers = (
        L.Convolution("convolution1", 1, 2, 3, 1, 0, False),
        L.Flatten("flatten1", channels_last=True),
        L.Linear("linear1", 8, 1, False),
    )
    net = Network(layers, (1, 4, 4))
    graphs = Graphs.of(net, np.arange(26, dtype=np.float32)[None])
    of_linear = graphs.edges[0][graphs.structure.layer_of_edge == 2]
    np.testing.assert_array_equal(of_linear[:, :4], [[18, 20, 22, 24], [19, 21, 23, 25]])


def test_an_earlier_output_that_is_added_is_an_edge_of_its_own():
    layers = (
        L.Convolution("convolution1", 1, 3, 3, 1, 1, True),
        L.Convolution("convolution2", 3, 2, 3, 1, 1, True),
        L.Residual("residual1", "convolution1", 2),
        L.GlobalPooling("pooling1"),
        L.Linear("linear1", 2, 2, True),
    )
    structure = graph_structure(Network(layers, (1, 4, 4)))
    assert structure.edges[:, ~structure.has_weight].T.tolist() == [[1, 4], [2, 5]]
    assert (structure.edge_index[~structure.has_weight] == -1).all()


def test_networks_without_layers_are_refused():
    with pytest.raises(ZooError, match="not known layer by layer; expected layers of zoo-gen, or tensors"):
        graph_structure(Network((), (1, 4, 4)))


def test_a_graph_is_one_of_pytorch_geometric():
    pytest.importorskip("torch_geometric")
    net = NETWORKS["cnn_small"]
    weights = weights_of(net, 2)
    data = Graphs.of(net, weights).to_pyg(1)
    assert (data.num_nodes, data.num_edges) == (49, 360)
    np.testing.assert_array_equal(data.edge_attr[0].numpy(), weights[1, :25])
    data.validate(raise_on_error=True)


def test_attention_joins_each_query_with_its_key_and_each_head_with_its_values():
    vit = registry.network(registry.ViT(name="vit"), (1, 28, 28), 10)
    structure, layer = graph_structure(vit), next(layer for layer in vit.layers if isinstance(layer, L.Attention))
    nodes = {name: np.flatnonzero(structure.layer_of_node == place) for place, name in enumerate(structure.names)}
    query, key, heads, value = (nodes[f"{layer.name}.{part}"] for part in ("query", "key", "heads", "value"))
    weightless = {tuple(edge) for edge in structure.edges[:, ~structure.has_weight].T.tolist()}
    for unit in range(layer.inner):
        head = heads[unit // layer.units]
        assert {(query[unit], key[unit]), (key[unit], head), (head, value[unit])} <= weightless
    met = np.isin(structure.edges, np.concatenate([query, key, heads, value])).all(axis=0)
    assert met.sum() == 3 * layer.inner  # and no others
    assert not structure.has_weight[met].any()


@pytest.mark.parametrize("name", GRAMMAR)
def test_every_number_of_a_network_of_the_grammar_stands_once_in_its_graph(name):
    net = of_grammar(name)
    structure = graph_structure(net)
    places = np.concatenate([structure.node_index.reshape(-1), structure.edge_index.reshape(-1)])
    np.testing.assert_array_equal(np.sort(places[places >= 0]), np.arange(net.layout.size))
