"""The graph network against plain loops over lists of edges, its symmetry, and a target that needs edges."""

import numpy as np
import pytest
import torch
from scipy import stats

from tests.zoo_bench.encoders.peers.graph_views import FORMLESS, GRAMMAR, moved, of_grammar, paired, view_of
from tests.zoo_gen.architecture.test_symmetry_group import NETWORKS, OPEN, weights_of
from zoo_bench.encoders.baselines.statistics_network import statistics_network
from zoo_bench.encoders.graph_network.codes import EDGE_CODES, KERNEL_CODES, NODE_CODES
from zoo_bench.encoders.graph_network.dense_graph import DenseGraph
from zoo_bench.encoders.graph_network.encoder import Settings, graph_network
from zoo_bench.encoders.graph_network.network import KERNEL_WIDTH, POOLED, GraphNetwork
from zoo_bench.encoders.training.loop import TrainingSettings
from zoo_bench.encoders.training.runtime import Runtime
from zoo_gen.architecture.graphs import graph_structure
from zoo_gen.architecture.registry import MLP, network
from zoo_gen.errors import ZooError

GRAPHS = NETWORKS | OPEN | {name: of_grammar(name) for name in GRAMMAR}
SHORT = TrainingSettings(epochs=2, batch_size=16, learning_rate=3e-3, optimizer="adam", bfloat16=False)
TINY = Settings(width=8, rounds=2, head_width=16)


def module(*, width=6, rounds=2, head_width=7, seed=0):
    torch.manual_seed(seed)
    scales = {"node_deviation": [1.0, 2.0, 3.0, 4.0, 5.0], "edge_deviation": 0.5}
    return GraphNetwork(width, rounds, head_width, **scales).double()


def graph_of(net):
    """The graph with codes in float64, so that what should be equal is to the last digits."""
    graph = DenseGraph.of(net, torch.device("cpu"))
    for block in graph.blocks:
        for name in ("codes", "code"):
            object.__setattr__(block, name, getattr(block, name).double())
    for name in ("node_mask", "node_codes"):
        object.__setattr__(graph, name, getattr(graph, name).double())
    return graph


@pytest.mark.parametrize("name", GRAPHS)
def test_messages_are_those_along_a_list_of_edges(name):
    net = GRAPHS[name]
    graph, structure = graph_of(net), graph_structure(net)
    assert (graph.n_edges, graph.layers[-1][1]) == (structure.edges.shape[1], len(structure.layer_of_node))
    random = torch.Generator().manual_seed(0)
    nodes, others = (torch.randn((2, graph.layers[-1][1], 3), dtype=torch.float64, generator=random) for _ in range(2))
    edges = torch.randn((2, graph.n_edges, 3), dtype=torch.float64, generator=random)
    source, target = (torch.from_numpy(ends) for ends in structure.edges)
    torch.testing.assert_close(graph.ends(nodes, others), nodes[:, target] + others[:, source])
    for gathered, at, read in ((graph.incoming, target, source), (graph.outgoing, source, target)):
        expected = torch.zeros_like(nodes)
        for block in range(len(structure.blocks)):
            chosen = torch.from_numpy(np.flatnonzero(structure.block_of_edge == block))
            degree = torch.bincount(at[chosen], minlength=nodes.shape[1]).clamp_min(1)
            for edge in chosen.tolist():
                expected[:, at[edge]] += edges[:, edge] * nodes[:, read[edge]] / degree[at[edge]]
        torch.testing.assert_close(gathered(edges, nodes), expected)


