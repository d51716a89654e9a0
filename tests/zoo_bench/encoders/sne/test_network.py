"""SNE against a plain loop over networks, layers, tensors and chunks; padding, batches, gradients and invariances."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.zoo_bench.encoders.layouts import CNN, DEEP_CNN, INR, PLAIN, layout_of
from tests.zoo_bench.encoders.sne import plain
from zoo_bench.encoders.sne import batches
from zoo_bench.encoders.sne.batches import Planner
from zoo_bench.encoders.sne.network import SNENetwork, sinusoid
from zoo_bench.encoders.sne.settings import Settings

LAYOUTS = (CNN, DEEP_CNN, INR, PLAIN)
SMALL = Settings(width=16, heads=4, head_width=8)
OPTIONS = [
    {},
    {"pos": "rowcol"},
    {"pos": "boundary"},
    {"conv_tokens": "kernels"},
    {"conv_tokens": "kernels", "pos": "boundary", "log_feature": True},
    {"head_norm": False},
    {"linear_path": False, "type_code": "none"},
    {"hierarchy": False, "level": "none"},
]
PRE_NORM = {"norm": "pre"}  # whose first layer norm of numbers is read by nobody


def networks_of(layouts, *, seed=0):
    """Return the numbers and offsets of networks of some layouts, with weights as networks have them."""
    random = np.random.RandomState(seed)
    rows = [torch.tensor(random.standard_normal(layout.size) * 0.3, dtype=torch.float32) for layout in layouts]
    offsets = torch.tensor(np.cumsum([0, *(len(row) for row in rows[:-1])]))
    return rows, torch.cat(rows), offsets


def make(settings, *, chunk=4, kernel=5, seed=1, layouts=LAYOUTS):
    torch.manual_seed(seed)
    network = SNENetwork(settings, kernel=kernel, scale=1.0).eval()
    return network, Planner(layouts, settings, chunk=chunk, kernel=kernel, device=torch.device("cpu"))


@torch.no_grad()
def encode(settings, rows, which, *, chunk=4, **options):
    """Encode networks, each given by its numbers and the number of its layout, as one batch."""
    network, planner = make(settings, chunk=chunk, **options)
    offsets = torch.tensor(np.cumsum([0, *(len(row) for row in rows[:-1])]))
    return network(planner.plan(np.array(which)), torch.cat(rows), offsets)


@pytest.mark.parametrize("chunk", [3, 4, 16])
@pytest.mark.parametrize("linear_path", [True, False])
def test_a_mixed_batch_equals_the_plain_loop(chunk, linear_path):
    settings = replace(SMALL, linear_path=linear_path)
    network, planner = make(settings, chunk=chunk)
    which = [1, 0, 2, 3, 0, 2]
    rows, numbers, offsets = networks_of([LAYOUTS[i] for i in which])
    embeddings, logits = network(planner.plan(np.array(which)), numbers, offsets)
    for i, row, embedding, logit in zip(which, rows, embeddings, logits, strict=True):
        expected = plain.encode(network, LAYOUTS[i], row, chunk=chunk)
        torch.testing.assert_close(embedding, expected[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(logit, expected[1], rtol=1e-4, atol=1e-5)


def test_gradients_equal_those_of_the_plain_loop():
    network, planner = make(SMALL)
    rows, numbers, offsets = networks_of([CNN, INR])
    network(planner.plan(np.array([0, 2])), numbers, offsets)[1].sum().backward()
    actual = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}
    network.zero_grad()
    sum(plain.encode(network, lay, row, chunk=4)[1] for lay, row in zip((CNN, INR), rows, strict=True)).backward()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(actual[name], parameter.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("options", [*OPTIONS, PRE_NORM], ids=str)
def test_a_batch_of_mixed_architectures_equals_its_networks_alone(options):
    settings = replace(SMALL, **options)
    which = [3, 1, 0, 2, 1, 0]
    rows, _, _ = networks_of([LAYOUTS[i] for i in which])
    together = encode(settings, rows, which)
    for number, i in enumerate(which):
        alone = encode(settings, [rows[number]], [i])
        torch.testing.assert_close(together[0][number], alone[0][0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together[1][number], alone[1][0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [*OPTIONS, PRE_NORM], ids=str)
def test_padding_never_changes_an_encoding(options, monkeypatch):
    settings = replace(SMALL, **options)
    which = [0, 1, 2, 3]
    rows, _, _ = networks_of([LAYOUTS[i] for i in which])
    expected = encode(settings, rows, which)

    def padded(sizes):
        return {size: int(max(sizes)) + 5 for size in np.unique(sizes).tolist()}

    monkeypatch.setattr(batches, "padded_lengths", padded)
    actual = encode(settings, rows, which)
    torch.testing.assert_close(actual[0], expected[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients_reach_every_parameter(options):
    settings = replace(SMALL, **options)
    network, planner = make(settings)
    torch.nn.init.normal_(network.head[-1].weight)  # which begins at zero, so that untrained networks predict the mean
    which = np.array([0, 1, 2, 3, 1])
    _, numbers, offsets = networks_of([LAYOUTS[i] for i in which])
    embeddings, logits = network(planner.plan(which), numbers, offsets)
    (embeddings.square().sum() + logits.sum()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_sizes_that_make_up_a_zoo_are_not_padded():
    actual = batches.padded_lengths(np.array([144] * 33 + [16] * 13 + [10, 9, 1]))
    assert actual == {144: 144, 16: 16, 10: 16, 9: 16, 1: 1}


def permuted(layout, row, *, seed=3):
    random = np.random.RandomState(seed)
    orders = {symmetry.layer: random.permutation(symmetry.size) for symmetry in layout.symmetries}
    return row[torch.from_numpy(layout.permutation(orders))]


def shuffled_in_rows(layout, row, name):
    """Shuffle the inputs inside each row of a weight, each row by itself: another function."""
    (parameter,) = (each for each in layout.parameters if each.name == name)
    random = np.random.RandomState(4)
    index = np.arange(parameter.size).reshape(parameter.shape)
    index = np.stack([line[random.permutation(len(line))] for line in index])
    moved = row.clone()
    moved[parameter.start : parameter.stop] = row[parameter.start : parameter.stop][torch.from_numpy(index.ravel())]
    return moved


@torch.no_grad()
def gaps(settings, layout, rows, chunk):
    """Return the distance of the embedding of each network from the first one's, in float64."""
    network, planner = make(settings, chunk=chunk, layouts=[layout])
    offsets = torch.arange(len(rows)) * layout.size
    actual, _ = network.double()(planner.plan(np.zeros(len(rows), dtype=int)), torch.cat(rows).double(), offsets)
    return [float((embedding - actual[0]).norm()) for embedding in actual[1:]]


