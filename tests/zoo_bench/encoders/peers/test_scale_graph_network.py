"""The scale-equivariant graph network: its embeddings do not change with factors and signs, its states carry them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from tests.zoo_bench.encoders.peers.graph_views import FORMLESS, moved, of_grammar, paired, view_of
from tests.zoo_gen.architecture.test_symmetry_group import NETWORKS, OPEN, weights_of
from zoo_bench.encoders.function_codes import FUNCTIONS
from zoo_bench.encoders.graph_network.codes import KERNEL_CODES, NODE_CODES
from zoo_bench.encoders.graph_network.network import KERNEL_WIDTH
from zoo_bench.encoders.scale_graph_network.encoder import Settings, scale_graph_network
from zoo_bench.encoders.scale_graph_network.free_factors import SymmetricGraph
from zoo_bench.encoders.scale_graph_network.network import POOLED, ScaleGraphNetwork
from zoo_bench.encoders.training.loop import TrainingSettings
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.protocol.computing import Computing
from zoo_bench.protocol.problem import Problem
from zoo_gen.architecture.registry import MLP, network
from zoo_gen.errors import ZooError

ALSO = ("residual images", "gru over a sequence", "transformer with everything")
GRAPHS = NETWORKS | OPEN | {name: of_grammar(name) for name in ALSO}
ALL = ("relu", "tanh", "gelu", "leaky_relu", "sine", "sigmoid")
SHORT = TrainingSettings(epochs=2, batch_size=16, learning_rate=3e-3, optimizer="adam", bfloat16=False)
TINY = Settings(width=8, rounds=2, head_width=16)


def fitted(train, validation, *, training=SHORT, bidirectional=False):
    encoder = scale_graph_network(replace(TINY, bidirectional=bidirectional), training=training)
    encoder.runtime = Runtime(device="cpu")
    return encoder.fit(train, validation, seed=0)


@pytest.fixture(
    scope="module",
    params=[False, pytest.param(True, marks=pytest.mark.thorough)],  # the other form goes through the same layers
    ids=["forward", "bidirectional"],
)
def mixed(request):
    train = [view_of(net, 6, seed=seed, functions=ALL) for seed, net in enumerate(NETWORKS.values())]
    return fitted(train, train, bidirectional=request.param)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize(
    "drawn",
    [
        # The others draw an order of units too.
        *(pytest.param(less, marks=pytest.mark.thorough) for less in ({}, {"scales": (1, 10)})),
        *({"scales": (1, 1000)}, {"flips": True}),
    ],
)
def test_embeddings_do_not_change_with_what_computes_the_same(mixed, name, drawn):
    view = view_of(GRAPHS[name], 6, seed=9, functions=ALL)
    other = moved(view, **drawn)
    assert (other.weights != view.weights).any()  # an order may be drawn as it was
    embeddings = mixed.encode(view)
    assert embeddings.std(axis=0).max() > 1e-4
    np.testing.assert_allclose(mixed.encode(other), embeddings, atol=1e-5 * np.abs(embeddings).max())


@pytest.mark.parametrize("drawn", [{"scales": (2, 10)}, {"flips": True}])
def test_what_a_function_does_not_allow_changes_embeddings(mixed, drawn):
    """Factors of tanh and signs of ReLU change what is computed, and so the embedding."""
    view = view_of(NETWORKS["mlp"], 12, seed=9, functions=("relu", "tanh"))
    swapped = view_of(NETWORKS["mlp"], 12, seed=9, functions=("tanh", "relu"))
    member = swapped.computing.symmetries(view.layout, 12).draw(seed=3, orders=False, **drawn)
    wrong = (member.factor != 1).any(axis=1)
    assert wrong.sum() == 6
    before = mixed.encode(view)
    view.weights = member.apply(view.weights[:, 0])[:, None]
    change = np.abs(mixed.encode(view) - before).max(axis=1) / np.abs(before).max()
    assert np.median(change[wrong]) > 1e-2
    assert (change[~wrong] == 0).all()


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", ["mlp", "cnn_small", "siren", "normalised"])
def test_states_of_units_carry_their_factors(name, bidirectional):
    """In float64 a state is multiplied by the factor of its unit, which its bias or normalisation shows."""
    net, functions = GRAPHS[name], ("relu", "tanh", "gelu")
    view = view_of(net, 9, seed=2, functions=functions)
    group = view.computing.symmetries(net.layout, 9)
    member = group.draw(seed=3, orders=False, scales=(1, 10), flips=True)
    assert (member.factor != 1).any()
    weights = torch.from_numpy(weights_of(net, 9, 2)).double()
    factor = torch.from_numpy(member.factor).double()
    codes = torch.tensor([[FUNCTIONS.index(functions[row % 3])] for row in range(9)]).double()
    torch.manual_seed(0)
    model = ScaleGraphNetwork(6, 2, 7, bias_size=0.5, edge_deviation=0.5, bidirectional=bidirectional).double()
    symmetric = SymmetricGraph.of(net, torch.device("cpu"))
    graph = symmetric.graph
    for each, names in ((graph, ("node_mask", "node_codes")), *((block, ("codes", "code")) for block in graph.blocks)):
        for attribute in names:
            object.__setattr__(each, attribute, getattr(each, attribute).double())
    with torch.no_grad():
        before, after = (
            model.states(symmetric, torch.cat([codes, rows], dim=1))[0] for rows in (weights, weights * factor)
        )
        read, read_after = (
            model.pool(symmetric, torch.cat([codes, rows], dim=1)) for rows in (weights, weights * factor)
        )
    layers = [layer.name for layer in net.layers if f"{layer.name}.weight" in net.layout.split(weights.numpy())]
    by_unit = {units.symmetry.layer: units.scaled[-1] for units in group.units}
    linear = [layer for layer in layers if not layer.startswith("normalization")]
    for layer, plain, changed in zip(linear, before[1:], after[1:], strict=True):
        expected = plain
        if layer in by_unit:
            factors = net.layout.split(member.factor)[by_unit[layer]]
            expected = plain * torch.from_numpy(factors.reshape(*factors.shape[:2], -1)[..., :1]).double()
        # The factors that divide are rounded to float32.
        torch.testing.assert_close(changed, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))
    torch.testing.assert_close(read_after, read, rtol=1e-5, atol=1e-6)
    assert max(float((one - other).abs().max()) for one, other in zip(before, after, strict=True)) > 1e-2


def test_parameters_are_as_many_as_the_page_says():
    width, rounds, head = 6, 3, 7
    first = (NODE_CODES + 1) * width + (width + 1) * width + width  # inputs and biases
    first += (KERNEL_CODES + 1) * KERNEL_WIDTH + (KERNEL_WIDTH + 1) * width + width
    invariant = width**2 + width + (width + 1) * width
    each = 2 * width**2 + 2 * (NODE_CODES + 1) * width + invariant + 2 * width**2 + invariant
    each += 3 * width**2 + width  # of what is noticed
    read = (NODE_CODES + 1) * width + invariant + width**2
    last = 2 * POOLED * width + (POOLED * width + 1) * head + (head + 1) * head + head + 1
    for passes in (rounds, 2 * rounds):
        model = ScaleGraphNetwork(width, rounds, head, bias_size=1.0, edge_deviation=1.0, bidirectional=passes > rounds)
        assert sum(parameter.numel() for parameter in model.parameters()) == first + passes * each + read + last


@pytest.mark.parametrize("bidirectional", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_it_learns_what_follows_from_which_weights_meet_in_a_unit(bidirectional):
    net = network(MLP(name="mlp", widths=(4, 5, 3)), (4,), 3)
    target = paired(net)
    train, validation, test = (view_of(net, count, seed=count, target=target) for count in (250, 100, 200))
    training = TrainingSettings(epochs=16, batch_size=25, learning_rate=8e-3, schedule="cosine", bfloat16=False, clip=1)
    encoder = fitted([train], [validation], training=training, bidirectional=bidirectional)
    for view in (test, moved(test, scales=(1, 1000))):
        assert stats.kendalltau(encoder.predict(view), test.target("test_accuracy")[:, 0])[0] > 0.7


def sirens(net, count, *, seed):
    """Return a view of networks begun as SIRENs (Sitzmann et al., NeurIPS 2020, section 3.2), of a sine wave each.

    Their target is the size of the middle weights, within 40 % of their mean: what tells a wave's frequency.
    """
    random = np.random.default_rng(seed)
    sizes = random.uniform(0.6, 1.4, count)
    parts = {}
    for parameter in net.layout.parameters:
        inputs = parameter.shape[-1] if parameter.role == "weight" else 12
        bound = 1 / inputs if parameter.layer == "linear1" else (6 / inputs) ** 0.5 / 30
        parts[parameter.name] = random.uniform(-bound, bound, (count, *parameter.shape))
    middle = parts["linear2.weight"]
    root_mean_square = np.sqrt((middle**2).mean(axis=(1, 2), keepdims=True))
    parts["linear2.weight"] = middle / root_mean_square * 0.014 * sizes[:, None, None]
    view = view_of(net, count, functions=("sine",), target=lambda _: sizes)
    rows = [parts[parameter.name].reshape(count, -1) for parameter in net.layout.parameters]
    view.weights = np.concatenate(rows, axis=1, dtype=np.float32)[:, None]
    return view


def test_it_learns_on_sirens_whose_weights_differ_little():
    """With a layer norm alone between pooled states and head nothing is learned: they differ too little.

    So short a training reached R2 .77 to .93 with seven of eight seeds and .05 with one; with the layer norm alone .03
    at most with any of them. One of three seeds has to learn, so that rounding does not decide.
    """
    net = network(MLP(name="mlp", widths=(1, 12, 12, 1)), (1,), 1)
    train, validation, test = (sirens(net, count, seed=count) for count in (200, 50, 60))
    truth = test.target("test_accuracy")[:, 0]
    training = TrainingSettings(
        epochs=1, steps=80, batch_size=16, learning_rate=1e-2, schedule="cosine", bfloat16=False, clip=1, threads=1
    )

    def error(seed):
        encoder = scale_graph_network(replace(TINY, width=16), training=training)
        encoder.runtime = Runtime(device="cpu")
        encoder.fit([train], [validation], problem=Problem(metric="r2", loss="mse"), seed=seed)
        return ((encoder.predict(test) - truth) ** 2).mean() / truth.var()

    assert any(error(seed) < 0.5 for seed in (0, 1, 2))


def test_it_is_refused_where_functions_are_not_known_or_asked_for():
    view = view_of(NETWORKS["mlp"], 12)
    view.computing = Computing(NETWORKS["mlp"], "'activation' is a target of this benchmark")
    with pytest.raises(ZooError, match=r"^forward: 'activation' is a target of this benchmark; expected [^\n]*$"):
        scale_graph_network(training=SHORT).fit([view], [view], seed=0)


def test_what_has_no_form_as_a_graph_is_refused_in_one_line():
    view = view_of(FORMLESS, 12)
    with pytest.raises(ZooError, match=r"^scale_graph_network: graphs: [^\n]* no form as a graph yet; expected"):
        scale_graph_network(training=SHORT).fit([view], [view], seed=0)
