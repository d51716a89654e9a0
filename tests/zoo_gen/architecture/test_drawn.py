"""Random CNNs: the same for a seed, whatever the count; over all of their lists; always networks that compute."""

from collections import Counter

import pytest
import torch

from zoo_gen.architecture.drawn import RandomCNNs
from zoo_gen.architecture.layers import Activate, Convolution, Dropout, GlobalPooling, Linear, Pooling, Residual
from zoo_gen.architecture.mixed import Mixed
from zoo_gen.architecture.registry import network

GREY = (1, 28, 28)
WIDE = {
    "depth": (1, 4),
    "channels": (3, 4, 6),
    "kernels": (1, 2, 3, 5, 7),
    "strides": (1, 2, 3),
    "activations": ("relu", "tanh", "gelu"),
    "pooling": ("none", "max", "average"),
    "residuals": 0.5,
    "heads": ("flatten", "global_average_pooling"),
    "dense": (0, 7),
}


def drawn(count: int, shape=GREY, n_outputs: int = 10, **options):
    random_cnns = RandomCNNs(count=count, **{"seed": 3, **WIDE, **options})
    return [network(one, shape, n_outputs) for one in random_cnns.draw(shape, n_outputs)]


def test_the_first_networks_are_the_same_whatever_the_count_and_others_for_another_seed():
    few, many = drawn(5), drawn(40)
    assert few == many[:5] == drawn(5)
    assert all(one != other for one, other in zip(few, drawn(5, seed=4), strict=True))
    assert len({each.layers for each in many}) == 40


def test_what_is_drawn_covers_the_lists_evenly_and_nothing_else():
    networks = drawn(300)
    layers = [layer for one in networks for layer in one.layers]
    convolutions = [layer for layer in layers if isinstance(layer, Convolution)]
    depths = Counter(sum(isinstance(layer, Convolution) for layer in one.layers) for one in networks)
    counts = {
        "depth": depths,
        "channels": Counter(layer.outputs for layer in convolutions),
        "kernels": Counter(layer.kernel for layer in convolutions),
        "strides": Counter(layer.stride for layer in convolutions),
        "activations": Counter(layer.function for layer in layers if isinstance(layer, Activate)),
    }
    choices = {**{name: set(WIDE[name]) for name in counts}, "depth": {1, 2, 3, 4}}
    for name, of_values in counts.items():
        assert set(of_values) == choices[name]
        expected = sum(of_values.values()) / len(of_values)
        assert all(abs(count - expected) < 0.25 * expected for count in of_values.values()), (name, of_values)
    assert {layer.kind for layer in layers if isinstance(layer, Pooling)} == {"max", "average"}
    assert any(isinstance(layer, Residual) for layer in layers)
    heads = Counter(any(isinstance(layer, GlobalPooling) for layer in one.layers) for one in networks)
    dense = Counter(sum(isinstance(layer, Linear) for layer in one.layers) for one in networks)
    for share in (heads[True] / 300, dense[2] / 300):
        assert 0.4 < share < 0.6
    assert all(isinstance(layer, Dropout) for one in networks for layer in one.layers[2:3] if not _has_more(one))


def _has_more(one) -> bool:
    """Say whether the first block has more than a convolution and a function before its dropout."""
    return not isinstance(one.layers[2], Dropout)


def test_another_list_leaves_other_choices_as_they_are():
    def kernels(networks):
        return [[layer.kernel for layer in one.layers if isinstance(layer, Convolution)] for one in networks]

    assert kernels(drawn(20)) == kernels(drawn(20, dense=(5, 6, 7), channels=(9, 10), heads=("flatten",)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (1, 28, 28), (3, 32, 32)])
def test_every_network_computes_its_outputs_and_its_smallest_image_has_a_pixel(shape):
    for one in drawn(30, shape, n_outputs=4):
        outputs = one.module(activation="relu")(torch.zeros(2, *shape))
        assert outputs.shape == (2, 4)


def test_networks_keep_to_the_bounds_of_parameters():
    sizes = [one.layout.size for one in drawn(30, parameters=(500, 2_000))]
    assert 500 <= min(sizes) < max(sizes) <= 2_000


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({"parameters": (1, 10)}, GREY, r"gave 0 different networks of 1 to 10 parameters in 300 draws; expected 3"),
        (
            {"depth": (1, 1), "channels": (4,), "kernels": (3,), "strides": (1,), "activations": ("relu",)}
            | {"pooling": ("none",), "heads": ("flatten",), "dense": (0,)},
            GREY,
            r"gave 1 different networks .*expected 3: longer lists",
        ),
        ({}, (64,), r"reads images \(channel, height, width\); these inputs are 64"),
    ],
)
def test_lists_that_do_not_give_the_networks_are_refused(options, shape, message):
    with pytest.raises(ValueError, match=message):
        drawn(3, shape, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": (3, 2)}, r"depth: \[3, 2\] is empty; expected \[least, most\]"),
        ({"channels": (4, 4)}, "channels: holds a value twice"),
        ({"kernels": ()}, "kernels"),
        ({"strides": (0,)}, "strides"),
        ({"residuals": 1.5}, "residuals"),
    ],
)
def test_wrong_lists_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RandomCNNs(count=3, **options)


def test_named_and_drawn_architectures_stand_side_by_side():
    mixed = Mixed(name="mixed", named={"small": {"name": "cnn_small"}}, random={"count": 2, "seed": 3, **WIDE})
    architectures = mixed.architectures(GREY, 10)
    assert list(architectures) == mixed.names == ["small", "cnn_0", "cnn_1"]
    assert [network(architectures[name], GREY, 10) for name in ("cnn_0", "cnn_1")] == drawn(2)