@pytest.mark.parametrize("name", GRAPHS)
def test_features_are_those_of_the_view(name):
    """A kernel is the mean of its numbers where each position is mapped to one number."""
    net = GRAPHS[name]
    graph, structure, weights = graph_of(net), graph_structure(net), weights_of(net, 2)
    nodes, edges = structure.features(weights)
    np.testing.assert_array_equal(graph.node_features(torch.from_numpy(weights)).numpy(), nodes)
    kernels = graph.kernels(torch.from_numpy(weights).double())
    read = graph.edges(kernels, lambda codes: torch.ones((len(codes), 1)).double(), torch.full((1,), 7.0).double())
    present = (structure.edge_index >= 0).sum(axis=1)
    met = np.stack([structure.edges[1], structure.block_of_edge])  # a target reads each block by itself
    _, pair, sources = np.unique(met, axis=1, return_inverse=True, return_counts=True)
    scale = np.sqrt(sources[pair.reshape(-1)])
    expected = np.where(structure.has_weight, edges.sum(axis=2, dtype=np.float64) * scale, 7.0)
    assert (present[structure.has_weight] > 0).all()
    np.testing.assert_allclose(read[..., 0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("name", GRAPHS)
def test_states_of_units_move_with_the_units_and_their_means_stay(name):
    net = GRAPHS[name]
    graph, weights = graph_of(net), torch.from_numpy(weights_of(net, 3)).double()
    random = np.random.default_rng(2)  # draws no network's units as they were
    orders = {symmetry.layer: random.permutation(symmetry.size) for symmetry in net.layout.symmetries}
    other = weights[:, net.layout.permutation(orders)]
    model = module()
    with torch.no_grad():
        nodes, of_moved = (model.states(graph, each)[0] for each in (weights, other))
        pooled, pooled_moved = (model.pool(graph, each) for each in (weights, other))
    index = graph.node_index.reshape(graph.node_mask.shape)[:, 0].numpy()  # where the bias of each unit lies
    new_place = {old: new for new, old in enumerate(net.layout.permutation(orders).tolist())}
    has_bias = graph.node_mask[:, 0].numpy() > 0
    of_bias = {int(place): node for node, place in enumerate(index) if has_bias[node]}
    # Units without a bias of their own are seen in the means alone.
    known = [node for node in range(len(index)) if has_bias[node] or graph_structure(net).kind_of_node[node] == 0]
    to = [of_bias[new_place[int(index[node])]] if has_bias[node] else node for node in known]
    torch.testing.assert_close(of_moved[:, to], nodes[:, known], rtol=1e-10, atol=1e-10)
    assert not net.layout.symmetries or (of_moved - nodes).abs().max() > 1e-3
    torch.testing.assert_close(pooled_moved, pooled, rtol=1e-10, atol=1e-10)


def test_parameters_are_as_many_as_the_page_says():
    width, rounds, head, codes = 6, 3, 7, NODE_CODES + EDGE_CODES
    features = (10 + NODE_CODES + 1) * width + (width + 1) * width  # of nodes
    features += (KERNEL_CODES + 1) * KERNEL_WIDTH + (KERNEL_WIDTH + 1) * width + (EDGE_CODES + 1) * width + width
    each = (width + 1) * width * 2 + 2 * width * width + 2 * (width + 1) * width + 2 * width
    each += 6 * width + (3 * width + 1) * width + (width + 1) * width
    last = 2 * POOLED * width + (POOLED * width + 1) * head + (head + 1) * head + head + 1
    model = module(width=width, rounds=rounds, head_width=head)
    assert codes == 37 + 17
    assert sum(parameter.numel() for parameter in model.parameters()) == features + rounds * each + last


def fitted(maker, train, validation):
    encoder = maker()
    encoder.runtime = Runtime(device="cpu")
    return encoder.fit(train, validation, seed=0)


def test_it_learns_what_follows_from_which_weights_meet_in_a_unit():
    """The distribution of each tensor tells nothing of it, so a network on statistics learns nothing."""
    net = network(MLP(name="mlp", widths=(4, 5, 3)), (4,), 3)
    target = paired(net)
    train, validation, test = (view_of(net, count, seed=count, target=target) for count in (250, 100, 200))
    training = TrainingSettings(epochs=16, batch_size=25, learning_rate=8e-3, schedule="cosine", bfloat16=False, clip=1)
    learned = fitted(lambda: graph_network(TINY, training=training), [train], [validation])
    blind = fitted(lambda: statistics_network(widths=(64,), training=training), [train], [validation])
    taus = [stats.kendalltau(each.predict(test), test.target("test_accuracy")[:, 0])[0] for each in (learned, blind)]
    assert taus[0] > 0.7
    assert abs(taus[1]) < 0.3


def test_several_architectures_are_read_in_one_fit_and_then_others():
    names = ("cnn_small", "siren", "mlp")
    train = [view_of(NETWORKS[name], 12, seed=seed) for seed, name in enumerate(names)]
    encoder = fitted(lambda: graph_network(TINY, training=SHORT), train, train[::-1])
    for name, net in GRAPHS.items():
        view = view_of(net, 5, seed=7)
        embeddings = encoder.encode(view)
        assert embeddings.shape == (5, 16), name
        assert embeddings.std(axis=0).max() > 0, name
        np.testing.assert_allclose(encoder.encode(moved(view)), embeddings, atol=1e-5 * np.abs(embeddings).max())
    # In a batch of several architectures each network gets its own.
    alone = encoder.encode(view_of(NETWORKS["mlp"], 12, seed=2))
    assert (encoder.encode(train[2]) == alone).all()


def test_what_has_no_form_as_a_graph_is_refused_in_one_line():
    view = view_of(FORMLESS, 12)
    with pytest.raises(ZooError, match=r"^graph_network: graphs: [^\n]* no form as a graph yet; expected [^\n]*$"):
        graph_network(training=SHORT).fit([view], [view], seed=0)
