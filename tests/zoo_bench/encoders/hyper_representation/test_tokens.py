import numpy as np
import pytest

from tests.grammar_networks import NETWORKS, architecture
from tests.zoo_bench.layouts import CNN_SMALL, SMALL_CNN_GAP, TETRIS, layout_of
from zoo_bench.encoders.hyper_representation.tokens import Tokens
from zoo_gen.architecture.layout import Parameter, ParameterLayout
from zoo_gen.architecture.registry import Layers, network
from zoo_gen.errors import ZooError

LAYOUTS = {"tetris": TETRIS, "cnn_small": CNN_SMALL, "small_cnn_gap": SMALL_CNN_GAP, "one layer": layout_of((3, 4))}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_tokens_are_the_neurons_of_a_loop_in_their_order(layout):
    """Each parameter's own tensor is cut neuron by neuron, as the public code does it."""
    weights = np.random.RandomState(0).standard_normal((3, layout.size))
    tensors = layout.split(weights)
    expected = []
    for layer in layout.layers:
        for neuron in range(tensors[f"{layer}.weight"].shape[1]):
            expected.append(tensors[f"{layer}.weight"][:, neuron].reshape(3, -1))
            if f"{layer}.bias" in tensors:
                expected.append(tensors[f"{layer}.bias"][:, neuron, None])
    tokens = Tokens.of(layout)
    np.testing.assert_array_equal(weights[:, tokens.order], np.concatenate(expected, axis=1))


@pytest.mark.parametrize(
    ("layout", "count", "lengths"),
    [
        (TETRIS, 9, [16, 5]),
        (CNN_SMALL, 48, [26, 201, 25, 37, 21]),
        (SMALL_CNN_GAP, 58, [10, 145, 145, 17]),
    ],
)
def test_numbers_of_tokens_are_the_papers(layout, count, lengths):
    tokens = Tokens.of(layout)
    assert (tokens.count, [layer.length for layer in tokens.layers]) == (count, lengths)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_tokens_are_a_partition_of_the_parameters(layout):
    tokens = Tokens.of(layout)
    assert sorted(tokens.order) == list(range(layout.size))
    assert sum(layer.size for layer in tokens.layers) == layout.size


@pytest.mark.parametrize(
    "parameters",
    [
        (Parameter("norm", "bias", (4,), 0),),
        (Parameter("linear1", "weight", (4, 2), 0), Parameter("linear1", "bias", (5,), 8)),
    ],
)
def test_a_layer_without_neurons_is_refused(parameters):
    with pytest.raises(ZooError, match=r"tokens: layer \w+ has shapes"):
        Tokens.of(ParameterLayout(parameters))


def test_tokens_of_norms_and_recurrent_layers_are_rows_of_all_their_parameters():
    parameters = (
        *(Parameter("norm", "weight", (3,), 0), Parameter("norm", "bias", (3,), 3)),
        *(Parameter("rnn", "weight_ih_l0", (2, 3), 6), Parameter("rnn", "weight_hh_l0", (2, 2), 12)),
        *(Parameter("rnn", "bias_ih_l0", (2,), 16), Parameter("rnn", "bias_hh_l0", (2,), 18)),
    )
    tokens = Tokens.of(ParameterLayout(parameters))
    assert [(layer.count, layer.length) for layer in tokens.layers] == [(3, 2), (2, 7)]
    assert tokens.order.tolist() == [0, 3, 1, 4, 2, 5, *(6, 7, 8, 12, 13, 16, 18), *(9, 10, 11, 14, 15, 17, 19)]


@pytest.mark.parametrize("name", NETWORKS)
def test_tokens_of_any_layers_of_the_grammar_are_a_partition(name):
    layout = network(Layers.model_validate(architecture(name)), NETWORKS[name][2], 10).layout
    assert sorted(Tokens.of(layout).order) == list(range(layout.size))
