from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.grammar_networks import NETWORKS, architecture
from tests.zoo_bench.layouts import CNN_SMALL, SMALL_CNN_GAP, TETRIS, layout_of
from zoo_bench.encoders.hyper_representation.augment import Augmentation, Permutations, erased
from zoo_gen.architecture.layout import Move, Parameter, ParameterLayout, Symmetry
from zoo_gen.architecture.registry import Layers, network
from zoo_gen.errors import ZooError

CPU = torch.device("cpu")
LAYOUTS = {"tetris": TETRIS, "mlp": layout_of((7, 6), (5, 7), (3, 5)), "cnn_small": CNN_SMALL, "gap": SMALL_CNN_GAP}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def logits(layout, weights, images):
    """Run one network layer by layer in plain torch; pooling after the first two convolutions of cnn_small."""
    tensors = {name: torch.from_numpy(t) for name, t in layout.split(weights.numpy()).items()}
    pools = layout is CNN_SMALL
    for number, layer in enumerate(layout.layers):
        weight, bias = tensors[f"{layer}.weight"], tensors.get(f"{layer}.bias")
        if weight.ndim == 4:
            images = functional.conv2d(images, weight, bias)
            images = functional.max_pool2d(images, 2) if pools and number < 2 else images
        else:
            pooled = images.mean((2, 3)) if images.ndim == 4 and weight.shape[1] == images.shape[1] else images
            images = functional.linear(pooled.flatten(1), weight, bias)
        images = images.tanh() if number < len(layout.layers) - 1 else images
    return images


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_permuted_weights_compute_the_same_function(layout):
    weights = torch.randn(5, layout.size, generator=generator(), dtype=torch.float64)
    permuted = Permutations(layout, CPU).apply(weights, generator(1))
    first = layout.parameters[0].shape
    images = torch.randn(4, first[1], *((28, 28) if len(first) == 4 else ()), dtype=torch.float64)
    for before, after in zip(weights, permuted, strict=True):
        assert not torch.equal(before, after)
        torch.testing.assert_close(logits(layout, after, images), logits(layout, before, images), rtol=0, atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_indices_are_those_of_the_layout_and_can_be_undone(layout):
    permutations = Permutations(layout, CPU)
    orders = permutations.orders(6, generator())
    index = permutations.index(orders)
    for row in range(6):
        one = {layer: order[row].numpy() for layer, order in orders.items()}
        np.testing.assert_array_equal(index[row].numpy(), layout.permutation(one))
    weights = torch.randn(6, layout.size)
    back = permutations.index({layer: order.argsort(1) for layer, order in orders.items()})
    assert torch.equal(weights.gather(1, index).gather(1, back), weights)


# Three heads of four rows each, inside which the order may change as well; what reads them has both on its inputs.
HEADS = ParameterLayout(
    (
        Parameter("values", "weight", (12, 4), 0),
        Parameter("values", "bias", (12,), 48),
        Parameter("out", "weight", (2, 12, 3), 60),
    ),
    (
        Symmetry("heads", 3, (Move("values.weight", 0, 4), Move("values.bias", 0, 4), Move("out.weight", 1, 4))),
        Symmetry("rows", 12, (Move("values.weight", 0, 1), Move("values.bias", 0, 1), Move("out.weight", 1, 1))),
    ),
)


@pytest.mark.parametrize("symmetries", [HEADS.symmetries[:1], HEADS.symmetries])
def test_blocks_of_rows_and_two_sets_of_units_on_one_axis_are_moved_as_the_layout_moves_them(symmetries):
    layout = ParameterLayout(HEADS.parameters, symmetries)
    permutations = Permutations(layout, CPU)
    orders = permutations.orders(6, generator())
    index = permutations.index(orders)
    assert index.shape == (6, layout.size)
    for row in range(6):
        one = {layer: order[row].numpy() for layer, order in orders.items()}
        np.testing.assert_array_equal(index[row].numpy(), layout.permutation(one))


def test_units_along_another_axis_are_refused():
    layout = ParameterLayout(
        (Parameter("own", "weight", (2, 3, 4), 0),), (Symmetry("own", 4, (Move("own.weight", 2, 1),)),)
    )
    with pytest.raises(ZooError, match=r"units of own lie along axis 2 of own.weight; expected axis 0 .* or 1"):
        Permutations(layout, CPU)


def test_all_orders_are_equally_likely_and_the_last_layer_keeps_its_own():
    orders = Permutations(layout_of((3, 4), (2, 3)), CPU).orders(12_000, generator())
    assert list(orders) == ["linear1"]
    counts = Counter(map(tuple, orders["linear1"].tolist()))
    assert len(counts) == 6
    assert all(abs(count - 2000) < 5 * 2000**0.5 for count in counts.values())


def test_erasing_hits_the_shares_that_the_public_code_hits():
    hit = erased(40_000, 100, probability=0.5, shortest=0.02, longest=0.33, generator=generator())
    rows = hit.any(dim=1)
    assert rows.float().mean().item() == pytest.approx(0.5, abs=0.01)
    assert hit[rows].sum(dim=1).float().mean().item() == pytest.approx(16, abs=0.3)
    assert hit[:, 50].float().mean().item() == pytest.approx(0.10, abs=0.01)
    assert hit[:, 0].float().mean().item() == pytest.approx(0.007, abs=0.003)
    assert not hit[:, 99].any()
    lengths = hit[rows].sum(dim=1)
    assert (lengths.min(), lengths.max()) == (2, 32)


def test_what_is_erased_is_one_block():
    hit = erased(500, 100, probability=1.0, shortest=0.02, longest=0.33, generator=generator()).int()
    starts = (torch.diff(hit, dim=1, prepend=torch.zeros(500, 1)) == 1).sum(dim=1)
    assert (starts == 1).all()


def test_views_are_distinct_without_permutations():
    """The public code then gives the same tensor twice: its noise adds up and its block hits both views."""
    rows = torch.zeros(3000, 40)
    augmentation = Augmentation(permute=False, noise=0.05, erase=0.5)
    views, clean = augmentation.views(rows.repeat(2, 1), Permutations(layout_of((5, 8)), CPU), generator())
    first, second = views.unflatten(0, (2, -1))
    assert torch.equal(clean, rows.repeat(2, 1))
    assert first[first != 0].std().item() == pytest.approx(0.05, rel=0.02)
    assert np.corrcoef(first.flatten(), second.flatten())[0, 1] == pytest.approx(0, abs=0.02)
    both = ((first == 0).any(dim=1) & (second == 0).any(dim=1)).float().mean().item()
    assert both == pytest.approx(0.25, abs=0.04)


def test_the_clean_view_is_permuted_but_not_erased():
    weights = torch.randn(200, TETRIS.size)
    views, clean = Augmentation(erase=1.0).views(weights, Permutations(TETRIS, CPU), generator())
    assert torch.equal(clean.sort(dim=1).values, weights.sort(dim=1).values)
    nonzero = views != 0
    assert torch.equal(views[nonzero], clean[nonzero])
    assert ((~nonzero).sum(dim=1) >= 2).all()


def test_the_same_generator_gives_the_same_views():
    weights, permutations = torch.randn(20, TETRIS.size), Permutations(TETRIS, CPU)
    actual = [Augmentation(noise=0.1).views(weights, permutations, generator(4))[0] for _ in range(2)]
    assert torch.equal(*actual)


def test_a_network_without_hidden_units_is_left_as_it_is():
    layout = layout_of((3, 4))
    weights = torch.randn(2, layout.size)
    assert torch.equal(Permutations(layout, CPU).apply(weights, generator()), weights)


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_of_any_layers_of_the_grammar_are_reordered_as_the_layout_says(name):
    layout = network(Layers.model_validate(architecture(name)), NETWORKS[name][2], 10).layout
    if not layout.symmetries:
        pytest.skip("nothing can be reordered")
    permutations = Permutations(layout, torch.device("cpu"))
    orders = permutations.orders(3, torch.Generator().manual_seed(0))
    index = permutations.index(orders).numpy()
    for row in range(3):
        row_orders = {layer: order[row].numpy() for layer, order in orders.items()}
        np.testing.assert_array_equal(index[row], layout.permutation(row_orders))
