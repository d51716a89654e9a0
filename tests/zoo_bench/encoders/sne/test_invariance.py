import dataclasses

import numpy as np
import pytest
import torch

from tests.grammar_networks import NETWORKS, architecture, inputs_of
from tests.zoo_bench.encoders.layouts import CNN, DEEP_CNN, INR, PLAIN
from zoo_bench.encoders.sne.encoder import invariance
from zoo_bench.encoders.sne.invariance import Permuter, has_signs
from zoo_gen.architecture import registry
from zoo_gen.architecture.layout import Move, Parameter, ParameterLayout, Symmetry
from zoo_gen.errors import ZooError

LAYOUTS = [CNN, DEEP_CNN, INR, PLAIN]
CPU = torch.device("cpu")


def draw(layouts, which, *, seed=0):
    """Permute networks whose numbers are their own positions, so that the result is the index that was applied."""
    permuter = Permuter(layouts, CPU)
    sizes = [layouts[i].size for i in which]
    numbers = torch.cat([torch.arange(size) for size in sizes])
    offsets = torch.tensor(np.cumsum([0, *sizes[:-1]]))
    actual, starts = permuter.draw(np.array(which), numbers, offsets, torch.Generator().manual_seed(seed))
    return [actual[start : start + size].numpy() for start, size in zip(starts.tolist(), sizes, strict=True)]


def test_what_is_drawn_is_a_permutation_that_the_layout_knows():
    which = [1, 0, 2, 3, 1]
    for i, index in zip(which, draw(LAYOUTS, which), strict=True):
        layout = LAYOUTS[i]
        positions = layout.split(index)
        orders = {}
        for symmetry in layout.symmetries:
            (weight,) = (parameter for parameter in layout.parameters if parameter.name == f"{symmetry.layer}.weight")
            rows = positions[weight.name].reshape(symmetry.size, -1)
            orders[symmetry.layer] = (rows[:, 0] - weight.start) // (weight.size // symmetry.size)
        np.testing.assert_array_equal(index, layout.permutation(orders))


def test_every_network_of_a_batch_gets_an_order_of_its_own_that_the_generator_decides():
    first, again, other = (draw([CNN], [0] * 4, seed=seed) for seed in (0, 0, 1))
    assert len({index.tobytes() for index in first}) == 4
    np.testing.assert_array_equal(first, again)
    assert (np.array(first) != np.array(other)).any()


def test_all_orders_are_equally_likely():
    """Of three units there are six orders; 6,000 draws give each about 1,000 times (standard deviation 29)."""
    from tests.zoo_bench.encoders.layouts import layout_of

    actual = draw([layout_of((3, 2), (1, 3))], [0] * 6000)
    _, counts = np.unique(np.array(actual), axis=0, return_counts=True)
    assert len(counts) == 6
    assert abs(counts - 1000).max() < 150


