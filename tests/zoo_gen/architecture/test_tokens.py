import numpy as np
import pytest

from tests.grammar_networks import NETWORKS, architecture
from tests.zoo_bench.layouts import CNN_SMALL, SMALL_CNN_GAP, TETRIS, layout_of
from zoo_gen.architecture.layout import Parameter, ParameterLayout
from zoo_gen.architecture.registry import Layers, network
from zoo_gen.architecture.tokens import TokenIndex, Tokens, TokenSequences
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


def test_vectors_without_weights_of_as_many_rows_are_rows_themselves():
    parameters = (
        *(Parameter("shift", "bias", (4,), 0), Parameter("shift", "count", (), 4)),
        *(Parameter("linear1", "weight", (2, 3), 5), Parameter("linear1", "bias", (5,), 11)),
        *(Parameter("norm", "running_mean", (2,), 16), Parameter("norm", "running_var", (2,), 18)),
    )
    tokens = Tokens.of(ParameterLayout(parameters))
    assert [(layer.layer, layer.count, layer.length) for layer in tokens.layers] == [
        *[("shift", 1, 4), ("shift", 1, 1), ("linear1", 2, 3), ("linear1", 1, 5), ("norm", 1, 2), ("norm", 1, 2)]
    ]
    assert tokens.order.tolist() == list(range(20))


def test_a_layout_with_gaps_is_refused():
    parameters = (Parameter("linear1", "weight", (2, 3), 0), Parameter("linear1", "bias", (2,), 7))
    with pytest.raises(ZooError, match="do not cover each parameter once"):
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


def cut_in_a_loop(layout, weights, size):
    """Tokens of one network, piece by piece: numbers, whether they are any, and (layer, row, part)."""
    tensors = layout.split(weights)
    tokens = []
    for layer, name in enumerate(layout.layers):
        for row in range(len(tensors[f"{name}.weight"])):
            numbers = tensors[f"{name}.weight"][row].ravel().tolist()
            numbers += [tensors[f"{name}.bias"][row]] if f"{name}.bias" in tensors else []
            for part, start in enumerate(range(0, len(numbers), size)):
                piece = numbers[start : start + size]
                filled = size - len(piece)
                tokens.append((piece + [0] * filled, [True] * len(piece) + [False] * filled, (layer, row, part)))
    return tokens


@pytest.mark.parametrize("size", [1, 7, 64, 300])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_tokens_of_one_size_are_the_pieces_of_rows_that_a_loop_cuts(layout, size):
    weights = np.random.RandomState(0).standard_normal((2, layout.size)).astype(np.float32)
    tokens = TokenIndex.of(layout, size)
    values = tokens.values(weights)
    for of_weights, of_network in zip(weights, values, strict=True):
        expected = cut_in_a_loop(layout, of_weights, size)
        np.testing.assert_array_equal(of_network, np.array([numbers for numbers, _, _ in expected], np.float32))
        np.testing.assert_array_equal(tokens.mask, [mask for _, mask, _ in expected])
        positions = [(place, *position) for place, (_, _, position) in enumerate(expected)]
        np.testing.assert_array_equal(tokens.positions, positions)
    values[:, ~tokens.mask] = np.nan  # what stands in padding is nobody's
    np.testing.assert_array_equal(tokens.join(values), weights)


def test_tokens_without_a_size_are_as_long_as_the_longest_row():
    assert TokenIndex.of(CNN_SMALL).index.shape == (48, 201)
    assert TokenIndex.of(CNN_SMALL, 64).index.shape == (8 + 4 * 6 + 4 + 20 + 10, 64)
    with pytest.raises(ZooError, match="got a size of 0; expected 1 or more"):
        TokenIndex.of(CNN_SMALL, 0)


def test_rows_of_a_layer_with_several_kinds_of_them_are_counted_on():
    parameters = (Parameter("linear1", "weight", (2, 3), 0), Parameter("linear1", "bias", (5,), 6))
    tokens = TokenIndex.of(ParameterLayout(parameters), 4)
    assert tokens.positions[:, 1:].tolist() == [[0, 0, 0], [0, 1, 0], [0, 2, 0], [0, 2, 1]]
    assert len(TokenSequences(tokens, tokens.values(np.zeros((3, 11))))) == 3


@pytest.mark.parametrize("name", NETWORKS)
def test_tokens_of_any_layers_of_the_grammar_are_a_partition(name):
    layout = network(Layers.model_validate(architecture(name)), NETWORKS[name][2], 10).layout
    assert sorted(Tokens.of(layout).order) == list(range(layout.size))
    weights = np.arange(layout.size, dtype=float)[None]
    tokens = TokenIndex.of(layout, 10)
    np.testing.assert_array_equal(tokens.join(tokens.values(weights)), weights)