def moves(settings, layout, chunk):
    """Return the distances to a valid reordering, to a wrong one, and to another network."""
    (row,), _, _ = networks_of([layout])
    (other,), _, _ = networks_of([layout], seed=9)
    wrong = shuffled_in_rows(layout, row, layout.layers[1] + ".weight")
    return gaps(settings, layout, [row, permuted(layout, row), wrong, other], chunk)


SIREN = layout_of((32, 1), (32, 32), (1, 32))
ROUNDING = 1e-12


def test_row_aligned_chunks_without_index_codes_ignore_hidden_order_and_wrong_moves_alike():
    valid, wrong, other = moves(SMALL, SIREN, 32)
    assert valid < ROUNDING
    assert wrong < ROUNDING
    assert other > 1e6 * ROUNDING


def test_in_float32_row_aligned_chunks_move_the_output_by_less_than_1e_5():
    (row,), _, _ = networks_of([SIREN])
    _, logits = encode(SMALL, [row, permuted(SIREN, row)], [0, 0], chunk=32, layouts=[SIREN])
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=1e-5)


def test_half_rows_see_a_valid_reordering_but_no_shuffle_that_stays_inside_them():
    valid, wrong, _ = moves(SMALL, SIREN, 16)
    assert valid > 1e6 * ROUNDING
    assert wrong > 1e6 * ROUNDING  # it moves numbers from one half of a row to the other
    (row,), _, _ = networks_of([SIREN])
    inside = row.clone()
    start = SIREN.parameters[2].start
    inside[start : start + 16] = row[start : start + 16].flip(0)
    assert gaps(SMALL, SIREN, [row, inside], 16)[0] < ROUNDING


def test_index_codes_break_the_invariance():
    valid, wrong, _ = moves(replace(SMALL, pos="rowcol"), SIREN, 32)
    assert valid > 1e6 * ROUNDING
    assert wrong > 1e6 * ROUNDING