def test_flattened_channels_move_in_blocks_and_the_function_stays():
    """A convolution, flattened, and a linear layer, on random images: the outputs of both networks are equal."""
    torch.manual_seed(0)
    weights = torch.randn(DEEP_CNN.size)
    (index,) = draw([DEEP_CNN], [0])

    def outputs(flat):
        parameters = {name: torch.from_numpy(array) for name, array in DEEP_CNN.split(flat.numpy()).items()}
        x = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        for name in ("convolution1", "convolution2"):
            x = torch.conv2d(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"]).tanh()
        for name in ("linear1", "linear2"):
            x = (x.flatten(1) @ parameters[f"{name}.weight"].T + parameters[f"{name}.bias"]).tanh()
        return x

    torch.testing.assert_close(outputs(weights[torch.from_numpy(index)]), outputs(weights), rtol=1e-4, atol=1e-5)
    assert (index != np.arange(DEEP_CNN.size)).mean() > 0.5


def outputs_of_sirens(flat):
    parameters = {name: torch.from_numpy(array) for name, array in INR.split(flat.numpy()).items()}
    x = torch.linspace(-1, 1, 50)[:, None]
    for name in ("linear1", "linear2"):
        x = torch.sin(30 * (x @ parameters[f"{name}.weight"].T + parameters[f"{name}.bias"]))
    return x @ parameters["linear3.weight"].T + parameters["linear3.bias"]


def test_negated_hidden_units_leave_the_function_and_half_of_them_are():
    torch.manual_seed(0)
    weights = 0.1 * torch.randn(64, INR.size)
    offsets = INR.size * torch.arange(64)
    actual, starts = Permuter([INR], CPU).flip(
        np.zeros(64, np.int64), weights.flatten(), offsets, torch.Generator().manual_seed(0)
    )
    flipped = torch.stack([actual[start : start + INR.size] for start in starts.tolist()])
    for before, after in zip(weights[:8], flipped[:8], strict=True):
        torch.testing.assert_close(outputs_of_sirens(after), outputs_of_sirens(before), rtol=1e-4, atol=1e-5)
    assert torch.equal(flipped.abs(), weights.abs())
    first, _, middle, _, _, last_bias = (p.start for p in INR.parameters)
    signs = torch.sign(flipped / weights)
    assert len(torch.unique(signs[:, first : first + 8], dim=0)) > 50  # every network and unit on its own
    assert abs((signs[:, first : first + 8] < 0).float().mean() - 0.5) < 0.08
    assert abs((signs[:, middle : middle + 64] < 0).float().mean() - 0.5) < 0.08
    assert (signs[:, last_bias] == 1).all()


def test_a_batch_of_several_architectures_is_flipped_network_by_network():
    which = np.array([1, 0, 2, 1])
    sizes = [LAYOUTS[i].size for i in which]
    numbers = torch.cat([torch.arange(1.0, size + 1) for size in sizes])
    offsets = torch.tensor(np.cumsum([0, *sizes[:-1]]))
    actual, starts = Permuter(LAYOUTS, CPU).flip(which, numbers, offsets, torch.Generator().manual_seed(0))
    assert torch.equal(actual.abs(), numbers)
    assert torch.equal(starts, offsets)
    negated = [actual[start : start + size] < 0 for start, size in zip(starts.tolist(), sizes, strict=True)]
    assert all(flags.any() and not flags.all() for flags in negated)
    assert not torch.equal(negated[0], negated[3])  # two of one architecture


def test_behind_a_normalisation_there_are_no_signs_to_change():
    normalized = dataclasses.replace(CNN, parameters=(*CNN.parameters, Parameter("norm1", "weight", (8,), CNN.size)))
    assert has_signs([CNN, INR])
    assert not has_signs([CNN, normalized])
    assert not has_signs([dataclasses.replace(CNN, symmetries=())])


def test_the_penalty_is_half_the_mean_squared_difference():
    assert invariance(torch.tensor([1.0, 2.0]), torch.tensor([3.0, -3.0])) == pytest.approx((0.5 * 4 + 0.5 * 25) / 2)


def test_two_sets_of_units_on_one_axis_are_refused():
    """One of them would be forgotten."""
    moves = [(Move("own.weight", 0, block),) for block in (4, 1)]
    symmetries = (Symmetry("heads", 3, moves[0]), Symmetry("rows", 12, moves[1]))
    with pytest.raises(ZooError, match=r"units of rows share axis 0 of own.weight with others"):
        Permuter([ParameterLayout((Parameter("own", "weight", (12, 4), 0),), symmetries)], CPU)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_drawn_order_of_any_layers_of_the_grammar_leaves_the_function_as_it_was(name):
    drawn_network = registry.network(registry.Layers.model_validate(architecture(name)), NETWORKS[name][2], 10)
    if not drawn_network.layout.symmetries:
        pytest.skip("nothing can be reordered")
    module = drawn_network.module(activation="tanh").eval()
    weights = torch.nn.utils.parameters_to_vector(module.parameters()).detach()
    weights += torch.randn(weights.shape, generator=torch.Generator().manual_seed(0)) / 4
    (index,) = draw([drawn_network.layout], [0])
    inputs = inputs_of(NETWORKS[name][2], 8)
    outputs = []
    for each in (weights, weights[torch.from_numpy(index)]):
        torch.nn.utils.vector_to_parameters(each, module.parameters())
        with torch.no_grad():
            outputs.append(module(inputs))
    assert (index != np.arange(len(index))).any()
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-4)