@pytest.mark.parametrize("layout", [SIREN, CNN, DEEP_CNN, PLAIN], ids=lambda layout: str(layout.size))
@pytest.mark.parametrize("conv_tokens", ["scalars", "kernels"])
def test_boundary_codes_with_rows_keep_the_invariance_and_see_the_order_of_classes_and_inputs(layout, conv_tokens):
    settings = replace(SMALL, pos="boundary", conv_tokens=conv_tokens)
    (row,), _, _ = networks_of([layout])
    ends = []
    for name, axis in ((layout.layers[-1], 0), (layout.layers[0], 1)):
        moved = row.clone()
        for parameter in layout.parameters:
            if parameter.layer == name and len(parameter.shape) > axis:
                part = row[parameter.start : parameter.stop].reshape(parameter.shape)
                moved[parameter.start : parameter.stop] = part.flip(axis).reshape(-1)
        ends.append(moved)
    valid, classes, inputs = gaps(settings, layout, [row, permuted(layout, row), *ends], "row")
    assert valid < ROUNDING
    assert (classes > 1e4 * ROUNDING) == (layout.parameters[-1].shape[0] > 1)
    assert (inputs > 1e4 * ROUNDING) == (layout.parameters[0].shape[1] > 1)


@pytest.mark.parametrize(("pos", "collides"), [("none", True), ("rowcol", False)])
def test_chunks_that_change_places_collide_without_codes_and_part_with_them(pos, collides):
    """Swapping whole chunks of a layer is another network, which the printed encoder cannot tell apart."""
    (row,), _, _ = networks_of([PLAIN])
    moved = row.clone()
    moved[:16], moved[16:32] = row[16:32], row[:16]
    (gap,) = gaps(replace(SMALL, pos=pos), PLAIN, [row, moved], 16)
    assert (gap < ROUNDING) == collides


def test_sinusoids_of_a_convolution_at_level_one_and_a_linear_layer_at_level_zero_collide():
    """A trap of adding two codes of small numbers."""
    types, levels = sinusoid(torch.tensor([0, 1]), 16), sinusoid(torch.tensor([1, 0]), 16)
    first, second = types + levels
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("layout", [SIREN, CNN], ids=lambda layout: str(layout.size))
def test_embeddings_of_different_networks_differ_far_more_than_with_the_initial_weights_of_torch(layout):
    network, planner = make(replace(SMALL, width=32), chunk=16, layouts=[layout])
    rows = [networks_of([layout], seed=seed)[0][0] for seed in range(40)]
    plan, offsets = planner.plan(np.zeros(40, dtype=int)), torch.arange(40) * layout.size

    @torch.no_grad()
    def share():
        embeddings, _ = network(plan, torch.cat(rows), offsets)
        return float(embeddings.std(dim=0).norm() / embeddings.norm(dim=1).mean())

    ours = share()
    for module in network.modules():
        if isinstance(module, torch.nn.Linear):
            module.reset_parameters()
        elif hasattr(module, "seed"):
            torch.nn.init.xavier_uniform_(module.seed.data)
    assert ours > 10 * share()


def test_a_larger_kernel_than_was_fitted_is_refused():
    from zoo_gen.errors import ZooError

    with pytest.raises(ZooError, match=r"kernels of 5 x 5, but .* at most 3 x 3; expected conv_tokens = 'scalars'"):
        make(replace(SMALL, conv_tokens="kernels"), kernel=3)


def test_noise_scales_each_number_that_training_reads_and_none_that_evaluation_reads():
    network, planner = make(replace(SMALL, noise=0.2, conv_tokens="kernels"))
    _, numbers, offsets = networks_of([CNN, CNN, INR])
    plan, seen = planner.plan(np.array([0, 0, 2])), []
    for part in (network.numbers, network.kernels):
        part.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0].flatten()))

    def read(*, training):
        seen.clear()
        network.train(training)(plan, numbers, offsets)
        return torch.cat(seen)

    without_noise, first, second = read(training=False), read(training=True), read(training=True)
    assert torch.equal(read(training=False), without_noise)
    assert torch.equal(without_noise[without_noise != 0].sort().values, numbers.sort().values)
    assert (first[without_noise == 0] == 0).all()  # padding stays 0
    factors = torch.stack([part[without_noise != 0] / without_noise[without_noise != 0] for part in (first, second)])
    assert factors.mean().item() == pytest.approx(1, abs=0.02)
    assert factors.std(dim=1).tolist() == pytest.approx([0.2, 0.2], abs=0.02)
    assert abs(torch.corrcoef(factors)[0, 1]) < 0.1
